"""What witnesses see: mutations of the code that made the stored tables, and a new name for all that is private.

    python tests/mutations.py

applies each to a copy of the library, runs the witnesses of all tables there, and prints which tables turn red; about
five minutes. Tests do the same for a few of them.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from tokenize import NAME, generate_tokens

import spectral_experiments
from spectral_dynamics import networks

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = "spectral_dynamics/networks"
SHARED, MLP, LINEAR, CLASSIFIER, FLOW, CURVATURE = (
    f"{NETWORKS}/{room}.py" for room in ("run", "mlp", "deep_linear", "classifier", "gradient_flow", "curvature")
)
MUTATIONS = {  # what it does: file, what stands there, what takes its place (once)
    "readout starts with deviation 1": (
        SHARED,
        "return [*hidden, problem.weight_std * rng.standard_normal(readout)]",
        "return [*hidden, rng.standard_normal(readout)]",
    ),
    "update over fan-out": (MLP, "(c / len(phi)) * (g @ phi.T)", "(c / len(g)) * (g @ phi.T)"),
    "readout stands still": (MLP, "c * features[-1] @ residual]", "0 * features[-1] @ residual]"),
    "derivative forgotten": (SHARED, "problem.phi_prime(preactivations[layer]) * z)", "z)"),
    "f(0) not subtracted": (
        MLP,
        "problem.residual(predictions[-1][batch], batch)",
        "problem.residual(f[batch], batch)",
    ),
    "loss averaged over outputs": (
        MLP,
        "problem.mean_loss(f - offset)",
        "problem.mean_loss(f - offset) / problem.outputs",
    ),
    "step over all samples": (MLP, "rate * scale / len(batch)", "rate * scale / problem.samples"),
    "directions of the least change": (
        SHARED,
        "svds(change, k=count, v0=fixed[:full])",
        "svds(change, k=count, v0=fixed[:full], which='SM')",
    ),
    "change not less the start": (
        SHARED,
        'initial", final - decay * initial)',
        'initial", final)',
    ),
    "width forgotten in beta": (LINEAR, "weights[0].T @ g[0] * np.sqrt(size / width) /", "weights[0].T @ g[0] /"),
    "noise forgotten": (LINEAR, "delta = inputs @ v / np.sqrt(size) + noise", "delta = inputs @ v / np.sqrt(size)"),
    "one sample less": (LINEAR, "count = max(1, round(ratio * size))", "count = max(1, round(ratio * size) - 1)"),
    "width forgotten in the step": (LINEAR, "problem.gamma * np.sqrt(len(h[0]) / len(g[0]))", "problem.gamma"),
    "decay without rate": (
        LINEAR,
        "parameter *= 1 - rate * problem.weight_decay",
        "parameter *= 1 - problem.weight_decay",
    ),
    "decay of momentum halved": (
        LINEAR,
        "velocity -= problem.weight_decay *",
        "velocity -= problem.weight_decay / 2 *",
    ),
    "tangent rates of equal layers": (CURVATURE, "*(square * size / width for square in", "*(square for square in"),
    "alignment not normalized": (CURVATURE, "float(y @ v / linalg.norm(v))", "float(y @ v)"),
    "kernel over dimension": (CURVATURE, "sampled.T @ sampled / len(inputs))", "sampled.T @ sampled / len(M))"),
    "classifier without momentum": (
        CLASSIFIER,
        "velocity *= dtype.type(problem.momentum)",
        "velocity *= dtype.type(0)",
    ),
    "residual a thousandth off": (CLASSIFIER, "residual[rows, labels] += 1\n", "residual[rows, labels] += 1.001\n"),
    "drive of the flow doubled": (FLOW, "return (drive - square", "return (2 * drive - square"),
    "readout flows at half speed": (FLOW, "(error @ hidden.T).ravel()]", "(error @ hidden.T).ravel() / 2]"),
    "integrator ten times finer": (FLOW, "rtol=accuracy, atol", "rtol=accuracy / 10, atol"),
    "divergence called earlier": (SHARED, "RUNAWAY = 1e6", "RUNAWAY = 1e2"),
    "cosines not normalized": (
        "spectral_experiments/wide.py",
        "direction * vector @ taken / np.linalg.norm(taken, axis=0)",
        "direction * vector @ taken",
    ),
    "a step too early": ("spectral_experiments/escape.py", "run.steps + 1)), 1) * c", "run.steps + 1)), 0) * c"),
    "another secant": (
        "spectral_experiments/edge.py",
        "below, slope, high = None, 0.4",
        "below, slope, high = None, 0.5",
    ),
    "one value less removed": (
        "spectral_experiments/real_tasks.py",
        "return min(2 * outputs,",
        "return min(outputs,",
    ),
    "alignment of the kernel alone": ("spectral_experiments/few_digits.py", "(y @ y * np", "(len(y) * len(y) * np"),
    "fewer control averages": ("spectral_experiments/widths.py", "np.mean(w**2) - STD**2", "np.mean(w) - STD**2"),
}

RUN = """
import importlib, json, sys
import spectral_dynamics
assert spectral_dynamics.__file__.startswith(sys.argv[1]), spectral_dynamics.__file__
red = []
for name in sys.argv[2:]:
    table = importlib.import_module(f"spectral_experiments.{name}").TABLE
    try:
        changed = table.changed_constants() + table.changed_witnesses()
    except Exception as error:
        changed = [repr(error)]
    red += [name] if changed else []
print(json.dumps(red))
"""


def copy(folder: Path) -> None:
    """Library and experiments, as packages side by side."""
    shutil.copytree(ROOT / "lib" / "spectral_dynamics", folder / "spectral_dynamics")
    shutil.copytree(ROOT / "experiments", folder / "spectral_experiments", ignore=shutil.ignore_patterns(".store"))


def red(folder: Path, tables) -> list[str]:
    """Which of the tables' witnesses do not come out as they are stored, by the code in a folder."""
    env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, str(folder), *tables],
        env=env, capture_output=True, text=True, check=True, cwd=folder,
    )  # fmt: skip
    return json.loads(done.stdout)


def mutated(name: str, folder: Path, tables) -> list[str]:
    """Which tables see one mutation; the copy is left as it was."""
    file, old, new = MUTATIONS[name]
    path = folder / file
    source = path.read_text(encoding="utf-8")
    if old not in source:
        raise ValueError(f"mutation {name!r} must replace what stands in {file}, {old!r} does not")
    path.write_text(source.replace(old, new, 1), encoding="utf-8")
    try:
        return red(folder, tables)
    finally:
        path.write_text(source, encoding="utf-8")


def rename(folder: Path) -> list[str]:
    """Gives all that is private in the networks another name, wherever it is used.

    That is functions, methods, classes and fields with an underscore, and what a room has for the others alone.
    """
    rooms = sorted((folder / NETWORKS).glob("*.py"))
    source = "\n".join(path.read_text(encoding="utf-8") for path in rooms)
    names = set(re.findall(r"^(?:def|class) (\w+)", source, re.M)) - set(networks.__all__)
    names -= set(re.findall(r"^ +def (\w+)", source, re.M))  # methods of the same name are public
    names |= set(re.findall(r"^ *(?:def |class |(?=\w+:))(_[A-Za-z]\w*)", source, re.M))
    for path in [*rooms, *(folder / "spectral_experiments").glob("*.py")]:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        mine = [one for one in generate_tokens(iter(lines).__next__) if one.type == NAME and one.string in names]
        for one in reversed(mine):
            row, end = one.end
            lines[row - 1] = f"{lines[row - 1][:end]}_renamed{lines[row - 1][end:]}"
        path.write_text("".join(lines), encoding="utf-8")
    return sorted(names)


def main() -> int:
    """Prints what each mutation turns red, and what the new names do."""
    without = {"transformer"}  # its own code trains it
    tables, unseen = [name for name in spectral_experiments.NAMES if name not in without], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        copy(folder)
        print("unchanged: red are", red(folder, tables) or "none", flush=True)
        for name in MUTATIONS:
            found = mutated(name, folder, tables)
            unseen += [] if found else [name]
            print(f"{name}: {', '.join(found) or 'NOT SEEN'}", flush=True)
        names = rename(folder)
        found = red(folder, tables)
        print(f"{len(names)} private names changed: red are {', '.join(found) or 'none'}")
    print(f"{len(MUTATIONS) - len(unseen)} of {len(MUTATIONS)} mutations seen")
    return int(bool(unseen or found))


if __name__ == "__main__":
    sys.exit(main())
