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
    readout's direction, 1 for equal outputs. `schedule` says which samples each step visits (see `descent`): at
    step t the weights hold its `decay[t]` of the initial ones, and of every index before what `_c(t)` says.
    """

    count = 0  # of sites

    def __init__(self, problem, schedule, tangent_steps=()):
        depth, outputs, steps = problem.depth, problem.outputs, schedule.steps
        size = (steps + 1) * outputs
        self.problem, self.schedule, self.tangent_steps = problem, schedule, tangent_steps
        self.s2, self.depth = problem.weight_std**2, depth
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

    def observe(self, t: int) -> dict:
        """What the network is at step t, by the names of `mlp_sampled.Replica`; there is no sampling error."""
        self.backward(t)
        f = self.predictions(t)
        self.delta = self.problem.residual(f)
        tangent = self.tangent(t) if t in self.tangent_steps else None
        return {
            "loss": self.problem.mean_loss(f),
            "predictions": f,
            "kernels": self.kernels(t),
            "site_error": 0.0,
            "tangent": tangent,
        }

    def update(self, t: int) -> None:
        """The step that the batch of step t makes: what later steps will know of it."""
        weights, batch = np.zeros((self.problem.outputs, self.problem.samples)), self.schedule.batches[t]
        weights[:, batch] = (self.schedule.times[t][:, None] * self.delta[batch]).T
        self.remember(t, weights)

    def _steps(self, t: int) -> tuple[slice, slice]:
        outputs = self.problem.outputs
        return slice(0, t * outputs), slice(t * outputs, (t + 1) * outputs)

    def _c(self, t: int):
        """(indices before t,) what each of them weighs in the weights there."""
        return np.repeat(self.schedule.memory[t, :t] * self.schedule.scales[:t], self.problem.outputs)

    def _drift(self, t: int, responses, correlations):
        """What the initial matrix remembers, and what was learned, of the indices before t."""
        return self.schedule.decay[t] * self.s2 * responses + self._c(t) * correlations

    def backward(self, t: int) -> None:
        """ghat^L .. ghat^1 of a step: the weights know the steps before it."""
        past, now = self._steps(t)
        for l in range(self.depth, 0, -1):
            B = self.G_u[l + 1][now, past] if l < self.depth else 0.0
            drift = self._drift(t, B, self.G[l + 1][now, past])
            self.G_u[l][now] = drift @ self.H_u[l][past]
            self.G_r[l][now] = drift @ self.H_r[l][past]
            self.G_r[l][now, now] += self.schedule.decay[t] * np.eye(now.stop - now.start)
            upto = slice(0, now.stop)
            rows = self._covariance(self.G_u[l], self.G_r[l], l, now, upto)
            self.G[l][now, upto], self.G[l][upto, now] = rows, rows.T

    def _covariance(self, u, r, l: int, now: slice, upto: slice):
        """s2 (u C^{l-1} u^T + r G^{l+1} r^T), rows of now."""
        C, G = self.C[l - 1][upto, upto], self.G[l + 1][upto, upto]
        return self.s2 * (u[now, upto] @ C @ u[upto, upto].T + r[now, upto] @ G @ r[upto, upto].T)

    def predictions(self, t: int):
        """f (P, outputs) = <ghat^1 h^1>/gamma0, h^1 = decay W^0(0) x + sum c ghat^1 Phi^0."""
        past, now = self._steps(t)
        drift = self._drift(t, self.G_u[1][now, past], self.G[1][now, past])
        return (drift @ self.seen[past]).T / self.problem.output_scale

    def remember(self, t: int, weights) -> None:
        """hhat^l of a step, l = 0 .. L: `weights` (outputs, P) are Delta on the batch and 0 elsewhere."""
        past, now = self._steps(t)
        upto = slice(0, now.stop)
        self.seen[now] = weights @ self.schedule.kernel
        rows = weights @ self.seen[upto].T
        self.C[0][now, upto], self.C[0][upto, now] = rows, rows.T
        for l in range(1, self.depth + 1):
            A = self.H_r[l - 1][now, past] if l > 1 else 0.0
            drift = self._drift(t, A, self.C[l - 1][now, past])
            self.H_u[l][now], self.H_r[l][now] = drift @ self.G_u[l][past], drift @ self.G_r[l][past]
            self.H_u[l][now, now] += self.schedule.decay[t] * np.eye(now.stop - now.start)
            rows = self._covariance(self.H_u[l], self.H_r[l], l, now, upto)
            self.C[l][now, upto], self.C[l][upto, now] = rows, rows.T

    def kernels(self, t: int):
        """(L, P, P) <h^l h^l> of the samples at a step: each has a Gaussian of its own, known by its covariances."""
        past, decay = self._steps(t)[0], self.schedule.decay[t]
        A, cross, square, found = 0.0, self.seen[past].T, self.schedule.kernel, []
        for l in range(1, self.depth + 1):
            drift = self._drift(t, A, cross)
            u, r = drift @ self.G_u[l][past, past], drift @ self.G_r[l][past, past]
            C, G = self.C[l - 1][past, past], self.G[l + 1][past, past]
            H_u, H_r = self.H_u[l][past, past], self.H_r[l][past, past]
            known = decay * cross + u @ C  # <(decay u_mu + u u) u^l>/s2
            square = decay**2 * square + decay * (cross @ u.T + u @ cross.T) + u @ C @ u.T + r @ G @ r.T
            A, cross, square = r, self.s2 * (known @ H_u.T + r @ G @ H_r.T), self.s2 * square
            found.append(square)
        return np.array(found).reshape(self.depth, *self.schedule.kernel.shape)

    def tangent(self, t: int):
        """K (P, outputs, P, outputs): the gradient of one output is ghat^l, the same for all samples."""
        now = self._steps(t)[1]
        kernels = [self.schedule.kernel, *self.kernels(t)]
        gradients = [*(one[now, now] for one in self.G[1:])]
        return sum(np.einsum("mn,op->monp", *pair) for pair in zip(kernels, gradients, strict=True))

    def found(self):
        """(layer, step, through) -> order parameters, steps -> pairs (step, output); nothing is neglected."""
        outputs = self.problem.outputs

        def order(layer: int, step: int, through: int) -> OrderParameters:
            k, decay = self._steps(through)[0], self.schedule.decay[step]
            c = np.zeros(k.stop)
            c[self._steps(step)[0]] = self._c(step) / decay
            return OrderParameters(
                C_h=self.C[layer][k, k],
                C_g=self.G[layer + 1][k, k],
                A=self.H_r[layer][k, k],
                B=self.G_u[layer + 1][k, k],
                c=np.diag(c),
                weight_variance=self.s2,
                decay=decay,
            )

        def index(steps: int):
            k = np.arange(steps * outputs)
            return np.column_stack([k // outputs, k % outputs])

        return order, index, np.zeros((self.schedule.steps, self.depth - 1, 2))
