"""A small GPT-style transformer learns the next token: spectra of its matrices, with many outputs and with two.

Needs PyTorch (`pip install -e "lib[transformer]"`); the rest of the book does not. Run from the repository's root,
on a CPU or with `--device cuda` on a GPU; the stored table is made by these lines, 45 minutes on one core (each run
keeps the command that it was made by, parts of these):

    python experiments/transformer.py --widths 128 256 512 --seeds 3
    python experiments/transformer.py --widths 128 256 512 --seeds 3 --outputs 2 --rate-of 1024
    for N in 128 256 512; do python experiments/transformer.py --widths $N --outputs $N --rate-of 1024; done
    python experiments/transformer.py --widths 1024 --seeds 1 --outputs 1024

Every line writes experiments/transformer.npz, with all runs that experiments/.store then has of the same code, steps
and blocks. A run that is killed goes on from its last checkpoint, a line that is killed where it was.

The network: token and position embeddings of width N; blocks of causal attention and of an MLP 4N wide, gelu, each
on the layer-normalized stream and added to it; a last layer norm; a readout of its own. Norms have no parameters,
nothing has biases. Heads are HEAD wide, so that their number grows with N. Maximal update parametrization for Adam
(Yang et al. 2022, arXiv:2203.03466, tables 3 and 8), N = BASE being an ordinary network:

    matrices                               variance at the start    factor         rate of Adam
    embeddings (tokens, positions) (., N)  1                        1              rate
    query, key, value, output (N, N)       1/N                      1              rate BASE/N
    up (4N, N); down (N, 4N)               1/N; 1/(4N)              1              rate BASE/N
    readout (C, N)                         1/BASE                   BASE/N         rate
    attention                                                       q k / HEAD

The text is tasks.tokens(VOCABULARY), every tenth STRETCH of tokens kept for validation (the help repeats itself, so
that some of it is known); a step sees ROWS windows of CONTEXT tokens, the same ones at every width. With VOCABULARY
outputs the network learns the next token, with 2 outputs whether the next token is a word of letters: same text, same
network, same steps. `rate` is chosen for each of the two by one rule: at width TUNED_AT, of RATES, the gentlest whose
loss after TUNED steps is within WITHIN of the best. With 2 outputs the network is also trained at the rate of the
other, so that nothing differs but the number of outputs; and so it is with C = N outputs, the C - 1 most frequent
tokens and one for all others.

The deciding number: the distance (Kolmogorov-Smirnov) of a matrix's n singular values, the k = min(2 C, n/20) largest
removed, from the law of the start. Table: `matrices` (6 a block), `marks`; per run `outputs`, `width`, `seed`,
`rate`, `command`, `versions`; `loss` (runs, steps); `validation` (runs, marks); (runs, marks, matrices):
`distance`, the deciding number, `top`, the largest singular value, `beyond`, how many are above MARGIN times the edge
of the start, `rank`, the stable rank |dW|_F^2/|dW|^2 of the change (0 at the start), `moved`, |dW|_F/|W(0)|_F.
`rescaled` (runs, matrices, 2): the factor by which the law of the start fits best at the end, and its distance then.
`predicted` (runs, matrices, KEPT): outliers at the end by the Gram form from the k leading directions of the change,
descending, 0 where there is none. `values_I` of run I: (marks, matrices, N), all singular values, descending.
`tuned_outputs`, `rates`, `tuning` (outputs, rates): the sweep. `text`: hash of the text.
"""

import argparse
import hashlib
import itertools
import json
import os
import platform
import shlex
import sys
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy import linalg
from spectral_dynamics import networks, sweeps
from spectral_dynamics.spectra import laws, many_outputs, outliers
from spectral_experiments import tasks

VOCABULARY, ROWS, CONTEXT, STRETCH = 1024, 16, 64, 1024
HEAD, BASE = 32, 128
ADAM = {"betas": (0.9, 0.95), "eps": 1e-12}  # gradients are of order 1/N: eps far below them at every width
MARKS = (0, 1 / 8, 1 / 4, 1 / 2, 1)  # of the training
TUNED_AT, TUNED, RATES, WITHIN, AVERAGED = 128, 200, np.ldexp(1.0, np.arange(-13, -3)), 0.1, 20
HELD_OUT = 8  # batches of validation
MARGIN = 1.02  # of the edge: far more than the largest value of a finite random matrix exceeds it by
KEPT = 60
MATRICES = ("query", "key", "value", "output", "up", "down")


@dataclass(frozen=True)
class Run:
    """One network to train; `made_up`: on a text that is the same in every version of Python."""

    outputs: int
    width: int
    seed: int
    rate: float
    steps: int = 400
    blocks: int = 1
    dtype: str = "float32"
    made_up: bool = False

    @property
    def marks(self) -> list[int]:
        """The steps at which spectra are taken."""
        return [round(mark * self.steps) for mark in MARKS]

    @property
    def matrices(self) -> list[str]:
        """Names of the hidden matrices."""
        return [f"{name} {block}" for block in range(1, self.blocks + 1) for name in MATRICES]


# Text


def stream(outputs: int, made_up: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The tokens, and each as a target: itself, or outputs - 1 if it is rarer; with 2, whether it is a word."""
    tokens = tasks.tokens(VOCABULARY, text(made_up))
    if not 2 <= outputs <= VOCABULARY:
        raise ValueError(f"outputs must be 2 (is it a word?) to {VOCABULARY} (which token?), got {outputs}")
    return tokens, words(made_up) if outputs == 2 else np.minimum(tokens, outputs - 1)


def text(made_up: bool) -> str:
    """What is read: Python's help texts, or twelve stretches of nothing."""
    return tasks.made_up(12 * STRETCH) if made_up else tasks.text()


@cache
def words(made_up: bool = False) -> np.ndarray:
    """Which tokens are words of letters, 1, and which numbers and signs, 0."""
    return np.array([int("a" <= one[0] <= "z") for one in tasks.apart(text(made_up))])


def batch(outputs: int, seed: int, step: int, held_out: bool = False, made_up: bool = False) -> tuple:
    """Windows (ROWS, CONTEXT) and the targets of their next tokens; of `step` alone, so that a run can be resumed."""
    tokens, targets = stream(outputs, made_up)
    stretches = np.arange(len(tokens) // STRETCH)
    rng, chosen = np.random.default_rng([seed, step, held_out]), stretches[(stretches % 10 == 9) == held_out]
    starts = STRETCH * rng.choice(chosen, size=ROWS) + rng.integers(STRETCH - CONTEXT, size=ROWS)
    places = starts[:, None] + np.arange(CONTEXT)
    return tokens[places], targets[places + 1]


# The network


def initial(run: Run) -> dict[str, np.ndarray]:
    """All parameters at the start, without torch, so that the start of a stored run can be looked at."""
    rng, width = np.random.default_rng([run.seed, run.width]), run.width
    if width % HEAD:
        raise ValueError(f"width must be a multiple of {HEAD}, the width of a head, got {width}")
    shapes = {"token": (VOCABULARY, width, 1), "position": (CONTEXT, width, 1), "readout": (run.outputs, width, BASE)}
    for name in run.matrices:
        rows = 4 * width if name.startswith("up") else width
        columns = 4 * width if name.startswith("down") else width
        shapes[name] = (rows, columns, columns)
    return {
        name: (rng.standard_normal((rows, columns)) / np.sqrt(fan_in)).astype(run.dtype)
        for name, (rows, columns, fan_in) in shapes.items()
    }


def logits(weights: dict, tokens, blocks: int):
    """Outputs (rows, context, C)."""
    from torch.nn import functional

    width = weights["token"].shape[1]
    flow = weights["token"][tokens] + weights["position"][: tokens.shape[1]]
    for block in range(1, blocks + 1):
        query, key, value, output, up, down = (weights[f"{name} {block}"] for name in MATRICES)
        x = functional.layer_norm(flow, (width,))
        heads = [(x @ matrix.T).unflatten(-1, (-1, HEAD)).transpose(1, 2) for matrix in (query, key, value)]
        seen = functional.scaled_dot_product_attention(*heads, is_causal=True, scale=1 / HEAD)
        flow = flow + seen.transpose(1, 2).flatten(2) @ output.T
        x = functional.layer_norm(flow, (width,))
        flow = flow + functional.gelu(x @ up.T) @ down.T
    return BASE / width * (functional.layer_norm(flow, (width,)) @ weights["readout"].T)


def cross_entropy(weights: dict, windows, targets, blocks: int):
    """Loss of a batch, in nats."""
    import torch

    device = weights["token"].device
    windows, targets = (torch.from_numpy(one).to(device) for one in (windows, targets))
    return torch.nn.functional.cross_entropy(logits(weights, windows, blocks).flatten(0, 1), targets.flatten())


def adam(weights: dict, run: Run):
    """Adam with the rates of the maximal update parametrization."""
    import torch

    hidden = [weights[name] for name in run.matrices]
    others = [one for name, one in weights.items() if name not in run.matrices]
    groups = [{"params": others, "lr": run.rate}, {"params": hidden, "lr": run.rate * BASE / run.width}]
    return torch.optim.Adam(groups, **ADAM)


# One run


def train(run: Run, store: Path, device: str = "cpu") -> dict[str, np.ndarray]:
    """Trains one network, or goes on with it, or reads it if it is done. Raises FloatingPointError if it diverges."""
    import torch

    done, kept = (store / f"{label(run)}{suffix}" for suffix in (".npz", ".pt"))
    if done.exists():
        with np.load(done) as file:
            return {key: file[key] for key in file.files}
    store.mkdir(parents=True, exist_ok=True)
    start = initial(run)
    weights = {key: torch.tensor(one, device=device, requires_grad=True) for key, one in start.items()}
    optimizer = adam(weights, run)
    losses, found = _resumed(kept, weights, optimizer) if kept.exists() else ([], [measure(run, start, weights)])
    for step in range(len(losses), run.steps):
        loss = cross_entropy(weights, *batch(run.outputs, run.seed, step, made_up=run.made_up), run.blocks)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is not finite after {step} steps of {run}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step + 1 in run.marks:
            found.append(measure(run, start, weights))
        if (step + 1) % max(1, run.steps // 8) == 0:
            state = {"losses": losses, "found": found, "weights": weights, "optimizer": optimizer.state_dict()}
            _replace(kept, partial(torch.save, state))
    result = {key: np.array([one[key] for one in found]) for key in found[0]} | {"loss": np.array(losses)}
    result |= {"predicted": predicted(run, start, weights), "versions": versions(device)}
    result |= {"command": shlex.join(["python", "experiments/transformer.py", *sys.argv[1:]])}
    result |= {"run": json.dumps(asdict(run)), "text": tasks.text_hash()}
    sweeps.write(done, **result)
    kept.unlink(missing_ok=True)
    return train(run, store, device)


def _resumed(kept: Path, weights: dict, optimizer) -> tuple[list, list]:
    """Losses and measurements up to the last checkpoint, whose state weights and optimizer take on."""
    import torch

    saved = torch.load(kept, map_location=next(iter(weights.values())).device, weights_only=False)
    optimizer.load_state_dict(saved["optimizer"])
    with torch.no_grad():
        for key, one in weights.items():
            one.copy_(saved["weights"][key])
    return saved["losses"], saved["found"]


def _replace(path: Path, write) -> None:
    """Writes a file whole or not at all."""
    part = path.with_name(f"part-{path.name}")
    write(part)
    os.replace(part, path)


def label(run: Run) -> str:
    """Of the stored run: all that its numbers depend on besides the code, which has a folder of its own."""
    return hashlib.sha256(repr((asdict(run), tasks.text_hash())).encode()).hexdigest()[:24]


def versions(device: str) -> str:
    """What a run was made with."""
    import torch

    chip = torch.cuda.get_device_name() if device.startswith("cuda") else "cpu"
    return f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}, {chip}"


def measure(run: Run, start: dict, weights: dict) -> dict[str, np.ndarray]:
    """Of every hidden matrix now: singular values, and of its change stable rank and size; the validation loss."""
    import torch

    values, rank, moved = [], [], []
    for key in run.matrices:
        now = _array(weights[key])
        values.append(singular_values(now))
        change = singular_values(now - start[key])
        rank.append(np.sum(change**2) / change[0] ** 2 if change[0] else 0.0)
        moved.append(np.linalg.norm(change) / np.linalg.norm(start[key]))
    with torch.no_grad():
        held_out = [batch(run.outputs, 0, number, True, run.made_up) for number in range(HELD_OUT)]
        loss = np.mean([cross_entropy(weights, *one, run.blocks).item() for one in held_out])
    return {"values": np.array(values), "rank": rank, "moved": moved, "validation": loss}


def _array(weight) -> np.ndarray:
    return weight.detach().cpu().numpy().astype(float)


def singular_values(matrix: np.ndarray) -> np.ndarray:
    """Of the shorter side, descending, in double precision by the Gram matrix: good to 1e-7 of the largest."""
    gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    return np.sqrt(np.maximum(linalg.eigvalsh(gram.astype(float))[::-1], 0))


def predicted(run: Run, start: dict, weights: dict) -> np.ndarray:
    """Outliers (matrices, KEPT) by the Gram form from the k leading directions of the change and their images."""
    found = []
    for key in run.matrices:
        before, now = start[key].astype(float), _array(weights[key])
        recording = networks.directions(before, now, removed(run.outputs, min(now.shape)), matvecs=1)
        values = outliers.from_recording(recording, weight_variance=1.0).singular_values
        found.append(np.concatenate([values, np.zeros(KEPT)])[:KEPT])
    return np.array(found)


# What is looked at


def removed(outputs: int, count: int) -> int:
    """k = min(2 outputs, n/20) of n singular values."""
    return min(2 * outputs, count // 20)


@cache
def law(matrix: str) -> laws.SingularValues:
    """Of the singular values of a matrix at the start: all of them, of the shorter side."""
    if matrix.startswith("up"):
        return laws.singular_value_bulk(1 / 4, 4.0)  # transposed: N x 4N, entries of variance 4/(4N)
    return laws.singular_value_bulk(1 / 4 if matrix.startswith("down") else 1.0, 1.0)


def deciding_number(matrix: str, values, outputs: int) -> float:
    """The distance of all singular values of one matrix, the k largest removed, from its law at the start."""
    return many_outputs.distance(values, law(matrix), removed=removed(outputs, len(values)))


def rescaled(matrix: str, values, outputs: int) -> tuple[float, float]:
    """The factor by which the law of the start comes nearest to the values, and how far it then is from them.

    Noise that is added to every entry widens the bulk and leaves its shape.
    """
    scales = np.geomspace(0.8, 5, 93)
    away = [deciding_number(matrix, values / scale, outputs) for scale in scales]
    return float(scales[np.argmin(away)]), float(np.min(away))


def beyond(matrix: str, values) -> int:
    """How many singular values are above MARGIN times the edge of the start."""
    return int(np.sum(values > MARGIN * law(matrix).edges[-1, 1]))


# The table


def tune(like: Run, store: Path, device: str = "cpu", rates=None) -> np.ndarray:
    """Mean loss of the last AVERAGED steps of a run for each of RATES; inf where it diverges."""
    found = []
    for rate in RATES if rates is None else rates:
        try:
            found.append(train(replace(like, rate=float(rate)), store, device)["loss"][-AVERAGED:].mean())
        except FloatingPointError:
            found.append(np.inf)
    return np.array(found)


def gentlest(losses: np.ndarray) -> float:
    """The smallest rate that comes within WITHIN of the best loss."""
    return float(RATES[np.flatnonzero(losses <= losses.min() + WITHIN)[0]])


def table(rows: list[tuple[Run, dict]], tuning: dict[int, np.ndarray], precision=np.float32) -> dict[str, np.ndarray]:
    """Everything that is stored, of runs that share steps and blocks."""
    first = rows[0][0]
    found = {key: np.array([getattr(run, key) for run, _ in rows]) for key in ("outputs", "width", "seed", "rate")}
    found |= {key: np.array([str(row[key]) for _, row in rows]) for key in ("command", "versions")}
    same = ("loss", "validation", "rank", "moved", "predicted")
    found |= {key: np.array([row[key] for _, row in rows], precision) for key in same}
    measures = {
        "distance": lambda run, matrix, values: deciding_number(matrix, values, run.outputs),
        "top": lambda run, matrix, values: values.max(),
        "beyond": lambda run, matrix, values: beyond(matrix, values),
    }
    for key, of in measures.items():
        numbers = [
            [[of(r, *pair) for pair in zip(r.matrices, m, strict=True)] for m in row["values"].astype(precision)]
            for r, row in rows
        ]
        found[key] = np.array(numbers, np.int32 if key == "beyond" else precision)
    last = [zip(run.matrices, row["values"][-1].astype(precision), strict=True) for run, row in rows]
    fits = [[rescaled(*pair, run.outputs) for pair in pairs] for pairs, (run, _) in zip(last, rows, strict=True)]
    found["rescaled"] = np.array(fits, precision)
    found |= {f"values_{number}": row["values"].astype(precision) for number, (_, row) in enumerate(rows)}
    found |= {"matrices": np.array(first.matrices), "marks": np.array(first.marks), "rates": RATES}
    found |= {"tuned_outputs": np.array(list(tuning)), "tuning": np.array(list(tuning.values()))}
    return found | {"text": np.array(tasks.text_hash())}


def stored(like: Run, rate: dict[int, float], store: Path) -> list[tuple[Run, dict]]:
    """All runs that are done on this text, with as many steps and blocks as `like` and the chosen rates."""
    found = []
    for path in store.glob("*.npz"):
        with np.load(path) as file:
            run, row = Run(**json.loads(str(file["run"]))), {key: file[key] for key in file.files}
        same = (run.steps, run.blocks) == (like.steps, like.blocks) and run.rate in rate.values()
        if same and row["text"] == tasks.text_hash():
            found.append((run, row))
    return sorted(found, key=lambda pair: (-pair[0].outputs, pair[0].rate, pair[0].width, pair[0].seed))


# That the code still makes it


def tiny(outputs: int) -> dict[str, np.ndarray]:
    """All that the table keeps of one small network."""
    run = Run(outputs, width=32, seed=1, rate=2.0**-7, steps=8, dtype="float64", made_up=True)
    with TemporaryDirectory() as folder:
        found = table([(run, train(run, Path(folder)))], {}, np.float64)
    measured = ("loss", "validation", "rank", "moved", "predicted", "distance", "top", "beyond", "rescaled")
    return {key: found[key] for key in (*measured, "values_0")}


def tiny_sweep(outputs: int) -> np.ndarray:
    """Every third of RATES, two steps each."""
    run = Run(outputs, width=32, seed=0, rate=1.0, steps=2, dtype="float64", made_up=True)
    with TemporaryDirectory() as folder:
        return tune(run, Path(folder), rates=RATES[::3])


def again(outputs: int, known: dict) -> tuple[dict, dict]:
    """The first narrow network, an eighth of its training once more: single precision's rounding is still small."""
    number = np.flatnonzero((known["width"] == 128) & (known["outputs"] == outputs))[0]
    run = Run(outputs, 128, int(known["seed"][number]), float(known["rate"][number]), steps=int(known["marks"][1]))
    with TemporaryDirectory() as folder:
        found = table([(run, train(run, Path(folder)))], {})
    measured = ("validation", "rank", "moved", "distance", "top")
    stored_of = {key: known[key][number, :2] for key in measured} | {"loss": known["loss"][number, : run.steps]}
    return {key: found[key][0, [0, -1]] for key in measured} | {"loss": found["loss"][0]}, stored_of


TABLE = sweeps.Table(
    Path(__file__).with_suffix(".npz"),
    constants=dict(
        VOCABULARY=VOCABULARY, ROWS=ROWS, CONTEXT=CONTEXT, STRETCH=STRETCH, HEAD=HEAD, BASE=BASE, ADAM=ADAM
    )
    | dict(MARKS=MARKS, TUNED_AT=TUNED_AT, TUNED=TUNED, RATES=RATES, WITHIN=WITHIN, AVERAGED=AVERAGED)
    | dict(HELD_OUT=HELD_OUT, MARGIN=MARGIN, KEPT=KEPT, MATRICES=MATRICES),
    witnesses={f"{outputs} outputs": partial(tiny, outputs) for outputs in (VOCABULARY, 2, 32)}
    | {f"sweep of rates, {outputs} outputs": partial(tiny_sweep, outputs) for outputs in (VOCABULARY, 2)},
    rows={f"{outputs} outputs": partial(again, outputs) for outputs in (VOCABULARY, 2, 128)},
    close=2e-3,
    needs="torch",
)


def main(argv=None, store: Path | None = None, path: Path = TABLE.path) -> None:
    """Tunes, trains what is asked for, the narrow networks first, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 256, 512, 1024])
    parser.add_argument("--outputs", type=int, nargs="+", default=[VOCABULARY, 2])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--rate-of", type=int, choices=(VOCABULARY, 2), help="whose rate is taken, by default the own one"
    )
    parser.add_argument("--steps", type=int, default=400, help="a multiple of 8")
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    asked = parser.parse_args(argv)
    if asked.steps < 8 or asked.steps % 8:
        parser.error(f"--steps must be a multiple of 8, got {asked.steps}")
    if not asked.rate_of and not set(asked.outputs) <= {VOCABULARY, 2}:
        parser.error(f"--rate-of is needed for other outputs than {VOCABULARY} and 2")
    made, kinds = replace(TABLE, path=path), (VOCABULARY, 2)
    store = store or made.store
    first = {outputs: Run(outputs, TUNED_AT, 0, 1.0, TUNED, asked.blocks) for outputs in kinds}
    tuning = {outputs: tune(first[outputs], store, asked.device) for outputs in kinds}
    rate = {outputs: gentlest(losses) for outputs, losses in tuning.items()}

    for width, seed, outputs in itertools.product(asked.widths, range(asked.seeds), asked.outputs):
        run = Run(outputs, width, seed, rate[asked.rate_of or outputs], asked.steps, asked.blocks)
        row = train(run, store, asked.device)
        print(run, f"loss {row['loss'][-AVERAGED:].mean():.3f}, held out {row['validation'][-1]:.3f}", flush=True)
    made.write(**table(stored(run, rate, store), tuning))


if __name__ == "__main__":
    main()
