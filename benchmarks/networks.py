"""Training: the library against a network written sample by sample, and the cost of each thing that can be recorded.

    python benchmarks/networks.py

Prints, from one run on one machine, seconds and ratios. Every ratio stands beside the largest difference of the two
results, so that only equal things are compared.
"""

import numpy as np
from _timer import timed
from spectral_dynamics import networks, problems
from spectral_dynamics.spectra import outliers

SAMPLES, INPUTS, STEPS = 100, 64, 5


def problem() -> problems.MLP:
    rng = np.random.default_rng(0)
    targets = np.eye(10)[rng.integers(0, 10, SAMPLES)]
    return problems.MLP(rng.standard_normal((SAMPLES, INPUTS)), targets, output_scale=4.0, learning_rate=0.3)


def sample_by_sample(width: int) -> np.ndarray:
    """Wbar^1 after training, from equations for one sample at a time and outer products: the naive reference."""
    task, rng = problem(), np.random.default_rng(1)
    W0, W1 = rng.standard_normal((width, INPUTS)), rng.standard_normal((width, width))
    w = rng.standard_normal((width, 10))
    rate = 0.3 * 4.0**2 * width
    for _ in range(STEPS):
        dW0, dW1, dw = np.zeros_like(W0), np.zeros_like(W1), np.zeros_like(w)
        for x, y in zip(task.inputs, task.targets, strict=True):
            h1 = W0 @ x / np.sqrt(INPUTS)
            h2 = W1 @ np.tanh(h1) / np.sqrt(width)
            Delta = y - w.T @ np.tanh(h2) / (4.0 * width)
            back2 = (1 - np.tanh(h2) ** 2) * (w @ Delta) / (4.0 * width)
            back1 = (1 - np.tanh(h1) ** 2) * (W1.T @ back2) / np.sqrt(width)
            dw += np.outer(np.tanh(h2), Delta) / (4.0 * width * SAMPLES)
            dW1 += np.outer(back2, np.tanh(h1)) / (np.sqrt(width) * SAMPLES)
            dW0 += np.outer(back1, x) / (np.sqrt(INPUTS) * SAMPLES)
        W0, W1, w = W0 + rate * dW0, W1 + rate * dW1, w + rate * dw
    return W1 / np.sqrt(width)


def train(width: int, **options) -> networks.MLPRun:
    return networks.train(problem(), size=width, steps=STEPS, rng=np.random.default_rng(1), **options)


def main() -> None:
    print("width   library [s]   naive/library   difference of Wbar^1   fields/none   all weights/last")
    for width in (250, 500, 1000):
        run, plain = timed(lambda width=width: train(width, record_fields=False))
        naive, slow = timed(lambda width=width: sample_by_sample(width), repeats=1)
        _, fields = timed(lambda width=width: train(width))
        _, every = timed(lambda width=width: train(width, record_fields=False, record=range(STEPS + 1)))
        gap = np.abs(run.weights(1, STEPS) - naive).max()
        ratios = f"{fields / plain:11.2f}   {every / plain:16.2f}"
        print(f"{width:5d}   {plain:11.3f}   {slow / plain:13.1f}   {gap:20.1e}   {ratios}")
    run, training = timed(lambda: train(1000, record_fields=False))
    _, spectrum = timed(lambda: run.singular_values(1, STEPS))
    recording, directions = timed(lambda: run.recording(1, STEPS, directions=20, matvecs=2))
    _, gram = timed(lambda: outliers.from_recording(recording, weight_variance=1.0))
    print(f"width 1000, one step of training takes {training / STEPS:.3f} s; in units of it:")
    print(f"all singular values {spectrum * STEPS / training:.1f}, twenty directions with images", end=" ")
    print(f"{directions * STEPS / training:.1f}, the Gram form {gram * STEPS / training:.1f}")


if __name__ == "__main__":
    main()
