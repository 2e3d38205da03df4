"""Sweeps: nothing is run twice, nothing is lost, and the line to infinite size is the right one."""

import ast
import copy
import functools
import importlib
import operator
import sys
import threading
import types
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import spectral_experiments
from spectral_dynamics import entries, errors, progress, sweeps

COUNTER = "runs.txt"


def counted(folder, base, seed):
    """A pure result, and a trace of having been run."""
    if base < 0:
        raise RuntimeError("this case cannot be run")
    with open(folder / COUNTER, "a", encoding="utf-8") as trace:
        trace.write("x")
    return np.array([base, seed]) + np.random.default_rng(seed).random()


def cases(folder, *bases):
    return [{"folder": folder, "base": base, "seed": seed} for base in bases for seed in (0, 1)]


def runs(folder):
    return len((folder / COUNTER).read_text(encoding="utf-8"))


def test_a_sweep_returns_every_result_in_order_and_runs_nothing_twice(tmp_path):
    store = tmp_path / "store"
    first = sweeps.run(counted, cases(tmp_path, 1, 2), store=store)
    assert [tuple(np.floor(value)) for value in first] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    again = sweeps.run(counted, cases(tmp_path, 1, 2, 3), store=store)
    assert np.array_equal(again[:4], first) and runs(tmp_path) == 6


def test_what_was_done_before_a_failure_is_kept(tmp_path):
    store = tmp_path / "store"
    with pytest.raises(RuntimeError, match="cannot be run"):
        sweeps.run(counted, cases(tmp_path, 1, -1), store=store)
    sweeps.run(counted, cases(tmp_path, 1), store=store)
    assert runs(tmp_path) == 2


def test_several_workers_return_the_same(tmp_path):
    one = sweeps.run(counted, cases(tmp_path, 1, 2), store=tmp_path / "one")
    two = sweeps.run(counted, cases(tmp_path, 1, 2), store=tmp_path / "two", workers=2)
    assert np.array_equal(one, two)


def runaway(step):
    raise errors.DivergenceError("training diverged", step, {"so far": step})


def unconverged(step):
    raise errors.ConvergenceError("no convergence", {"so far": step}, 0.5)


@pytest.mark.parametrize("function", [runaway, unconverged])
def test_an_error_comes_back_from_a_worker_with_all_it_carries(tmp_path, function):
    with pytest.raises(RuntimeError) as caught:
        sweeps.run(function, [{"step": 3}, {"step": 3}], store=tmp_path, workers=2)
    assert [one.partial for one in caught.value.errors.values()] == [{"so far": 3}] * 2


def sometimes(number):
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


ODD = [{"number": number} for number in range(5)]


@pytest.mark.parametrize("workers", [1, 2])
def test_one_case_that_fails_does_not_end_the_others(tmp_path, workers):
    with pytest.raises(errors.SweepError, match=r"2 of 5 cases failed, the first is cases\[1\].*1 is odd") as caught:
        sweeps.run(sometimes, ODD, store=tmp_path, workers=workers)
    assert caught.value.results == [0, None, 2, None, 4]
    assert {place: str(one) for place, one in caught.value.errors.items()} == {1: "1 is odd", 3: "3 is odd"}
    assert len(list(tmp_path.iterdir())) == 3
    returned = sweeps.run(sometimes, ODD, store=tmp_path, workers=workers, errors="return")
    assert returned[::2] == [0, 2, 4] and [type(one) for one in returned[1::2]] == [ValueError] * 2


def unportable(step):
    class Local(Exception):
        def __init__(self, first, second):
            super().__init__(first)

    if step == 0:
        raise Local("of a kind that no other process knows", None)
    return threading.Lock() if step == 1 else step


def test_errors_and_results_that_cannot_travel_are_one_more_failed_case(tmp_path):
    first, second, third = sweeps.run(
        unportable, [{"step": step} for step in range(3)], store=tmp_path, errors="return", workers=2
    )
    assert "Local: of a kind that no other process knows" in str(first)
    assert "pickle" in str(second) and third == 2


def stopped(folder, number):
    if number == 2:
        raise KeyboardInterrupt
    (folder / f"{number}.ran").touch()
    return number


def test_an_interruption_ends_all_at_once_and_keeps_what_is_there(tmp_path):
    store = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        sweeps.run(stopped, [{"folder": tmp_path, "number": number} for number in range(4)], store=store)
    assert len(list(store.iterdir())) == 2 and not (tmp_path / "3.ran").exists()


def test_equal_cases_are_run_once(tmp_path):
    chosen = [{"folder": tmp_path, "base": 1, "seed": 0}, {"seed": 0, "base": 1, "folder": tmp_path}]
    first, second = sweeps.run(counted, chosen, store=tmp_path / "store")
    assert np.array_equal(first, second) and runs(tmp_path) == 1


def test_a_bar_is_shown_when_asked_for_and_never_in_a_log(tmp_path, capsys, monkeypatch):
    tqdm = progress.tqdm
    monkeypatch.setattr(progress, "tqdm", lambda **options: tqdm(**{**options, "delay": 0}))
    sweeps.run(sometimes, ODD[::2], store=tmp_path / "quiet")
    assert capsys.readouterr().err == ""
    sweeps.run(sometimes, ODD[::2], store=tmp_path, progress=True)
    assert "sometimes: 100%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workers": 0}, "workers must be at least 1"),
        ({"store": None}, "store must be a folder, in which results are kept, got None"),
        ({"store": __file__}, "store must be a folder, got a file"),
        ({"errors": "ignore"}, "errors must be one of 'raise', 'return', got 'ignore'"),
        ({"cases": [(1, 2)]}, r"cases\[0\] must be a dictionary of arguments by name"),
        ({"function": Path}, "function must be a function, got"),
        ({"function": np.vectorize(abs)}, "function must be a function, got <numpy"),
        ({"function": "sometimes"}, "function must be a function, got 'sometimes'"),
    ],
)
def test_bad_arguments_of_a_sweep_are_refused_by_name(tmp_path, change, message):
    given = {"function": sometimes, "cases": ODD, "store": tmp_path} | change
    with pytest.raises(ValueError, match=message):
        sweeps.run(given.pop("function"), given.pop("cases"), **given)


# Which results are whose


def make(factor):
    def times(number):
        return factor * number

    return times


def bound(factor):
    return Multiplier(factor).times


@dataclass(frozen=True)
class Multiplier:
    factor: float

    def times(self, number):
        return self.factor * number


def with_a_default(factor):
    def times(number, factor=factor):
        return factor * number

    return times


def within_data(factor):
    steps = {"first": (make(factor), None)}
    return lambda number: steps["first"][0](number)


def cached(factor):
    once = functools.cache(make(factor))
    return lambda number: once(number)


def reader(factor, **more):
    """A function of a module of its own, where FACTOR is a global that another function reads."""
    module = types.ModuleType("written")
    module.__dict__.update({"FACTOR": factor, "np": np} | more)
    inner = "def times(number):\n    return [FACTOR * one for one in [number]][0]\n"
    exec(inner + "def outer(number):\n    return times(number)", module.__dict__)
    return module.outer


KINDS = {
    "a closure": make,
    "a lambda": lambda factor: lambda number: factor * number,
    "a partial": lambda factor: functools.partial(lambda factor, number: factor * number, factor),
    "a bound method": bound,
    "a default value": with_a_default,
    "a global of what is called": reader,
    "a function in captured data": within_data,
    "a cached function": cached,
    "an array": lambda factor: make(np.array(factor)),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_same_source_with_other_captured_values_has_other_results(tmp_path, kind):
    for factor in (2, 5, 2):
        assert sweeps.run(kind(factor), [{"number": 3}], store=tmp_path) == [3 * factor]
    assert len(list(tmp_path.iterdir())) == 2


def test_two_lambdas_of_one_line_have_results_of_their_own(tmp_path):
    both = [lambda number: number + 1, lambda number: number + 2]
    assert [sweeps.run(one, [{"number": 0}], store=tmp_path) for one in both] == [[1], [2]]


LEVEL = 1.0


def above(number):
    return number - level()


def level():
    return LEVEL


def test_a_changed_global_is_seen(tmp_path, monkeypatch):
    assert sweeps.run(above, [{"number": 3}], store=tmp_path) == [2.0]
    monkeypatch.setitem(globals(), "LEVEL", 2.0)
    assert sweeps.run(above, [{"number": 3}], store=tmp_path) == [1.0]


def test_what_is_not_read_and_how_it_is_laid_out_is_not_looked_at(tmp_path):
    for more in ({}, {"unread": object()}):
        sweeps.run(reader(2, **more), [{"number": 3}], store=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


class Opaque:
    def __repr__(self):
        return "Opaque"


def drawn(seed, rng=None):
    return NOISE.random()


NOISE = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("function", "case", "message"),
    [
        (make(Opaque()), {"number": 1}, r"factor, captured by make.<locals>.times, must be made of.*got Opaque"),
        (drawn, {"seed": 1}, r"NOISE, a global of drawn, must be.*got Generator.*results of drawn"),
        (
            reader({"a": [Opaque()]}),
            {"number": 1},
            r"FACTOR, a global of times,\['a'\]\[0\] must be.*results of outer",
        ),
        (functools.partial(above, Opaque()), {}, r"above\[1\]\[0\] must be made of.*got Opaque"),
        (with_a_default(Opaque()), {"number": 1}, r"a default value of .*times\[0\]\[0\] must be.*got Opaque"),
        (sometimes, {"number": np.random.default_rng(0)}, r"cases\[0\]\['number'\] must be made of.*got Generator"),
        (sometimes, {"number": np.random.default_rng(0).random}, r"cases\[0\]\['number'\]\[1\] must be made of"),
    ],
)
def test_what_no_key_can_be_made_of_is_refused_with_the_names_of_both(tmp_path, function, case, message):
    with pytest.raises(ValueError, match=message):
        sweeps.run(function, [case], store=tmp_path)


def swept(name):
    """The functions that an experiment hands to `run`, by name."""
    module = importlib.import_module(f"spectral_experiments.{name}")
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "sweeps.run"]
    return module, {ast.unparse(call.args[0]) for call in calls}


SWEPT = sorted(
    path.stem
    for path in Path(spectral_experiments.__file__).parent.glob("*.py")
    if "sweeps.run(" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", SWEPT)
def test_every_experiment_can_be_swept(name, monkeypatch, tmp_path):
    """Its functions, and the cases of its first sweep, up to where they would be run."""
    module, functions = swept(name)
    assert functions
    for one in functions:
        assert len(entries.keys(operator.attrgetter(one)(module), [{}])) == 1

    def without_running(function, cases, **options):
        keys = entries.keys(function, cases)
        assert cases and len(set(keys)) == len(cases)
        raise KeyboardInterrupt

    monkeypatch.setattr(sweeps, "run", without_running)
    monkeypatch.setattr(sweeps.Table, "store", tmp_path)
    with pytest.raises(KeyboardInterrupt):
        module.main(*[1] * module.main.__code__.co_argcount)


# Damage


def test_a_damaged_entry_is_seen_and_computed_again(tmp_path):
    """A flipped byte at ten places, an empty entry, a cut one, one in the place of another."""
    store, chosen = tmp_path / "store", cases(tmp_path, 1)
    first = sweeps.run(counted, chosen, store=store)
    one, other = sorted(store.iterdir())
    whole, rng = one.read_bytes(), np.random.default_rng(0)
    damaged = [b"", whole[:-1], whole[:20], other.read_bytes()]
    for place in [0, 31, 32, len(whole) - 1, *rng.integers(len(whole), size=6)]:
        damaged.append(whole[:place] + bytes([whole[place] ^ (1 << rng.integers(8))]) + whole[place + 1 :])
    for number, content in enumerate(damaged, start=1):
        one.write_bytes(content)
        with pytest.warns(UserWarning, match="a stored result is damaged and is computed again, its checksum"):
            again = sweeps.run(counted, chosen, store=store)
        assert np.array_equal(again, first) and runs(tmp_path) == 2 + number and one.read_bytes() == whole


def test_an_entry_that_cannot_be_unpickled_is_computed_again(tmp_path):
    """As when a class is gone: its bytes are whole."""
    sweeps.run(sometimes, ODD[:1], store=tmp_path)
    entries.write(next(tmp_path.iterdir()), b"cgone\nClass\n.")
    with pytest.warns(UserWarning, match="ModuleNotFoundError: No module named 'gone'"):
        assert sweeps.run(sometimes, ODD[:1], store=tmp_path) == [0]


# Results as one table

GRID = [{"name": name, "size": size, "seed": seed} for name in ("a", "b") for size in (10, 20) for seed in (0, 1)]


def test_a_table_of_numbers_is_tidy():
    table = sweeps.table(GRID, [{"loss": one["size"] + one["seed"], "step": 3} for one in GRID])
    frame = table.to_dataframe()
    assert list(frame.columns) == ["loss", "step", "name", "size", "seed"] and len(frame) == len(GRID)
    assert frame.groupby("size")["loss"].mean().to_dict() == {10: 10.5, 20: 20.5}
    assert sweeps.table(GRID, range(8))["result"].values.tolist() == list(range(8))


def test_a_table_of_arrays_has_their_dimensions_and_can_be_extrapolated():
    values = [np.full((3, 2), one["seed"] + 2.0 + 10 / one["size"]) for one in GRID]
    table = sweeps.table(GRID, [{"values": value, "loss": 1.0} for value in values])
    assert table["values"].dims == ("case", "values_0", "values_1") and table["loss"].dims == ("case",)
    chosen = table.where(table["name"] == "a", drop=True)
    assert chosen["values"].shape == (4, 3, 2)
    assert sweeps.extrapolate(table["size"], table["values"]).limit == pytest.approx(np.full((3, 2), 2.5))


def test_arguments_of_several_kinds_stand_in_a_table_as_they_are():
    table = sweeps.table([{"last": None, "marks": (1, 2)}, {"last": 3, "marks": (3, 4)}], [1.0, 2.0])
    assert table["last"].values.tolist() == [None, 3] and table["marks"].shape == (2, 2)


@pytest.mark.parametrize(
    ("cases", "results", "message"),
    [
        (GRID, [1.0], "results must be as many as cases, one or more, got 1 for 8 cases"),
        ([], [], "results must be as many as cases, one or more, got 0 for 0"),
        ([{"a": 1}, {"b": 1}], [1, 2], r"cases\[1\] must have the names of cases\[0\], a, got b"),
        ([{"a": 1}, 3], [1, 2], r"cases\[1\] must be a dictionary, got 3"),
        ([{"a": 1}, {"a": 2}], [{"x": 1}, {"y": 1}], r"results\[1\] must have the names of results\[0\], x, got y"),
        ([{"a": 1}, {"a": 2}], [{"x": 1}, 2], r"results\[1\] must have the names of results\[0\], x, got result"),
        (
            [{"a": 1}, {"a": 2}],
            [[1, 2], [1, 2, 3]],
            r"results\[1\]\['result'\] must have the shape of the first, \(2,\)",
        ),
        ([{"a": 1}, {"a": 2}], [1, [[1], [1, 2]]], r"results\[1\]\['result'\] must be a number, a text or an array"),
        ([{"a": 1}, {"a": 2}], [1, None], r"results\[1\] must be a result, got None: leave out"),
        (
            [{"a": 1}, {"a": 2}],
            [1, ValueError("no")],
            r"results\[1\] must be a result, got ValueError\('no'\): leave",
        ),
        ([{"a": 1}], [{"a": 2}], "results must have other names than the arguments of cases, got a in both"),
    ],
)
def test_what_makes_no_table_is_refused_by_name(cases, results, message):
    with pytest.raises(ValueError, match=message):
        sweeps.table(cases, results)


def test_without_xarray_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match=r'pip install "spectral-dynamics\[tables\]"'):
        sweeps.table(GRID, range(8))


# Stored tables


@dataclass(frozen=True)
class Given:
    rates: np.ndarray
    name: str


LONG = np.linspace(0, 1, 5000)
CONSTANTS = {
    "an entry in the middle of a long array": (LONG, np.where(np.arange(5000) == 2500, LONG + 1e-9, LONG)),
    "the last bit": (0.1, np.nextafter(0.1, 1)),
    "the sign of zero": (0.0, -0.0),
    "a type": (1, 1.0),
    "a truth value": (1, True),
    "a precision": (np.float64(0.5), np.float32(0.5)),
    "a shape": (np.zeros((2, 3)), np.zeros((3, 2))),
    "the order of a dictionary": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "list and tuple": ([1], (1,)),
    "text and number": ("1", 1),
    "a field of a dataclass": (Given(LONG, "x"), Given(LONG + 1e-16, "x")),
    "where a list ends": ([[1], 2], [[1, 2]]),
}


@pytest.mark.parametrize(("one", "other"), CONSTANTS.values(), ids=CONSTANTS)
def test_constants_are_told_apart_to_the_last_bit(one, other):
    assert sweeps.exact(one) != sweeps.exact(other)
    assert sweeps.exact(one) == sweeps.exact(copy.deepcopy(one))


def test_what_is_said_of_a_constant_does_not_depend_on_how_numpy_prints():
    given = {"all": [LONG, Given(LONG, "x"), np.float32(1 / 3)]}
    with np.printoptions(precision=1, threshold=2):
        short = sweeps.exact(given)
    assert short == sweeps.exact(given)


@pytest.mark.parametrize("bad", [lambda h: h, np.tanh, {1, 2}, object(), np.array([object()]), Path("x"), Given])
def test_constants_without_a_value_of_their_own_are_refused_by_name(bad):
    with pytest.raises(ValueError, match=r"ROWS\['tanh'\]\[1\] must be made of numbers"):
        sweeps.exact({"tanh": (1, bad)}, "ROWS")


def stored(folder, constants=None, factor=1.0, row=1.0):
    """A table of which everything can be changed."""
    return sweeps.Table(
        folder / "some.npz",
        constants=constants or {"STEPS": 3, "RATES": LONG},
        witnesses={"tiny, 1/2": lambda: {"loss": factor * np.array([1.0, np.inf, 0.5]), "step": -1}},
        rows={"first": lambda table: ({"loss": row * table["loss"]}, {"loss": table["loss"]})},
    )


@pytest.fixture
def written(tmp_path):
    stored(tmp_path).write(loss=np.arange(3.0), names=["a", "b"])
    return tmp_path


def test_a_table_is_read_as_it_was_written_without_what_bears_witness(written):
    table = sweeps.read(written / "some.npz")
    assert set(table) == {"loss", "names"} and np.array_equal(table["loss"], [0, 1, 2])
    same = stored(written)
    assert same.changed_constants() == same.changed_witnesses() == same.changed_rows() == []


def test_it_is_said_which_constant_has_changed(written):
    changed = stored(written, {"STEPS": 4, "RATES": LONG, "SEED": 1}).changed_constants()
    assert [text.split(":")[0] for text in changed] == ["constant STEPS", "constant SEED"]
    assert "made with 3, now it is 4" in changed[0]
    assert "now there is none" in stored(written, {"STEPS": 3}).changed_constants()[0]


def test_it_is_said_which_quantity_of_which_witness_has_changed_and_by_how_much(written):
    assert not stored(written, factor=1 + 1e-9).changed_witnesses()
    assert stored(written, factor=1 + 1e-6).changed_witnesses() == [
        "witness tiny, 1/2, loss: 1e-06 of its largest entry apart"
    ]


OTHERS = [{"loss": [1.0, 2.0], "step": -1}, {"loss": [1.0, np.nan, 0.5], "step": -1}, {"loss": 1.0}]


@pytest.mark.parametrize("now", OTHERS, ids=["shape", "infinity", "names"])
def test_another_shape_another_name_or_another_infinity_is_a_change(written, now):
    other = replace(stored(written), witnesses={"tiny, 1/2": lambda: now})
    assert len(other.changed_witnesses()) == 1
    gone = replace(stored(written), witnesses={"new": lambda: now})
    assert [text.split(":")[0] for text in gone.changed_witnesses()] == ["witness tiny, 1/2", "witness new"]


def test_results_of_other_code_or_constants_are_kept_elsewhere(tmp_path):
    made = stored(tmp_path)
    assert made.store == stored(tmp_path).store == stored(tmp_path, factor=1 + 1e-14).store
    others = [stored(tmp_path, factor=1.001), stored(tmp_path, {"STEPS": 4, "RATES": LONG})]
    assert len({one.store for one in [made, *others]}) == 3


def test_witnesses_are_refreshed_only_where_the_table_would_come_out_the_same(written):
    before = sweeps.read(written / "some.npz")
    for other in (stored(written, factor=2.0, row=1.01), stored(written, {"STEPS": 4}, factor=2.0)):
        with pytest.raises(ValueError, match=r"some\.npz must be made again"):
            other.refresh()
    assert stored(written, factor=2.0).changed_witnesses()
    stored(written, factor=2.0).refresh()
    assert not stored(written, factor=2.0).changed_witnesses()
    after = sweeps.read(written / "some.npz")
    assert all(np.array_equal(after[key], before[key]) for key in before)


def test_a_reader_never_meets_half_a_table(written, monkeypatch):
    whole, save = (written / "some.npz").read_bytes(), np.savez_compressed

    def interrupted(file, **arrays):
        file.write(b"half a table")
        file.flush()
        assert (written / "some.npz").read_bytes() == whole
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stored(written).write(loss=np.ones(3))
    assert [path.name for path in written.iterdir()] == ["some.npz"]
    monkeypatch.setattr(np, "savez_compressed", save)
    assert (written / "some.npz").read_bytes() == whole


def test_a_missing_and_a_damaged_table_are_said_to_be(written):
    with pytest.raises(FileNotFoundError, match=r"the table other\.npz is missing, other\.py makes it"):
        sweeps.read(written / "other.npz")
    path = written / "some.npz"
    whole = path.read_bytes()
    for damaged in (b"", whole[:200], b"version https://git-lfs", whole[:100] + b"\0" * 40 + whole[140:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"the table some\.npz is damaged"):
            sweeps.read(path)


def test_names_of_a_table_cannot_be_those_of_what_bears_witness(tmp_path):
    with pytest.raises(ValueError, match="other names than witnesses"):
        stored(tmp_path).write(witnesses=np.ones(2))
