"""The one clock of the benchmarks."""

import time


def timed(work, repeats: int = 3):
    """The result, and the seconds of the best of a few runs: what the machine can do when left alone."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        taken.append(time.perf_counter() - start)
    return result, min(taken)
