"""What rounding must not choose: tests and chapters on the arithmetic of other processors, and with more threads.

OpenBLAS, which numpy and scipy bring along, has a kernel for every family of processors; each adds in another order.
numpy has loops of its own for wider registers, whose exp may differ in the last bit; what the family has not is
withheld from it, too.
Every row of the table that this prints is a run in processes of its own, compared with the same stored results.

    python tools/make.py kernels                           solvers, networks and the chapters that sample
    python tools/make.py kernels --kernels own Prescott --threads 1 2 --whole      all of `make test`
    python tools/make.py kernels --tests test_mlp --chapters kernels bulk
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache

import environment
from rerun import rerun

import chapters

ROOT = environment.ROOT
KERNELS = {  # what a processor must have to run each
    "own": (),
    "Prescott": ("SSE3",),
    "Nehalem": ("SSE42",),
    "Sandybridge": ("AVX",),
    "Haswell": ("AVX2", "FMA3"),
    "Zen": ("AVX2", "FMA3"),
    "SkylakeX": ("AVX512_SKX",),
}
ALIASES = {"Prescott": "Katmai", "Zen": "Haswell"}  # the names that OpenBLAS reports for these
LOOPS = {"own": "", "SkylakeX": "", "Haswell": "X86_V4|AVX512", "Zen": "X86_V4|AVX512"}  # withheld; of others V3 too
CI = [("Nehalem", 1), ("Haswell", 1), ("Haswell", 2)]  # kernel and threads
TESTS = ["test_mlp", "test_deep_linear", "test_least_squares", "test_networks", "test_classifiers", "test_own_rates"]
SAMPLES = re.compile(r"\b(mlp\.solve|networks\.\w+|default_rng|sweeps\.\w+)\(")
SOLVES = re.compile(r"\bmlp\.solve\(")

PROBE = """
import json, numpy, scipy.linalg, threadpoolctl
from numpy._core._multiarray_umath import __cpu_dispatch__ as loops, __cpu_features__ as features
libraries = [i for i in threadpoolctl.threadpool_info() if i["internal_api"] == "openblas"]
print(json.dumps({"features": [k for k, v in features.items() if v],
                  "loops": [k for k in loops if features[k]],
                  "taken": [i.get("architecture") for i in libraries],
                  "threads": [i["num_threads"] for i in libraries]}))
"""


@dataclass(frozen=True)
class Row:
    """One run: `what` was run on which kernel, and how it went."""

    kernel: str
    threads: int
    what: str
    passed: int
    failed: int
    seconds: float

    def __str__(self) -> str:
        verdict = f"{self.passed:>7} {self.failed:>7} {self.seconds:>8.0f}"
        return f"{self.kernel:<12} {self.threads:>7}  {self.what:<9} {verdict}"


HEAD = f"{'kernel':<12} {'threads':>7}  {'what':<9} {'passed':>7} {'failed':>7} {'seconds':>8}"


def variables(kernel: str, threads: int) -> dict[str, str]:
    """What makes a process compute as on this kernel's processors, with so many threads."""
    chosen = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    if kernel == "own":
        return chosen
    withheld = LOOPS.get(kernel, "X86_V|AVX512")
    loops = [name for name in probe()["loops"] if withheld and re.match(withheld, name)]
    return {**chosen, "OPENBLAS_CORETYPE": kernel, "NPY_DISABLE_CPU_FEATURES": " ".join(loops)}


@cache
def probe(kernel: str = "own", threads: int = 1) -> dict:
    """What OpenBLAS makes of it, asked in a process of its own: the kernels and threads really taken."""
    inside = {**environment.child(sys.executable), **variables(kernel, threads)}
    answer = subprocess.run([sys.executable, "-c", PROBE], env=inside, check=True, capture_output=True, text=True)
    return json.loads(answer.stdout)


def lacking(kernel: str, threads: int, features: list[str]) -> str:
    """Why a kernel cannot be run on this machine; empty when it can."""
    missing = [feature for feature in KERNELS[kernel] if feature not in features]
    if missing:  # not asked of OpenBLAS, which would try, and die of an illegal instruction
        return f"the processor has no {' and no '.join(missing)}"
    found = probe(kernel, threads)
    if kernel != "own" and set(found["taken"]) != {ALIASES.get(kernel, kernel)}:
        return f"OpenBLAS took {', '.join(map(str, found['taken'])) or 'no kernel'} instead"
    if set(found["threads"]) != {threads}:
        return f"OpenBLAS runs {found['threads']} threads"
    return ""


def samplers(kernel: str, threads: int, runs: list) -> list[str]:
    """The chapters that draw random numbers or train networks; the others do exact arithmetic.

    With more threads, when a process has all cores to itself, those that solve for networks by sampling sites. A
    kernel that has a run with more threads has these there, and not once more with one.
    """
    texts = {path.stem: chapters.code(path) for path in chapters.notebooks()}
    solvers = [name for name, text in texts.items() if SOLVES.search(text)]
    if threads > 1:
        return solvers
    elsewhere = solvers if threaded(kernel, threads, runs) else []
    return [name for name, text in texts.items() if SAMPLES.search(text) and name not in elsewhere]


def threaded(kernel: str, threads: int, runs: list) -> bool:
    """Whether this kernel also has a run with more threads, in which solvers and tests are then run."""
    return any(k == kernel and n > threads for k, n in runs)


def counted(text: str) -> tuple[int, int]:
    """Passed and failed (errors included) in what pytest printed, over all its summaries."""
    passed = sum(map(int, re.findall(r"(\d+) passed", text)))
    return passed, sum(map(int, re.findall(r"(\d+) (?:failed|error)", text)))


def run(kernel: str, threads: int, what: str, options: argparse.Namespace) -> Row:
    """Run the unit tests, the chapters or all of `make test`; the output is shown when something failed."""
    for name in ("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES"):
        os.environ.pop(name, None)
    os.environ.update(variables(kernel, threads))
    # Threads that wait for each other's core take ten times as long.
    workers = max(1, (os.cpu_count() or 1) // threads)
    os.environ["PYTEST_XDIST_AUTO_NUM_WORKERS"] = str(workers)
    started = time.perf_counter()
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8", "errors": "replace"}
    if what == "chapters":
        named = samplers(kernel, threads, options.runs) if options.chapters is None else options.chapters
        result = rerun(named, options=["-rf"], **piped)
    else:
        inside = environment.child(sys.executable, backend="agg")
        tests = [f"tests/{name.removesuffix('.py')}.py" for name in options.tests]
        tests = ["-m", "pytest", *tests, "-n", "auto", "--maxprocesses", "4", "-q", "-rf"]
        command = ["tools/suite.py", "--to-the-end"] if what == "make test" else tests
        result = subprocess.run([sys.executable, *command], cwd=ROOT, env=inside, **piped)
    passed, failed = counted(result.stdout)
    if result.returncode:
        print(f"\n{kernel}, {threads} threads, {what}:\n{result.stdout[-20000:]}", flush=True)
        failed = max(failed, 1)
    return Row(kernel, threads, what, passed, failed, time.perf_counter() - started)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", nargs="+", choices=KERNELS, help="default: what CI runs")
    parser.add_argument("--threads", nargs="+", type=int, default=[1], help="with each of the kernels")
    parser.add_argument("--tests", nargs="*", default=TESTS, help="files of tests/")
    parser.add_argument("--chapters", nargs="*", default=None, help="default: those that sample")
    parser.add_argument("--whole", action="store_true", help="all of `make test` instead")
    chosen = parser.parse_args()
    chosen.runs = [(k, n) for k in chosen.kernels for n in chosen.threads] if chosen.kernels else CI
    asked = (("tests", chosen.tests), ("chapters", chosen.chapters is None or chosen.chapters))
    chosen.whats = [what for what, any_of_it in asked if any_of_it]
    chosen.whats = ["make test"] if chosen.whole else chosen.whats
    return chosen


def main() -> int:
    chosen = options()
    features = probe()["features"]
    rows, skipped = [], []
    for kernel, threads in chosen.runs:
        reason = lacking(kernel, threads, features)
        if reason:
            skipped.append(f"{kernel:<12} {threads:>7}  skipped: {reason}")
            continue
        elsewhere = ["tests"] if threaded(kernel, threads, chosen.runs) and len(chosen.whats) > 1 else []
        for what in [what for what in chosen.whats if what not in elsewhere]:
            rows.append(run(kernel, threads, what, chosen))
            print(rows[-1], flush=True)
    print("\n".join(["", HEAD, *map(str, rows), *skipped]))
    return int(any(row.failed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
