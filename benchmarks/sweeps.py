"""Sweeps: what it costs to keep a result, to hand a case to another process, and to ship it to a cluster.

    python benchmarks/sweeps.py

Prints, from one run on one machine: bytes of a case and of a result that is a network's record, pickled; seconds a
case for cases that do nothing, each with that result: one after the other, with two workers, and on a cluster of two
separate processes reached over the loopback, all of them kept on disk; the same when all of them are found there.
"""

import pickle
import tempfile
from contextlib import nullcontext
from pathlib import Path

import distributed
import joblib
import numpy as np
from _timer import timed
from spectral_dynamics import sweeps

CASES = [{"name": "tanh, two layers", "size": 1000, "seed": seed} for seed in range(300)]
LENGTH = 1000  # numbers of a result, as in experiments/wide.py


def nothing(name: str, size: int, seed: int) -> dict:
    return {"loss": np.full(25, float(seed)), "values": np.zeros(LENGTH)}


def shipped(how: str, place, workers: int) -> None:
    """Every repetition in a folder of its own; the first one starts the processes and is not counted."""
    with tempfile.TemporaryDirectory() as folder, place:
        sweeps.run(nothing, CASES[:10], store=Path(folder) / "start", workers=workers)
        stores = iter(Path(folder) / str(number) for number in range(3))
        _, seconds = timed(lambda: sweeps.run(nothing, CASES, store=next(stores), workers=workers))
        _, again = timed(lambda: sweeps.run(nothing, CASES, store=Path(folder) / "0", workers=workers))
    print(
        f"{how:27s} {1e3 * seconds / len(CASES):9.2f} ms a case {1e3 * again / len(CASES):9.2f} ms when kept",
        flush=True,
    )


def main() -> None:
    case, result = (len(pickle.dumps(one)) for one in (CASES[0], nothing(**CASES[0])))
    print(f"pickled: a case {case} bytes, a result {result} bytes")
    shipped("one after the other", nullcontext(), 1)
    shipped("two workers", nullcontext(), 2)
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        shipped("a cluster of two processes", joblib.parallel_config("dask"), 1)


if __name__ == "__main__":
    main()
