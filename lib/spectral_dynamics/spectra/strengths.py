"""How strong a learned spike is, also while it is still inside the bulk."""

import numpy as np
import scipy.linalg

from .. import arguments
from ..dynamics.order import OrderParameters
from . import outliers

REAL = 1e-6  # an eigenvalue whose imaginary part is below this fraction of its modulus counts as real


def strength(order: OrderParameters, *, cutoff: float | None = None) -> float:
    """The largest real lambda of the eigenproblem in units of the threshold, outlier or not; 0 if none is real.

        lambda^2 = the eigenvalues of even @ odd,    strength = lambda/(sigma nu^{1/4})

    with the two matrices of `outliers.transfer`. Above 1 there is an outlier, at `outliers.location`; below it the
    spike is hidden in the bulk. `cutoff`: None for exact order parameters, which are taken as they are, since far
    below the threshold all may hang on a direction ten orders shorter than the longest; for sampled ones
    `order.cutoff`, the fraction of the largest eigenvalue of C_h and C_g below which directions are noise.
    Raises ValueError for anything but OrderParameters, or a cut-off outside (0, 1). Source: the eigenproblem of the
    chapter on spikes that remember the bulk.
    """
    if not isinstance(order, OrderParameters):
        raise ValueError(f"order must be OrderParameters, got {type(order).__name__}")
    tables = order.C_h, order.C_g, order.A, order.B, order.c
    if cutoff is not None:
        cutoff = arguments.fraction("cutoff", cutoff)
        (h, to_h), (g, to_g) = (outliers.leading(table, cutoff) for table in (order.C_h, order.C_g))
        lengths = to_h @ order.C_h @ to_h.T, to_g @ order.C_g @ to_g.T
        tables = *lengths, to_h @ order.A @ g, to_g @ order.B @ h, g.T @ order.c @ h
    odd, even = outliers.transfer(*tables, order.weight_variance, order.width_ratio)
    squares = scipy.linalg.eigvals(even @ odd)
    real = squares[np.abs(squares.imag) < REAL * np.abs(squares)].real
    threshold = order.weight_variance * np.sqrt(order.width_ratio)
    return float(np.sqrt(max(real.max(initial=0.0), 0.0) / threshold))
