"""Order parameters: what level one hands to level two."""

import numpy as np
import pytest
from spectral_dynamics.dynamics.order import OrderParameters


def parameters(**changes):
    one, zero = np.eye(2), np.zeros((2, 2))
    return OrderParameters(**{"C_h": one, "C_g": one, "A": zero, "B": zero, "c": one, **changes})


def test_independent_spikes_keep_correlations_and_lose_responses():
    given = {"A": np.tril(np.ones((2, 2))), "B": np.ones((2, 2)), "C_h": [[2.0, 1.0], [1.0, 3.0]], "decay": 0.5}
    order = parameters(**given, replicas=(parameters(**given), parameters(**given)))
    apart = order.independent()
    assert not any(one.A.any() or one.B.any() for one in apart.replicas) and len(apart.replicas) == 2
    assert not apart.A.any() and not apart.B.any()
    assert np.array_equal(apart.C_h, order.C_h) and apart.decay == order.decay
    assert order.A.any(), "the original must be left as it was"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"C_h": [[1.0, np.nan], [np.nan, 1.0]]}, "C_h holds 2 non-finite"),
        ({"C_g": np.eye(3)}, r"A must have shape \(2, 3\)"),
        ({"A": np.zeros(2)}, "A must have shape"),
        ({"C_h": [[1.0, 0.5], [0.0, 1.0]]}, "C_h must be symmetric"),
        ({"C_g": [[1.0, 2.0], [2.0, 1.0]]}, "C_g must be positive semi-definite"),
        ({"weight_variance": -1.0}, "weight_variance must be greater than 0"),
        ({"width_ratio": 0.0}, "width_ratio must be greater than 0"),
        ({"decay": np.inf}, "decay must be a finite"),
        ({"C_h": np.zeros((0, 0))}, "C_h is empty"),
        ({"cutoff": 1.0}, "cutoff must be below 1"),
        ({"replicas": (1.0,)}, "replicas must be OrderParameters, got float"),
    ],
)
def test_bad_order_parameters_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        parameters(**changes)
