"""Infinitely wide networks, solved on the arithmetic of several processors: the same answer to 1e-8."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import environment  # noqa: E402
import kernels  # noqa: E402

SOLVED = """
import json
from dataclasses import replace
import numpy as np
from spectral_dynamics import dynamics, spectra
from spectral_dynamics.problems import MLP

def problem(samples, dimension, outputs, seed, batch=None, steps=12, **options):
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((samples, dimension))
    inputs[1] = -inputs[0]  # equals, up to a sign
    targets = np.where(rng.random((samples, outputs)) < 0.5, -1.0, 1.0)
    batches = batch and np.array([rng.choice(samples, batch, replace=False) for _ in range(steps)])
    return MLP(inputs, targets, batches=batches, **options)

problems = [
    problem(6, 20, 1, 0, depth=3, activation="tanh", output_scale=3.0, learning_rate=0.1),
    problem(9, 5, 2, 1, depth=2, activation="erf", output_scale=5.0, learning_rate=0.2),
    problem(8, 20, 1, 2, batch=3, depth=2, activation="relu", output_scale=5.0, weight_std=1.1, learning_rate=0.1),
    problem(9, 12, 1, 3, depth=2, output_scale=3.0, learning_rate=0.06, momentum=0.6, weight_decay=0.02),
]
labels = {"targets": np.arange(9) % 3, "loss": "cross_entropy", "learning_rate": 0.6, "momentum": 0.0}
problems.append(replace(problems[-1], **labels))
answers = []
for one in problems:
    theory = dynamics.mlp.solve(one, 12, sites=4000, rng=np.random.default_rng(3), tangent_steps=(12,))
    found = [spectra.outliers.outliers(theory.order(layer, 12)) for layer in range(1, one.depth)]
    parts = [theory.train_loss, theory.predictions, theory.kernels, theory.tangent_kernel(12)]
    parts += [part for each in found for part in (each.singular_values, each.right_alignment, each.left_alignment)]
    answers.append({"values": np.concatenate([np.ravel(part) for part in parts]).tolist(),
                    "calm": theory.parted is None, "outliers": sum(len(each.singular_values) for each in found)})
print(json.dumps(answers))
"""


@cache
def solved(kernel: str, threads: int = 1) -> list[dict]:
    inside = environment.child(sys.executable, backend="agg") | kernels.variables(kernel, threads)
    command = [sys.executable, "-c", SOLVED]
    return json.loads(subprocess.run(command, env=inside, check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize(
    "kernel, threads", [("Prescott", 1), ("Nehalem", 1), ("Sandybridge", 1), ("Haswell", 1), ("own", 2)]
)
def test_infinitely_wide_networks_are_the_same_on_every_processor(kernel, threads):
    if reason := kernels.lacking(kernel, threads, kernels.probe()["features"]):
        pytest.skip(f"{kernel}: {reason}")
    for here, there in zip(solved("own"), solved(kernel, threads), strict=True):
        assert here["calm"] and here["outliers"] == there["outliers"]
        np.testing.assert_allclose(there["values"], here["values"], rtol=0, atol=1e-8)


def test_these_networks_have_outliers():
    assert sum(one["outliers"] for one in solved("own")) >= 3
