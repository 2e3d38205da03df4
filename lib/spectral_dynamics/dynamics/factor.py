"""The Cholesky factor of a matrix that grows, such as the Gram matrix of fields as they appear."""

import numpy as np
from scipy import linalg

ROWS = 256  # a block that has as many is left alone


class Factor:
    """L, lower triangular, with L L^T a symmetric positive definite matrix.

    In blocks of rows, each of them what is left of the diagonal, and the square on it: so that growing copies one
    block and not all, and the zeros take no memory.
    """

    def __init__(self):
        self.size, self._blocks = 0, []

    def grow(self, beside, corner) -> None:
        """By new rows of the matrix: (new, size) beside the old ones, and (new, new). Raises LinAlgError when the
        matrix is not positive definite any more.
        """
        left = self.forward(beside.T).T
        square = np.linalg.cholesky(corner - left @ left.T)
        if self._blocks and len(self._blocks[-1][1]) < ROWS:
            above, first = self._blocks.pop()
            start = above.shape[1]
            square = np.block([[first, np.zeros((len(first), len(square)))], [left[:, start:], square]])
            left = np.concatenate([above, left[:, :start]])
        self._blocks.append((left, square))
        self.size += len(corner)

    def cut(self, size: int) -> None:
        """Back to the first rows and columns."""
        self.size, kept = size, [(left, square) for left, square in self._blocks if left.shape[1] < size]
        self._blocks = [
            (left[: size - left.shape[1]], square[: size - left.shape[1], : size - left.shape[1]])
            for left, square in kept
        ]

    def forward(self, b) -> np.ndarray:
        """L^-1 b, of (size, any)"""
        x = np.array(b, float)
        for left, square in self._blocks:
            start = left.shape[1]
            rows = slice(start, start + len(square))
            x[rows] = linalg.solve_triangular(square, x[rows] - left @ x[:start], lower=True, check_finite=False)
        return x

    def solve(self, b) -> np.ndarray:
        """(L L^T)^-1 b, of (size, any)"""
        x = self.forward(b)
        for left, square in reversed(self._blocks):
            start = left.shape[1]
            rows = slice(start, start + len(square))
            x[rows] = linalg.solve_triangular(square, x[rows], trans="T", lower=True, check_finite=False)
            x[:start] -= left.T @ x[rows]
        return x
