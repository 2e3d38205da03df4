"""Bad input is refused with a message that names the argument, what was wrong and what is allowed."""

import numpy as np
import pytest
from spectral_dynamics import arguments

REFUSED = [
    (lambda: arguments.number("sigma", np.nan), "sigma must be a finite real number, got nan"),
    (lambda: arguments.number("sigma", True), "sigma must be a finite real number"),
    (lambda: arguments.number("ratio", 0, above=0), "ratio must be greater than 0, got 0"),
    (lambda: arguments.number("ridge", -1.0, at_least=0), "ridge must be at least 0, got -1.0"),
    (lambda: arguments.whole("steps", 2.0), "steps must be an integer, got 2.0"),
    (lambda: arguments.whole("depth", 0, at_least=1), "depth must be at least 1, got 0"),
    (lambda: arguments.array("X", "text"), "X must be an array of real numbers"),
    (lambda: arguments.array("X", [[1.0]], ndim=1), r"X must have 1 dimension\(s\), got shape \(1, 1\)"),
    (lambda: arguments.array("X", [1.0, 2.0], shape=(3,)), r"X must have shape \(3\), got \(2,\)"),
    (lambda: arguments.array("X", [[1.0]], shape=(None, 2)), r"X must have shape \(any, 2\)"),
    (lambda: arguments.array("X", []), "X is empty"),
    (lambda: arguments.array("X", [1.0, np.inf]), "X holds 1 non-finite"),
    (lambda: arguments.array("X", [1j]), "X must be an array of real numbers"),
    (lambda: arguments.one_of("activation", "sin", ("tanh", "relu")), "activation must be one of 'tanh', 'relu'"),
    (lambda: arguments.generator("rng", 0), "rng must be a numpy.random.Generator, got int"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_bad_input_is_named_and_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_good_input_comes_back_in_double_precision():
    assert arguments.number("x", np.float32(0.5), above=0) == 0.5
    assert arguments.whole("n", np.int64(3), at_least=3) == 3
    assert arguments.array("X", [[1, 2]], shape=(None, 2)).dtype == np.float64
