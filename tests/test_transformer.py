"""The recorded transformer: what its table says, and, where PyTorch is installed, that it is made as it says."""

import numpy as np
import pytest
import spectral_experiments
from spectral_dynamics.spectra import many_outputs
from spectral_experiments import real_tasks, transformer

THRESHOLD = real_tasks.THRESHOLD
WIDTHS = (128, 256, 512)  # with three seeds
SMALL = transformer.Run(outputs=1024, width=32, seed=5, rate=2.0**-8, steps=16)


@pytest.fixture(scope="module")
def table():
    return spectral_experiments.table("transformer")


def run(table, number: int):
    given = {key: table[key][number].item() for key in ("outputs", "width", "seed", "rate")}
    return transformer.Run(**given, steps=int(table["marks"][-1]))


def test_every_run_says_what_it_was_made_with(table):
    assert len(str(table["text"])) == 16 and int(str(table["text"]), 16)
    for command, versions in zip(table["command"], table["versions"], strict=True):
        assert command.startswith("python experiments/transformer.py --widths")
        assert [part.split()[0] for part in versions.split(", ")[:3]] == ["Python", "torch", "numpy"]


def test_the_table_has_the_shapes_that_it_says(table):
    runs, marks, matrices = len(table["width"]), len(table["marks"]), len(table["matrices"])
    assert matrices == 6 and marks == 5
    assert table["loss"].shape == (runs, table["marks"][-1]) and table["validation"].shape == (runs, marks)
    for key in ("distance", "top", "beyond", "rank", "moved"):
        assert table[key].shape == (runs, marks, matrices)
    for number, width in enumerate(table["width"]):
        values = table[f"values_{number}"]
        assert values.shape == (marks, matrices, width) and np.all(np.diff(values) <= 0)
    assert all(np.isfinite(table[key]).all() for key in ("loss", "validation", "distance", "rank", "predicted"))


def test_what_is_stored_of_a_spectrum_follows_from_it(table):
    for number in (0, len(table["width"]) - 1):
        made, values = run(table, number), table[f"values_{number}"][-1]
        pairs = list(zip(made.matrices, values, strict=True))
        again = [transformer.deciding_number(*pair, made.outputs) for pair in pairs]
        assert table["distance"][number, -1] == pytest.approx(again, abs=1e-6)
        assert table["beyond"][number, -1].tolist() == [transformer.beyond(*pair) for pair in pairs]
        assert table["top"][number, -1] == pytest.approx(values[:, 0])


def test_stored_runs_start_from_independent_normal_entries(table):
    number = np.flatnonzero(table["width"] == 128)[0]
    made = run(table, number)
    start = transformer.initial(made)
    for name, values in zip(made.matrices, table[f"values_{number}"][0], strict=True):
        assert np.linalg.svd(start[name], compute_uv=False) == pytest.approx(values, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("matrix", ["query 1", "up 1", "down 1"])
def test_the_law_of_the_start_is_that_of_the_shorter_side(table, matrix):
    for number in np.flatnonzero(table["width"] == 512):
        values = table[f"values_{number}"][0, list(table["matrices"]).index(matrix)]
        assert many_outputs.distance(values, transformer.law(matrix)) < 0.02
        assert transformer.beyond(matrix, values) == 0
        assert values[0] == pytest.approx(transformer.law(matrix).edges[-1, 1], rel=0.02)


def test_entries_at_the_start_have_the_variances_of_the_parametrization():
    start = transformer.initial(transformer.Run(1024, 512, 0, 0.01))
    expected = {
        "token": 1,
        "position": 1,
        "readout": 1 / 128,
        "query 1": 1 / 512,
        "up 1": 1 / 512,
        "down 1": 1 / 2048,
    }
    for name, variance in expected.items():
        assert np.var(start[name], dtype=float) == pytest.approx(variance, rel=0.03)


def test_targets_are_the_next_tokens_the_rare_ones_together_or_words():
    windows, targets = transformer.batch(1024, 0, 3)
    assert np.array_equal(targets[:, :-1], windows[:, 1:])
    assert np.array_equal(transformer.batch(100, 0, 3)[1], np.minimum(targets, 99))
    words = transformer.batch(2, 0, 3)[1]
    for token in range(20):  # the most frequent: words or signs, always
        assert len(set(words[targets == token])) <= 1
    assert 0.3 < words.mean() < 0.7
    with pytest.raises(ValueError, match="outputs must be 2"):
        transformer.stream(1025)


def test_no_token_of_the_validation_is_trained_on(monkeypatch):
    places = np.arange(len(transformer.stream(1024)[0]))
    monkeypatch.setattr(transformer, "stream", lambda outputs, made_up: (places, places))
    trained = np.concatenate([np.stack(transformer.batch(1024, 0, step)).ravel() for step in range(100)])
    held_out = np.concatenate([np.stack(transformer.batch(1024, 0, step, True)).ravel() for step in range(8)])
    assert not np.intersect1d(trained, held_out).size


def test_the_rates_were_chosen_by_the_rule(table):
    chosen = [transformer.gentlest(losses) for losses in table["tuning"]]
    assert set(table["rate"]) <= set(chosen)
    own = dict(zip(table["tuned_outputs"], chosen, strict=True))
    assert set(table["rate"][table["outputs"] == 1024]) == {own[1024]}


def test_the_loss_falls_all_the_way(table):
    quarters = table["loss"].reshape(len(table["loss"]), 4, -1).mean(axis=2)
    assert np.all(np.diff(quarters) < 0)
    assert np.all(table["validation"][:, -1] < table["validation"][:, 0])
    language = table["outputs"] == 1024
    assert np.all(np.diff(table["validation"][language]) < 0)


# Many outputs against two: `key` at the end, (seeds,), of one matrix


def at_the_end(table, key: str, matrix: str, outputs: int, width: int, rate_of: int):
    own = dict(zip(table["tuned_outputs"], map(transformer.gentlest, table["tuning"]), strict=True))
    chosen = (table["outputs"] == outputs) & (table["width"] == width) & (table["rate"] == own[rate_of])
    found = table[key][chosen, -1, list(table["matrices"]).index(matrix)]
    assert len(found) >= 3
    return found


@pytest.mark.parametrize("width", WIDTHS)
def test_each_at_its_own_rate_only_many_outputs_move_the_bulk(table, width):
    for matrix in ("up 1", "down 1"):
        assert at_the_end(table, "distance", matrix, 1024, width, 1024).min() > THRESHOLD
    for matrix in table["matrices"]:
        assert at_the_end(table, "distance", matrix, 2, width, 2).max() < THRESHOLD


@pytest.mark.parametrize("width", WIDTHS)
def test_at_the_same_rate_the_mlp_of_many_outputs_moves_further(table, width):
    for matrix, factor in {"up 1": 1.5, "down 1": 3}.items():
        many, two = (at_the_end(table, "distance", matrix, outputs, width, 1024) for outputs in (1024, 2))
        assert many.min() > factor * two.max()
    many, two = (at_the_end(table, "rank", "down 1", outputs, width, 1024) for outputs in (1024, 2))
    assert many.min() > 15 and two.max() < 3
    if width == 512:  # where what Adam does to any bulk has become small
        many, two = (at_the_end(table, "distance", "down 1", outputs, width, 1024) for outputs in (1024, 2))
        assert many.min() > THRESHOLD > two.max()


@pytest.mark.parametrize("width", WIDTHS)
def test_at_the_same_rate_query_and_key_move_as_far_with_two_outputs(table, width):
    for matrix in ("query 1", "key 1"):
        many, two = (at_the_end(table, "distance", matrix, outputs, width, 1024) for outputs in (1024, 2))
        assert many.mean() == pytest.approx(two.mean(), abs=0.03)


def test_with_as_many_outputs_as_neurons_the_rank_grows_and_the_bulk_still_moves_less(table):
    for matrix in ("up 1", "down 1"):
        away = [at_the_end(table, "distance", matrix, width, width, 1024) for width in WIDTHS]
        assert np.min(away) > THRESHOLD and np.all(np.diff(np.mean(away, axis=1)) < 0)
    rank = [at_the_end(table, "rank", "down 1", width, width, 1024).mean() for width in WIDTHS]
    assert np.all(np.diff(rank) > 0)


def test_changes_shrink_nearly_as_the_root_of_the_width(table):
    for matrix in table["matrices"]:
        column = table["moved"][:, -1, list(table["matrices"]).index(matrix)]
        moved = [column[(table["outputs"] == 1024) & (table["width"] == width)].mean() for width in (256, 1024)]
        assert np.log(moved[0] / moved[1]) / np.log(4) == pytest.approx(0.45, abs=0.06)


def test_attention_is_widened_as_by_noise_and_the_mlp_reshaped(table):
    many = (table["outputs"] == 1024) & (table["width"] >= 256)
    scale, away = np.moveaxis(table["rescaled"][many], 2, 0)
    assert np.all(scale > 1.03) and np.all(away[:, :4] < 0.06)
    assert np.all(away[:, 5] > 3 * away[:, :4].max(axis=1))


# With PyTorch


def test_a_run_that_is_killed_goes_on_to_the_same_numbers(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    whole, given, seen = transformer.train(SMALL, store=tmp_path / "whole"), transformer.batch, []

    def killed(outputs, seed, step, held_out=False, made_up=False):
        if not held_out:
            seen.append(step)
            if seen == list(range(8)):
                raise KeyboardInterrupt
        return given(outputs, seed, step, held_out, made_up)

    monkeypatch.setattr(transformer, "batch", killed)
    with pytest.raises(KeyboardInterrupt):
        transformer.train(SMALL, store=tmp_path / "killed")
    assert [path.suffix for path in (tmp_path / "killed").iterdir()] == [".pt"]
    again = transformer.train(SMALL, store=tmp_path / "killed")
    assert seen[8:] == list(range(6, SMALL.steps))  # from the last checkpoint
    assert [path.suffix for path in (tmp_path / "killed").iterdir()] == [".npz"]
    for key in ("loss", "validation", "values", "rank", "moved", "predicted"):
        assert again[key] == pytest.approx(whole[key], rel=1e-5, abs=1e-6)


def test_the_line_of_the_command_makes_a_table(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    for name, small in {"TUNED_AT": 32, "TUNED": 8, "RATES": np.array([2.0**-9, 2.0**-8])}.items():
        monkeypatch.setattr(transformer, name, small)
    line = ["--widths", "32", "--seeds", "2", "--steps", "16"]
    transformer.main(line, store=tmp_path / "store", path=tmp_path / "table.npz")
    with np.load(tmp_path / "table.npz") as file:
        assert file["outputs"].tolist() == [1024, 1024, 2, 2] and file["seed"].tolist() == [0, 1, 0, 1]
        assert file["marks"].tolist() == [0, 2, 4, 8, 16] and file["tuning"].shape == (2, 2)
        assert np.all(file["loss"][:2, -1] < file["loss"][:2, 0])
        assert np.all(file["rank"][:, 1:] >= 1) and not file["rank"][:, 0].any()


def test_a_token_is_not_seen_before_its_place():
    torch = pytest.importorskip("torch")
    weights = {name: torch.from_numpy(one) for name, one in transformer.initial(SMALL).items()}
    windows = torch.from_numpy(transformer.batch(1024, 0, 0)[0])
    changed = windows.clone()
    changed[:, 40:] = 7
    before, after = (transformer.logits(weights, one, SMALL.blocks) for one in (windows, changed))
    assert torch.allclose(before[:, :40], after[:, :40], atol=1e-5)
    assert not torch.allclose(before[:, 40:], after[:, 40:], atol=1e-2)


def test_rates_of_hidden_matrices_are_one_over_the_width():
    torch = pytest.importorskip("torch")
    rates = {}
    for width in (64, 256):
        wide = transformer.Run(1024, width, 0, 0.01, 8)
        weights = {name: torch.tensor(one, requires_grad=True) for name, one in transformer.initial(wide).items()}
        before = {name: one.detach().clone() for name, one in weights.items()}
        optimizer = transformer.adam(weights, wide)
        transformer.cross_entropy(weights, *transformer.batch(1024, 0, 0), wide.blocks).backward()
        optimizer.step()  # the first step of Adam moves every entry by its rate
        rates[width] = {name: (one - before[name]).abs().max().item() for name, one in weights.items()}
    for name in weights:
        ratio = 4 if name in wide.matrices else 1
        assert rates[64][name] / rates[256][name] == pytest.approx(ratio, rel=1e-3)
