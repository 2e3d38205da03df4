"""The Cholesky factor of a matrix that grows."""

import numpy as np
import pytest
from spectral_dynamics.dynamics import factor
from spectral_dynamics.dynamics.factor import Factor


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_a_factor_that_grows_is_that_of_the_whole_matrix(rows, monkeypatch):
    monkeypatch.setattr(factor, "ROWS", rows)
    rng = np.random.default_rng(0)
    fields = rng.standard_normal((30, 200))
    gram, b, grown = fields @ fields.T / 200, rng.standard_normal((30, 3)), Factor()
    for first, last in ((0, 3), (3, 4), (4, 11), (11, 12), (12, 26)):
        grown.grow(gram[first:last, :first], gram[first:last, first:last])
    grown.cut(18)  # and otherwise from there
    grown.grow(gram[18:20, :18], gram[18:20, 18:20])
    grown.grow(gram[20:, :20], gram[20:, 20:])
    assert grown.size == 30 and np.abs(grown.solve(b) - np.linalg.solve(gram, b)).max() < 1e-13
    assert np.abs(grown.forward(b) - np.linalg.solve(np.linalg.cholesky(gram), b)).max() < 1e-13
    lower = gram + 1e-3 * np.eye(30)  # another matrix is told apart
    assert np.abs(grown.solve(b) - np.linalg.solve(lower, b)).max() > 1e-3


def test_what_is_not_positive_definite_is_refused():
    grown = Factor()
    grown.grow(np.zeros((2, 0)), np.eye(2))
    with pytest.raises(np.linalg.LinAlgError):
        grown.grow(np.array([[1.0, 1.0]]), np.array([[1.9]]))
    grown.grow(np.array([[1.0, 1.0]]), np.array([[2.1]]))
    assert grown.size == 3
