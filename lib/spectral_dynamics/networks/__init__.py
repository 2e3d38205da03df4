"""Ground truth: trains real finite networks and records what the theory predicts. Imports nothing of the theory.

Matrices carry their 1/sqrt(fan-in): `Wbar = W/sqrt(fan-in)`. Features and gradients are columns, one for each
sample of each step's batch: first all samples of step 0, then those of step 1, and so on. In a deep linear network
the samples of a step act by their sum alone, which is one column.

A room for each kind of network: `mlp`, `deep_linear`, `classifier`, `least_squares`, `gradient_flow`. They stand on
`run`, what several of them share, and on `curvature`, and know nothing of each other; this is their door.
"""

import numpy as np

from .. import arguments, problems
from ..errors import ConvergenceError, DivergenceError
from ..progress import bar
from . import classifier, deep_linear, least_squares, mlp
from .classifier import ClassifierRun
from .curvature import MeasuredMode
from .deep_linear import DeepLinearRun
from .gradient_flow import FlowRun, flow
from .least_squares import LeastSquaresRun
from .mlp import MLPRun
from .run import RUNAWAY, Recording, directions, recorded_steps

__all__ = [
    "RUNAWAY",
    "ClassifierRun",
    "ConvergenceError",
    "DeepLinearRun",
    "DivergenceError",
    "FlowRun",
    "LeastSquaresRun",
    "MLPRun",
    "MeasuredMode",
    "Recording",
    "directions",
    "flow",
    "train",
]


def train(
    problem,
    *,
    size: int,
    steps: int,
    rng,
    record=None,
    record_fields=True,
    subtract_initial=False,
    dtype=np.float64,
    progress: bool | None = None,
):
    """Train one network of the given size and return what was recorded.

    `problem`: an `MLP` (then `size` is the width N, the result an `MLPRun`), a `DeepLinear` (`size` is the dimension
    D, N and P follow from the ratios, the result is a `DeepLinearRun`), a `Classifier` (`size` is the width N, the
    result a `ClassifierRun`) or `LeastSquares` (`size` is the dimension D, the result a `LeastSquaresRun`). `rng`: a
    seeded generator, used for the initial weights and, but for an `MLP`, the data. Options of all but `LeastSquares`:
    `record`, the steps whose weights are kept (0 always is; by default the last too). Of an `MLP` and a `DeepLinear`:
    `record_fields`, whether to keep the features and gradients of every step, which takes 16 steps |batch| N bytes
    for each layer (one column a step when the network is linear). Of an `MLP` alone: `subtract_initial`, whether to
    train f(t) - f(0) in place of f(t), since at finite width f(0) is of order 1/(gamma0 sqrt(N)) and not the 0 of the
    limit. Of a `Classifier` alone: `dtype`, the precision it is trained in, float64 or float32. `progress`: show a
    bar on standard error; by default only on a terminal, and only once a second has passed, so never in a notebook
    or a log.
    Raises ValueError, and DivergenceError with `.step` and `.partial` (the run so far) when the loss is not
    finite or exceeds 1e6 times its start.
    """
    size = arguments.whole("size", size, at_least=1)
    steps = arguments.whole("steps", steps)
    arguments.generator("rng", rng)
    room, options = _asked(problem, steps, record, record_fields, subtract_initial, dtype)
    with bar(f"{type(problem).__name__} of size {size}, {steps} steps", steps, progress) as ticks:
        return room.train(problem, size, steps, rng, ticks, **options)


def _asked(problem, steps: int, record, record_fields, subtract_initial, dtype):
    """The room of a kind of problem, and the options that are meant for it."""
    if isinstance(problem, problems.MLP):
        kept = {"record": recorded_steps(record, steps), "record_fields": bool(record_fields)}
        return mlp, kept | {"subtract_initial": bool(subtract_initial)}
    if subtract_initial:
        raise ValueError("subtract_initial is for a problems.MLP alone, it must be False")
    if isinstance(problem, problems.DeepLinear):
        return deep_linear, {"record": recorded_steps(record, steps), "record_fields": bool(record_fields)}
    if isinstance(problem, problems.Classifier):
        return classifier, {"record": recorded_steps(record, steps), "dtype": np.dtype(dtype)}
    if isinstance(problem, problems.LeastSquares):
        return least_squares, {}
    kinds = "problems.MLP, problems.DeepLinear, problems.Classifier or problems.LeastSquares"
    raise ValueError(f"problem must be a {kinds}, got {type(problem).__name__}")
