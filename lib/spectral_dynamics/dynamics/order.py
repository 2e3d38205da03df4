"""The one thing that level one hands to level two."""

from dataclasses import dataclass, replace

import numpy as np

from .. import arguments


@dataclass(frozen=True)
class OrderParameters:
    """A random matrix and the directions it has learned, as order parameters.

        Wbar = decay Wbar(0) + (decay/sqrt(M N)) sum_{s,s'} c[s,s'] g(s) h(s')^T,   Wbar(0): M x N, variance s2/N

    with `width_ratio` nu = M/N, recorded gradients g(s) in R^M, features h(s) in R^N, and

        C_h = <h h^T>,  C_g = <g g^T>,  A = < d h(t)/d r(s) >,  B = < d g(t)/d u(s) > ,

    (K_h, K_h), (K_g, K_g), (K_h, K_g) and (K_g, K_h) over the records of both sides, c (K_g, K_h), `u(s)` the
    Gaussian part of `Wbar(0) h(s)`, `r(s)` that of `sqrt(N/M) Wbar(0)^T g(s)`, and `s2 = weight_variance`. For a
    square matrix (nu = 1) this is Wbar(0) + (1/N) g c h^T. `A = B = 0`: spikes that know nothing of the bulk.

    `cutoff`: eigenvalues of C_h and C_g below this fraction of the largest are not known, for rounding or, where
    they were sampled, for noise (see `share` for those just above). `replicas`: the same from separate samples, each
    in terms of a record of its own (this is one of them); () if exact.

    `features` (n, K_h) and `gradients` (m, K_g): vectors whose alignments are asked for, in terms of the recorded;
    those themselves if None. Raises ValueError for arrays of other shapes or not finite, correlations that are not
    symmetric and positive semi-definite, a variance, ratio or decay that is not above 0, a cut-off outside (0, 1),
    and replicas that are not OrderParameters.
    """

    C_h: np.ndarray
    C_g: np.ndarray
    A: np.ndarray
    B: np.ndarray
    c: np.ndarray
    weight_variance: float = 1.0
    width_ratio: float = 1.0
    decay: float = 1.0
    cutoff: float = 1e-9
    replicas: tuple = ()
    features: np.ndarray | None = None
    gradients: np.ndarray | None = None

    def __post_init__(self):
        h, g = (arguments.array(name, getattr(self, name), ndim=2).shape[0] for name in ("C_h", "C_g"))
        shapes = {"C_h": (h, h), "C_g": (g, g), "A": (h, g), "B": (g, h), "c": (g, h)}
        shapes |= {"features": (None, h), "gradients": (None, g)}
        for name, shape in shapes.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, arguments.array(name, getattr(self, name), shape=shape))
        for name in ("C_h", "C_g"):
            value = getattr(self, name)
            if np.array_equal(value, np.eye(len(value))):
                continue
            if not np.allclose(value, value.T, rtol=0, atol=1e-8 * np.abs(value).max()):
                raise ValueError(f"{name} must be symmetric, got one that is not")
            lowest, highest = np.linalg.eigvalsh(value)[[0, -1]]
            if lowest < -1e-6 * abs(highest):
                raise ValueError(f"{name} must be positive semi-definite, got an eigenvalue {lowest:.3g}")
        arguments.number("weight_variance", self.weight_variance, above=0)
        arguments.number("width_ratio", self.width_ratio, above=0)
        arguments.number("decay", self.decay, above=0)
        arguments.fraction("cutoff", self.cutoff)
        for one in self.replicas:
            if not isinstance(one, OrderParameters):
                raise ValueError(f"replicas must be OrderParameters, got {type(one).__name__}")

    def independent(self) -> "OrderParameters":
        """The same spikes, treated as if they knew nothing of the bulk: A = B = 0 (classical BBP)."""
        replicas = tuple(one.independent() for one in self.replicas)
        return replace(self, A=np.zeros_like(self.A), B=np.zeros_like(self.B), replicas=replicas)


def share(ratio):
    """How much of a direction is kept whose size is `ratio` cut-offs: nothing up to 1, all of it from 1.25 on.

    Between the two it is smooth, so that no answer hangs on the side of a cut-off on which rounding puts a direction.
    A wider passage would do as well, but what is kept in part comes back at every step to be found new.
    """
    above = np.clip((ratio - 1) / 0.25, 0, 1)
    return above**2 * (3 - 2 * above)
