"""At the edge of stability, two more questions to networks: three layers at fixed steps, and momentum.

Run from the repository's root, some six minutes on one core:

    python experiments/edge_more.py [workers]

It writes experiments/edge_more.npz, which the chapter on the edge of stability asserts on. Networks only. Cases that
are done are kept in experiments/.store, so that it can be interrupted. lambda is as in experiments/edge.py.

Three layers, at THREE_RATE, a little below their edge: `three` (runs, len(SHOWN)), lambda at the steps `shown`,
and `three_top` (runs,), the largest lambda at any step; `three_size`, `three_controls` (runs, 6), of that script.
Momentum: per network of the base setting `momentum`, `size`, `seed`; `border`, the largest rate with which its
train loss falls to SMALL times its start in LONG steps, by bisection to PRECISION; and `height`, the product of that
rate and lambda at the end.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
from spectral_dynamics import networks, sweeps
from spectral_dynamics.errors import DivergenceError
from spectral_experiments import edge, first_row

THREE_RATE, THREE_ROUND, SHOWN = 0.08, {100: 200, 200: 100, 400: 40}, (10, 12, 14, 16, 20, 24, 30, 40, 60, 79)
MOMENTA, MOMENTUM_ROUND = (0.0, 0.3), {100: 24, 200: 12}
LONG, SMALL, PRECISION, BRACKET = 200, 1e-6, 1.003, (0.08, 0.26)  # the bracket's lower end is multiplied by 1 + mu


def three_case(size: int, seed: int, shown=SHOWN) -> dict[str, np.ndarray]:
    """lambda of one network with three layers."""
    run = edge.train(edge.problem_of({"depth": 3}, THREE_RATE), size, [500, size, seed], steps=max(shown) + 1)
    modes = edge.modes(run)
    return {"three": modes[list(shown)], "three_top": modes.max(), "three_controls": edge.controls(run)}


def momentum_case(momentum: float, size: int, seed: int, long: int = LONG) -> dict[str, float]:
    """One network's own border of convergence. The same seed is the same network at every rate and momentum."""

    def train_at(rate):
        learned, rng = edge.problem_of({"momentum": momentum}, rate), np.random.default_rng([600, size, seed])
        return networks.train(learned, size=size, steps=long, rng=rng, record=(0, long), record_fields=False)

    def converges(rate):
        try:
            loss = train_at(rate).train_loss
        except DivergenceError:
            return False
        return loss[long] < SMALL * loss[0]

    low, high = BRACKET[0] * (1 + momentum), BRACKET[1]
    while high / low > PRECISION:
        middle = np.sqrt(low * high)
        low, high = (middle, high) if converges(middle) else (low, middle)
    return {"border": low, "height": low * train_at(low).leading_mode(long).value}


def again_of_three(table: dict) -> tuple[dict, dict]:
    """The first small network with three layers: made once more, and as it is stored."""
    now = three_case(min(THREE_ROUND), 0)
    return now, {key: table[key][0] for key in now}


def again_of_momentum(momentum: float, table: dict) -> tuple[dict, dict, float]:
    """The first small network: its border to the precision of the search, which rounding may decide by one step."""
    size = min(MOMENTUM_ROUND)
    row, now = first_row(table, momentum=momentum, size=size, seed=0), momentum_case(momentum, size, 0)
    return now, {key: table[key][row] for key in now}, 2 * (PRECISION - 1)


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(
        THREE_RATE=THREE_RATE, THREE_ROUND=THREE_ROUND, SHOWN=SHOWN, MOMENTA=MOMENTA, LONG=LONG, SMALL=SMALL
    )
    | dict(MOMENTUM_ROUND=MOMENTUM_ROUND, PRECISION=PRECISION, BRACKET=BRACKET)
    | dict(BASE=edge.BASE, LANCZOS=edge.LANCZOS),
    witnesses={"three layers": partial(three_case, 24, 2, shown=(3, 6, 9))}
    | {f"momentum {mu:g}": partial(momentum_case, mu, 24, 2, long=10) for mu in MOMENTA},
    rows={"three layers": again_of_three} | {f"momentum {mu:g}": partial(again_of_momentum, mu) for mu in MOMENTA},
)


def main(workers: int) -> None:
    """Runs every case and writes the table."""
    threes = [{"size": size, "seed": seed} for size, count in THREE_ROUND.items() for seed in range(count)]
    found = edge.stacked(sweeps.run(three_case, threes, store=TABLE.store, workers=workers))
    balls = [
        {"momentum": mu, "size": size, "seed": seed}
        for size, count in MOMENTUM_ROUND.items()
        for seed in range(count)
        for mu in MOMENTA
    ]
    found |= edge.stacked(sweeps.run(momentum_case, balls, store=TABLE.store, workers=workers))
    TABLE.write(
        shown=SHOWN,
        three_size=[one["size"] for one in threes],
        **{key: [one[key] for one in balls] for key in ("momentum", "size", "seed")},
        **{key: value.astype(np.float32) for key, value in found.items()},
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
