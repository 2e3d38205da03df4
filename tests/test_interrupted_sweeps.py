"""Sweeps that are killed, and sweeps on a cluster that loses a machine: the same results, to the last bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask
import distributed
import joblib
import numpy as np
import pytest
from joblib.externals.loky.backend import context
from spectral_dynamics import sweeps

HERE = Path(__file__).resolve().parent


def walk(seed):
    """A case that takes some milliseconds; those that come too early for a sweep that is to be killed never end."""
    if seed >= int(os.environ.get("HELD_FROM", "1000")):
        signal.pause()
    rng = np.random.default_rng(seed)
    return {"seed": seed, "values": np.linalg.svd(rng.standard_normal((60, 60)), compute_uv=False)}


CASES = [{"seed": seed} for seed in range(120)]


def same(results, others):
    pairs = list(zip(results, others, strict=True))
    return all(one["seed"] == two["seed"] and np.array_equal(one["values"], two["values"]) for one, two in pairs)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return sweeps.run(walk, CASES, store=tmp_path_factory.mktemp("undisturbed"))


def entries(store):
    return [path for path in store.iterdir() if path.suffix != ".part"]


def kill_in_mid_sweep(store, waits):
    """The sweep, in a process group of its own, once for each of `waits`: killed so long after its first new result.

    In a process of its own, with a single thread, so that it and the workers can be forked and start at once.
    """
    context.set_start_method("fork", force=True)
    for number, wait in enumerate(waits, start=1):
        os.environ["HELD_FROM"] = str(10 * number)
        before, child = len(entries(store)), os.fork()
        if child == 0:
            os.setpgid(0, 0)
            sweeps.run(walk, CASES, store=store, workers=2)
            os._exit(0)
        patience = time.monotonic() + 60
        while len(entries(store)) == before and time.monotonic() < patience:
            time.sleep(0.001)
        time.sleep(wait)
        os.killpg(child, signal.SIGKILL)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        if len(entries(store)) == before:
            sys.exit("no result was kept")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs process groups and fork")
def test_a_sweep_killed_at_ten_random_moments_goes_on_to_the_same_results(tmp_path, undisturbed):
    """Workers included."""
    waits = np.random.default_rng().uniform(0, 0.04, 10).tolist()
    call = f"import test_interrupted_sweeps as t; t.kill_in_mid_sweep(t.Path({str(tmp_path)!r}), {waits})"
    inside = os.environ | {"JOBLIB_TEMP_FOLDER": str(tmp_path.parent)}  # what killed workers leave behind
    ended = subprocess.run(
        [sys.executable, "-c", call], cwd=HERE, env=inside, capture_output=True, text=True, timeout=200
    )
    assert ended.stdout.split() == [str(-signal.SIGKILL)] * 10, ended.stderr
    there = {path: path.stat().st_mtime_ns for path in entries(tmp_path)}
    assert 10 <= len(there) <= 100
    assert same(sweeps.run(walk, CASES, store=tmp_path), undisturbed)
    assert len(entries(tmp_path)) == len(CASES)
    assert all(path.stat().st_mtime_ns == before for path, before in there.items())


def fatal(seed, once):
    """`walk`, which kills the process that it runs in, the first time it comes to a certain case."""
    if seed == 30 and not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return walk(seed)


def deadly(seed):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_cluster_that_loses_a_machine_in_mid_sweep_loses_nothing(tmp_path, undisturbed):
    once, options = tmp_path / "once", {"dashboard_address": None, "host": "127.0.0.1", "silence_logs": "CRITICAL"}
    chosen = [{**case, "once": once} for case in CASES]
    forked = {"distributed.worker.multiprocessing-method": "forkserver"}  # so that a new worker starts at once
    with (
        dask.config.set(forked),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **options) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        started = {worker.pid for worker in cluster.workers.values()}
        results = sweeps.run(fatal, chosen, store=tmp_path / "store")
        (never,) = sweeps.run(deadly, CASES[:1], store=tmp_path / "deadly", errors="return")
    assert isinstance(never, distributed.KilledWorker)  # and not an endless wait
    assert once.exists() and len(started) == 2 and os.getpid() not in started
    assert same(results, undisturbed) and len(entries(tmp_path / "store")) == len(CASES)
    assert same(sweeps.run(fatal, chosen, store=tmp_path / "store"), undisturbed)
