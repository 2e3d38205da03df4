"""Infinitely wide linear networks, exactly: fields are linear functions of the initial weights, and so stay Gaussian.

With hhat_o = sum_mu Delta_{o mu} h_mu and g_mu = sum_o Delta_{o mu} ghat_o all that is learned is the sum of
c ghat_o hhat_o. Indices are (step, output) whatever the number of samples, and every field is a linear function of
the u and r of `mlp`. Its coefficients are the responses, A^l is H_r and B^l is G_u.
"""

import numpy as np

from .order import OrderParameters


class LinearMarch:
    """hhat^l = H_u u^l + H_r r^l, ghat^l = G_u u^l + G_r r^l for l = 1 .. L, over indices (step, output).

    `C[l]` = <hhat^l hhat^l> for l = 0 .. L, `G[l]` = <ghat^l ghat^l> for l = 1 .. L + 1: the last one is that of the
    readout's direction, 1 for equal outputs. `record` says which samples each step visits (see `mlp`).
    """

    groups = 1
    work = 3  # grows as this power of the steps

    def __init__(self, problem, record):
        depth, outputs, steps = problem.depth, problem.outputs, len(record.batches)
        size = (steps + 1) * outputs
        self.problem, self.record = problem, record
        self.s2, self.depth = problem.weight_std**2, depth
        self.c = np.append(np.repeat(record.rates, outputs), np.zeros(outputs))
        self.seen = np.zeros((size, problem.samples))  # Phi^0 between the record and the samples
        self.H_u, self.H_r, self.G_u, self.G_r = (
            [None] + [np.zeros((size, size)) for _ in range(depth)] for _ in "1234"
        )
        self.C = [np.zeros((size, size)) for _ in range(depth + 1)]
        self.G = (
            [None]
            + [np.zeros((size, size)) for _ in range(depth)]
            + [np.kron(np.ones((steps + 1, steps + 1)), np.eye(outputs))]
        )

    def observe(self, t: int):
        """What the network is at step t: loss, predictions, kernels, and 0, its sampling error; a group of one."""
        past, now = self._steps(t)
        self.backward(past, now)
        f = self.predictions(past, now)
        self.delta = self.problem.targets - f
        loss = np.sum(self.delta**2) / self.problem.samples
        return loss[None], f[None], self.kernels(past)[None], np.zeros(1)

    def update(self, t: int) -> None:
        """The step that the batch of step t makes: what later steps will know of it."""
        weights, batch = np.zeros((self.problem.outputs, self.problem.samples)), self.record.batches[t]
        weights[:, batch] = (self.record.times[t][:, None] * self.delta[batch]).T
        self.remember(*self._steps(t), weights)

    def _steps(self, t: int) -> tuple[slice, slice]:
        outputs = self.problem.outputs
        return slice(0, t * outputs), slice(t * outputs, (t + 1) * outputs)

    def forward(self, past: slice, l: int, A, cross, own):
        """Rows of H_u^l and H_r^l from A^{l-1} and C^{l-1} with the past, and where u^l itself has its 1."""
        drift = self.s2 * A + self.c[past] * cross
        return own + drift @ self.G_u[l][past], drift @ self.G_r[l][past]

    def backward(self, past: slice, now: slice) -> None:
        """ghat^L .. ghat^1 of a step: the weights know the steps before it."""
        for l in range(self.depth, 0, -1):
            B = self.G_u[l + 1][now, past] if l < self.depth else 0.0
            drift = self.s2 * B + self.c[past] * self.G[l + 1][now, past]
            self.G_u[l][now] = drift @ self.H_u[l][past]
            self.G_r[l][now] = drift @ self.H_r[l][past]
            self.G_r[l][now, now] += np.eye(now.stop - now.start)
            upto = slice(0, now.stop)
            rows = self._covariance(self.G_u[l], self.G_r[l], l, now, upto)
            self.G[l][now, upto], self.G[l][upto, now] = rows, rows.T

    def _covariance(self, u, r, l: int, now: slice, upto: slice):
        """s2 (u C^{l-1} u^T + r G^{l+1} r^T), rows of now."""
        C, G = self.C[l - 1][upto, upto], self.G[l + 1][upto, upto]
        return self.s2 * (u[now, upto] @ C @ u[upto, upto].T + r[now, upto] @ G @ r[upto, upto].T)

    def predictions(self, past: slice, now: slice):
        """f (P, outputs) = <ghat^1 h^1>/gamma0, h^1 = W^0(0) x + sum c ghat^1 Phi^0."""
        B = self.s2 * self.G_u[1][now, past]
        return ((B + self.c[past] * self.G[1][now, past]) @ self.seen[past]).T / self.problem.output_scale

    def remember(self, past: slice, now: slice, weights) -> None:
        """hhat^l of a step, l = 0 .. L: `weights` (outputs, P) are Delta on the batch and 0 elsewhere."""
        upto = slice(0, now.stop)
        self.seen[now] = weights @ self.record.kernel
        rows = weights @ self.seen[upto].T
        self.C[0][now, upto], self.C[0][upto, now] = rows, rows.T
        for l in range(1, self.depth + 1):
            A = self.H_r[l - 1][now, past] if l > 1 else 0.0
            own = np.eye(len(self.c))[now]
            self.H_u[l][now], self.H_r[l][now] = self.forward(past, l, A, self.C[l - 1][now, past], own)
            rows = self._covariance(self.H_u[l], self.H_r[l], l, now, upto)
            self.C[l][now, upto], self.C[l][upto, now] = rows, rows.T

    def kernels(self, past: slice):
        """(L, P, P) <h^l h^l> of the samples at a step: each has a Gaussian of its own, known by its covariances."""
        A, cross, square, found = 0.0, self.seen[past].T, self.record.kernel, []
        for l in range(1, self.depth + 1):
            drift = self.s2 * A + self.c[past] * cross
            u, r = drift @ self.G_u[l][past, past], drift @ self.G_r[l][past, past]
            C, G = self.C[l - 1][past, past], self.G[l + 1][past, past]
            H_u, H_r = self.H_u[l][past, past], self.H_r[l][past, past]
            known = cross + u @ C  # <(u_mu + u u) u^l>/s2
            square = self.s2 * (square + cross @ u.T + u @ cross.T + u @ C @ u.T + r @ G @ r.T)
            A, cross = r, self.s2 * (known @ H_u.T + r @ G @ H_r.T)
            found.append(square)
        return np.array(found).reshape(self.depth, *self.record.kernel.shape)

    def found(self, steps: int, group: int = 0):
        """The pairs (step, output) of `steps` updates, and (layer, step) -> order parameters."""
        outputs, record = self.problem.outputs, self._steps(steps)[0]

        def order(layer: int, step: int) -> OrderParameters:
            k = self._steps(step)[0]
            return OrderParameters(
                C_h=self.C[layer][k, k],
                C_g=self.G[layer + 1][k, k],
                A=self.H_r[layer][k, k],
                B=self.G_u[layer + 1][k, k],
                c=np.diag(self.c[k]),
                weight_variance=self.s2,
            )

        return np.column_stack([np.arange(record.stop) // outputs, np.arange(record.stop) % outputs]), order
