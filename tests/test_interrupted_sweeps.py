"""Sweeps that are killed, and sweeps on a cluster that loses a machine: the same results, to the last bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
from spectral_dynamics import sweeps

HERE = Path(__file__).resolve().parent


def walk(seed):
    """A case that takes some milliseconds."""
    rng = np.random.default_rng(seed)
    total = np.zeros(40)
    for _ in range(40):
        total += np.linalg.svd(rng.standard_normal((40, 40)), compute_uv=False)
    return {"total": total, "seed": seed}


CASES = [{"seed": seed} for seed in range(60)]


def same(results, others):
    return all(one["seed"] == two["seed"] and np.array_equal(one["total"], two["total"])
               for one, two in zip(results, others, strict=True))


# Run as a script: the ten sweeps that are killed


def kept(store):
    return sum(path.suffix != ".part" for path in Path(store).iterdir())


def killed(store, waits):
    """Starts the sweep, in a process group of its own, once for each of `waits`; kills it so long after a new entry."""
    Path(store).mkdir(parents=True)
    for wait in waits:
        before, child = kept(store), os.fork()
        if child == 0:
            os.setpgid(0, 0)
            with joblib.parallel_config(sys.argv[2]):
                sweeps.run(walk, CASES, store=store, workers=2)
            os._exit(0)
        while kept(store) == before and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        time.sleep(wait)
        os.killpg(child, signal.SIGKILL)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), kept(store), flush=True)


if __name__ == "__main__":
    killed(sys.argv[1], [float(one) for one in sys.argv[3:]])
