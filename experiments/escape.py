"""Deep linear networks watched while they leave the bulk: the top singular value at every step, sizes and seeds.

Run from the repository's root, about a quarter of an hour on one core:

    python experiments/escape.py

It writes experiments/escape.npz, which the chapter on the escape of outliers draws and asserts on. There is no theory
in it. Cases that are done are kept in experiments/.store, so that it can be interrupted.

The settings were chosen from the theory, before these networks were trained: from `BASE` a parameter or two are moved
away, such that the escape falls between steps 3 and 30 and the spike grows by 5 % of the threshold or more per step
there, or such that the theory sees no escape although the loss falls to a tenth. Three of them were tried before at
sizes 200 to 800, to see whether the time of escape can be measured at all. None was dropped or altered afterwards.
The two with fresh batches were added last, chosen in the same way.

Arrays. Per setting: `names`, `parameters` (JSON, for problems.DeepLinear), `horizon` (steps trained), `layers`
(settings, 2), the layers watched, -1 for none. Per row: `setting`, `size` (the dimension D), `networks` (how many),
`tops` (rows, 2, steps + 1), the top singular value of Wbar^layer averaged over that many networks, 0 beyond the
horizon. Of the rows of the setting `ALIGNED` alone, in order: `right`, `left` (rows, ALIGNED_STEP), cosines of the
top singular vectors of its layer, after ALIGNED_STEP steps, with h(s) and g(s). Of the map, layer 1: `map_scales`,
`map_stds`, `map_tops` (stds, scales, steps + 1), averaged over MAP_NETWORKS networks of size MAP_SIZE.
"""

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import svds
from spectral_dynamics import networks, problems, sweeps

BASE = {"depth": 2, "data_ratio": 2.0, "output_scale": 2.0, "learning_rate": 0.05, "weight_std": 0.5}
FRESH = {"data_ratio": None, "batch_ratio": 0.5}


@dataclass(frozen=True)
class Setting:
    """What is trained, for how many steps, which layers are watched, and how many times the usual seeds."""

    changed: dict
    steps: int
    layers: tuple[int, ...] = (0, 1)
    seeds: float = 1.0
    parameters: dict = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "parameters", BASE | self.changed)


SETTINGS = {
    "base": Setting({}, 18),
    "scale 1.5": Setting({"output_scale": 1.5}, 24),
    "scale 4": Setting({"output_scale": 4.0}, 10),
    "scale 1, rate 0.1": Setting({"output_scale": 1.0, "learning_rate": 0.1}, 22, seeds=2),
    "std 0.3": Setting({"weight_std": 0.3}, 24),
    "std 0.7, scale 3": Setting({"weight_std": 0.7, "output_scale": 3.0}, 12),
    "half as wide": Setting({"width_ratio": 0.5}, 22),
    "twice as wide": Setting({"width_ratio": 2.0}, 16),
    "twice as wide, NTK": Setting({"width_ratio": 2.0, "parametrization": "ntk"}, 22),
    "one layer": Setting({"depth": 1}, 14, (0,)),
    "three layers": Setting({"depth": 3}, 24),
    "four layers": Setting({"depth": 4}, 34, (0, 2)),
    "half free": Setting({"width_ratio": 0.5, "weight_std": 0.8, "output_scale": 3.0}, 30, seeds=2),
    "never, one layer": Setting({"depth": 1, "weight_std": 0.9, "output_scale": 0.5}, 40, (0,), 0.5),
    "never, two layers": Setting({"weight_std": 0.8, "output_scale": 1.0}, 40, seeds=0.5),
    "never, three layers": Setting({"depth": 3, "weight_std": 0.8, "output_scale": 1.0}, 40, seeds=0.5),
    "reference": Setting({"depth": 3, "output_scale": 3.0}, 80, (1,), 0.25),
    "reference, first layer": Setting(
        {"width_ratio": 2.0, "output_scale": 3.0, "parametrization": "ntk"}, 40, (0,), 0.25
    ),
    "fresh batches": Setting(FRESH, 20, seeds=2),
    "fresh batches, wide, NTK": Setting(
        FRESH | {"width_ratio": 2.0, "output_scale": 3.0, "parametrization": "ntk"}, 20
    ),
}
ALIGNED, ALIGNED_STEP = "reference", 60

# sqrt(N D): how many rows, and how many networks are averaged in each. Escape times scatter less at small sizes.
ROWS = {200: (30, 10), 400: (12, 10), 800: (10, 4), 1600: (6, 1)}

MAP_SCALES, MAP_STDS = np.linspace(0.5, 6.0, 12), np.linspace(0.2, 1.1, 10)
MAP_SIZE, MAP_NETWORKS, MAP_STEPS = 300, 10, 40


def dimension(size: int, width_ratio: float) -> int:
    """An even D with sqrt(N D) next to `size`."""
    return 2 * round(size / np.sqrt(width_ratio) / 2)


def train(problem, size: int, steps: int, rng, record=(0,)) -> networks.DeepLinearRun:
    """One network with its fields, from which the weights of every step can be had."""
    return networks.train(problem, size=size, steps=steps, rng=rng, record=record)


def top_singular_values(run, layer: int, rng) -> np.ndarray:
    """The largest singular value of Wbar^layer(t) for t = 0 .. steps, (steps + 1,), of a run of plain descent.

    All steps at once, by Lanczos iterations on Wbar^T Wbar: Wbar(t) = Wbar(0) + sum_{s<t} c(s) g(s) h(s)^T, so that
    a column for each t is multiplied by the one matrix Wbar(0). The gap at the edge closes as size^(-2/3), and the
    number of iterations grows as size^(1/3).
    """
    initial, h, g = run.weights(layer, 0), run.features(layer), run.gradients(layer)
    width, size = run.weights(0, 0).shape
    c = run.problem.gamma * np.sqrt(size / width) / len(h) * run.problem.rates(run.steps)
    written = np.triu(np.ones((run.steps, run.steps + 1)), 1) * c[:, None]

    def square(columns):
        images = initial @ columns + g @ (written * (h.T @ columns))
        return initial.T @ images + h @ (written * (g.T @ images))

    now = np.repeat(rng.standard_normal((initial.shape[1], 1)), run.steps + 1, axis=1)
    now, before, beta, alphas, betas = now / linalg.norm(now, axis=0), 0.0, 0.0, [], []
    for _ in range(round(5 * max(initial.shape) ** (1 / 3))):
        new = square(now) - beta * before
        alphas.append(np.sum(now * new, axis=0))
        new -= alphas[-1] * now
        beta = linalg.norm(new, axis=0)
        before, now = now, new / beta
        betas.append(beta)
    tridiagonals = zip(np.transpose(alphas), np.transpose(betas[:-1]), strict=True)
    last = {"select": "i", "select_range": (len(alphas) - 1,) * 2}
    return np.sqrt([linalg.eigvalsh_tridiagonal(*pair, **last)[0] for pair in tridiagonals])


def cosines(run, layer: int, step: int) -> np.ndarray:
    """Of the top singular vectors at `step` with h(s) and g(s), s < step: (2, step), the largest with h positive."""
    h, g = run.features(layer, step), run.gradients(layer, step)
    left, _, right = svds(run.weights(layer, step), k=1, v0=h[:, 0])
    pair = np.array([right[0] @ h / linalg.norm(h, axis=0), left[:, 0] @ g / linalg.norm(g, axis=0)])
    return pair * np.sign(pair[0, np.argmax(np.abs(pair[0]))])


def case(name: str, size: int, row: int, count: int, steps: int | None = None, aligned: int = ALIGNED_STEP) -> dict:
    """One row of the table: means over `count` networks, after `steps` in place of the setting's own."""
    setting, steps = SETTINGS[name], steps or SETTINGS[name].steps
    problem = problems.DeepLinear(**setting.parameters)
    tops, vectors, record = [], [], (0, aligned) if name == ALIGNED else (0,)
    for seed in range(row * count, (row + 1) * count):
        rng = np.random.default_rng([list(SETTINGS).index(name), size, seed])
        run = train(problem, dimension(size, problem.width_ratio), steps, rng, record)
        tops.append([top_singular_values(run, layer, rng) for layer in setting.layers])
        if name == ALIGNED:
            vectors.append(cosines(run, setting.layers[0], aligned))
    return {"tops": np.mean(tops, axis=0), "cosines": np.mean(vectors, axis=0) if vectors else np.zeros((2, 0))}


def cell(scale: float, std: float, size=MAP_SIZE, count=MAP_NETWORKS, steps=MAP_STEPS) -> np.ndarray:
    """One cell of the map, (steps + 1,)."""
    problem = problems.DeepLinear(**BASE | {"output_scale": scale, "weight_std": std})
    rngs = [np.random.default_rng([round(1e6 * scale), round(1e6 * std), seed]) for seed in range(count)]
    return np.mean([top_singular_values(train(problem, size, steps, g), 1, g) for g in rngs], axis=0)


def cases() -> list[dict]:
    """Every row of the table: small sizes first, so that trouble shows early."""
    return [
        {"name": name, "size": size, "row": row, "count": count}
        for size, (rows, count) in ROWS.items()
        for name, setting in SETTINGS.items()
        for row in range(max(3, round(rows * setting.seeds)))
    ]


def again(name: str, table: dict) -> tuple[dict, dict]:
    """The first row of the smallest size of a setting: made once more, and as it is stored."""
    size, number = min(ROWS), list(SETTINGS).index(name)
    rows = np.flatnonzero(table["setting"] == number)  # small sizes first
    now = case(name, size, 0, ROWS[size][1])
    tops = table["tops"][rows[0]][: now["tops"].shape[0], : now["tops"].shape[1]]
    stored = [table["right"][0], table["left"][0]] if name == ALIGNED else np.zeros((2, 0))
    return now, {"tops": tops, "cosines": stored}


def again_of_map(table: dict) -> tuple[dict, dict]:
    """One cell of the map."""
    return {"tops": cell(MAP_SCALES[3], MAP_STDS[3])}, {"tops": table["map_tops"][3, 3]}


SPOTS = [(scale, std) for std in MAP_STDS for scale in MAP_SCALES]
TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(SETTINGS=SETTINGS, ALIGNED=ALIGNED, ALIGNED_STEP=ALIGNED_STEP, ROWS=ROWS, MAP_SCALES=MAP_SCALES)
    | dict(MAP_STDS=MAP_STDS, MAP_SIZE=MAP_SIZE, MAP_NETWORKS=MAP_NETWORKS, MAP_STEPS=MAP_STEPS),
    witnesses={name: partial(case, name, 12, 1, count=2, steps=8, aligned=6) for name in SETTINGS}
    | {f"map, scale {k:.2g}, std {s:.2g}": partial(cell, k, s, size=8, count=1, steps=5) for k, s in SPOTS},
    rows={name: partial(again, name) for name in SETTINGS} | {"map": again_of_map},
)


def main() -> None:
    """Runs every case and writes the table."""
    spots = [{"scale": scale, "std": std} for scale, std in SPOTS]
    tops_of_map = np.reshape(sweeps.run(cell, spots, store=TABLE.store), (len(MAP_STDS), len(MAP_SCALES), -1))
    rows = cases()
    results = sweeps.run(case, rows, store=TABLE.store)
    names, longest = list(SETTINGS), max(setting.steps for setting in SETTINGS.values())
    tops = np.zeros((len(rows), 2, longest + 1))
    for row, result in zip(tops, results, strict=True):
        row[: result["tops"].shape[0], : result["tops"].shape[1]] = result["tops"]
    vectors = np.array([r["cosines"] for r, c in zip(results, rows, strict=True) if c["name"] == ALIGNED])
    ratios = {name: problems.DeepLinear(**setting.parameters).width_ratio for name, setting in SETTINGS.items()}
    TABLE.write(
        names=names,
        parameters=[json.dumps(setting.parameters) for setting in SETTINGS.values()],
        horizon=[setting.steps for setting in SETTINGS.values()],
        layers=[(*setting.layers, -1)[:2] for setting in SETTINGS.values()],
        setting=[names.index(row["name"]) for row in rows],
        size=[dimension(row["size"], ratios[row["name"]]) for row in rows],
        networks=[row["count"] for row in rows],
        tops=tops.astype(np.float32),
        right=vectors[:, 0].astype(np.float32),
        left=vectors[:, 1].astype(np.float32),
        map_scales=MAP_SCALES,
        map_stds=MAP_STDS,
        map_tops=tops_of_map.astype(np.float32),
    )


if __name__ == "__main__":
    main()
