"""Many cases, many seeds, several sizes: run them once, keep every result, and go to infinite size.

What is kept for good is a `Table`: arrays in a file, with the constants they were made with and *witnesses*, tiny
runs of the very functions that made them. A table is as good as its code for as long as its constants are the same
to the last bit and its witnesses come out the same to rounding; how that code is written may change.
"""

import hashlib
import json
import os
import pickle
import reprlib
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cloudpickle
import numpy as np
from joblib import Parallel, delayed
from joblib.parallel import get_active_backend

from . import arguments, entries
from .entries import exact
from .errors import SweepError
from .extrapolation import Extrapolation, extrapolate, line, pooled  # noqa: F401, part of this door
from .progress import bar

CONSTANTS, WITNESSES = "constants", "witnesses"  # what a table's file holds besides the table
ROUNDING = 1e-8  # of its largest entry: what a witness may be off by on another processor


def run(
    function: Callable,
    cases: Iterable[dict],
    *,
    store,
    workers: int = 1,
    errors: str = "raise",
    progress: bool | None = None,
) -> list:
    """[function(**case) for case in cases], each result on disk as soon as it is there, `workers` at a time.

    `function` must be pure: its result depends on its arguments alone, seeds included. `store`: a folder; a case
    found there is read, not run, so that an interrupted sweep goes on where it stopped; a damaged entry is run again,
    with a warning. What is found was made by the same function with the same captured and global values (see
    `entries`); where it calls other modules, `Table.store` is another folder when these do something else.
    On a cluster: `with joblib.parallel_config("dask"): run(...)`, with a client of dask.distributed. All its workers
    are used, results come back to be kept here, and a case that killed several workers has failed.
    `errors`: the other cases are run although one fails. "raise": then SweepError, a RuntimeError that carries all
    results and errors; "return": the list has exceptions in the places of the cases that failed.
    `progress`: a bar on standard error; by default only on a terminal, and only once a second has passed.
    Raises ValueError, also for a function or a case that no result could be told apart by.
    """
    workers = arguments.whole("workers", workers, at_least=1)
    arguments.one_of("errors", errors, ("raise", "return"))
    cases, folder = list(cases), _folder(store)
    keys = entries.keys(function, cases)
    found = {key: result for key in dict.fromkeys(keys) for result in _kept(folder / key)}
    missing = {key: case for key, case in zip(keys, cases, strict=True) if key not in found}
    name = getattr(function, "__name__", "sweep")
    with bar(name, len(missing) + len(found), progress, form=None, initial=len(found)) as ticks:
        for key, result, error in _outcomes(function, missing, workers):
            if error is None:
                entries.write(folder / key, result)
            found[key] = pickle.loads(result) if error is None else _Failure(error)
            ticks.update()
    results = [found[key] for key in keys]
    failed = {place: one.error for place, one in enumerate(results) if isinstance(one, _Failure)}
    if failed and errors == "raise":
        _raise(cases, [None if isinstance(one, _Failure) else one for one in results], failed)
    return [failed.get(place, one) for place, one in enumerate(results)]


def _raise(cases: list[dict], results: list, failed: dict[int, Exception]) -> None:
    place, error = next(iter(failed.items()))
    said = f"cases[{place}] = {reprlib.repr(cases[place])}: {type(error).__name__}: {error}"
    raise SweepError(f"{len(failed)} of {len(cases)} cases failed, the first is {said}", results, failed) from error


@dataclass(frozen=True)
class _Failure:
    """In the place of a result; a function may return exceptions, too."""

    error: Exception


def _outcomes(function: Callable, missing: dict[str, dict], workers: int) -> Iterable:
    """(key, pickled result, error) of each case, as they come. All wait in line at once: a cluster may grow."""
    if client := getattr(get_active_backend()[0], "client", None):
        return _on_cluster(client, function, missing)
    run_all = Parallel(workers, batch_size=1, pre_dispatch="all", return_as="generator_unordered")
    return run_all(delayed(_outcome)(function, key, case) for key, case in missing.items())


def _on_cluster(client, function: Callable, missing: dict[str, dict]) -> Iterable:
    """By Dask itself: joblib would wait forever for a case that has killed its workers, which here has failed."""
    from distributed import as_completed

    keys = {client.submit(_outcome, function, key, case, pure=False): key for key, case in missing.items()}
    try:
        for future in as_completed(list(keys)):
            key, error = keys.pop(future), future.exception()
            yield future.result() if error is None else (key, None, error)
    finally:
        client.cancel(list(keys))


def _outcome(function: Callable, key: str, case: dict) -> tuple[str, bytes | None, Exception | None]:
    """Runs where the worker is. Pickled here, a result that cannot be is one more case that failed."""
    try:
        return key, cloudpickle.dumps(function(**case)), None
    except Exception as error:
        return key, None, _portable(error)


def _portable(error: Exception) -> Exception:
    """The error, if it survives the way back from a worker; otherwise what it says."""
    try:
        pickle.loads(cloudpickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def _folder(store) -> Path:
    if not isinstance(store, str | os.PathLike) or not str(store):
        raise ValueError(f"store must be a folder, in which results are kept, got {store!r}")
    if (folder := Path(store)).is_file():
        raise ValueError(f"store must be a folder, got a file: {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _kept(path: Path) -> list:
    """[the result], or [] where there is none, or none that is whole."""
    try:
        return [entries.read(path)]
    except FileNotFoundError:
        return []
    except ValueError as error:
        warnings.warn(f"a stored result is damaged and is computed again, {error}: {path}", stacklevel=3)
        return []


def table(cases: Iterable[dict], results: Iterable):
    """An xarray Dataset of a sweep: results are its variables, what the cases were given its coordinates.

    `results`: a dictionary of numbers and arrays for each case, or one number or array, which is then called
    "result". The first dimension of everything is `case`; those of an array, case by case, are `NAME_0`, `NAME_1`,
    ... Then table["loss"].groupby("size").mean(), table.where(table["name"] == "wide", drop=True), and, of numbers,
    table.to_dataframe(). Arrays as they come: table["loss"].values, for `extrapolate`.

    Raises ImportError without xarray, and ValueError for a result that is missing or an error, for other lengths of
    the two lists, other names, and other shapes in one case than in another.
    """
    try:
        import xarray
    except ImportError as error:
        raise ImportError('sweeps.table needs xarray: pip install "spectral-dynamics[tables]"') from error
    cases, results = list(cases), list(results)
    if not cases or len(cases) != len(results):
        raise ValueError(f"results must be as many as cases, one or more, got {len(results)} for {len(cases)} cases")
    for place, one in enumerate(results):
        if one is None or isinstance(one, Exception):
            raise ValueError(f"results[{place}] must be a result, got {one!r}: leave out the cases that failed")
    given = _columns("cases", cases)
    found = _columns("results", [one if isinstance(one, dict) else {"result": one} for one in results])
    if both := sorted(set(given) & set(found)):
        raise ValueError(f"results must have other names than the arguments of cases, got {', '.join(both)} in both")
    shaped = {
        name: (["case", *(f"{name}_{axis}" for axis in range(column.ndim - 1))], column)
        for name, column in (given | found).items()
    }
    return xarray.Dataset({name: shaped[name] for name in found}, {name: shaped[name] for name in given})


def _columns(what: str, rows: list[dict]) -> dict[str, np.ndarray]:
    """By name, one array (rows, ...)."""
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"{what}[{place}] must be a dictionary, got {row!r}")
        if row.keys() != rows[0].keys():
            names, got = ", ".join(rows[0]), ", ".join(row)
            raise ValueError(f"{what}[{place}] must have the names of {what}[0], {names}, got {got}")
    return {name: _column(f"{what}[{{}}]['{name}']", [row[name] for row in rows]) for name in rows[0]}


def _column(name: str, values: list) -> np.ndarray:
    """Numbers and texts as they are; single things of other kinds, or of several kinds, as objects."""
    arrays = [_entry(name.format(place), value) for place, value in enumerate(values)]
    for place, one in enumerate(arrays):
        if one.shape != arrays[0].shape:
            where, first = name.format(place), arrays[0].shape
            raise ValueError(f"{where} must have the shape of the first, {first}, got {one.shape}")
    texts = {one.dtype.kind == "U" for one in arrays}
    return np.stack(arrays if len(texts) == 1 else [one.astype(object) for one in arrays])


def _entry(name: str, value) -> np.ndarray:
    try:
        entry = np.asarray(value)
    except ValueError:  # lists of several lengths
        entry = np.asarray(None)
    if entry.dtype.hasobject and isinstance(value, dict | list | tuple | np.ndarray):
        raise ValueError(f"{name} must be a number, a text or an array of these, got {reprlib.repr(value)}")
    return entry


# Stored tables


@dataclass(frozen=True)
class Table:
    """A stored table, what it was made with, and what shows that today's code would make it again.

    `path`: its file, NAME.npz. `constants`: name: value, what the numbers depend on besides code, compared exactly
    (see `exact`). `witnesses`: name: a function without arguments, one for every setting: a run of a few neurons and
    at most ten steps by the functions that made the table, in double precision; it returns an array or a dictionary
    of arrays, compared to ROUNDING of the largest entry of each. So it must hold nothing that rounding decides: no
    chaos, no sign of a singular vector as it comes, no place of the larger of two equals. `rows`: name: a function of
    the table that runs one stored row of a setting again, or what is stable of it, and returns (again, stored), two
    dictionaries of arrays, to be the same to `close` of the largest entry of each; or (again, stored, close).
    `needs`: a package without which nothing can be run again.
    """

    path: Path
    constants: dict
    witnesses: dict[str, Callable]
    rows: dict[str, Callable] = field(default_factory=dict)
    close: float = 1e-5
    needs: str | None = None

    def read(self) -> dict[str, np.ndarray]:
        """The stored arrays, by name, without constants and witnesses. Raises as `read` does."""
        return read(self.path)

    def write(self, **arrays) -> None:
        """Writes the table with constants and witnesses, of the code as it runs now, whole or not at all."""
        if taken := {CONSTANTS, WITNESSES} & set(arrays):
            raise ValueError(f"arrays must have other names than {', '.join(sorted(taken))}")
        texts = {CONSTANTS: json.dumps(self._constants), WITNESSES: json.dumps(self._listed)}
        write(self.path, **arrays, **texts)

    @property
    def store(self) -> Path:
        """The folder for results of this code and these constants, to be handed to `run`: others are elsewhere."""
        digest = hashlib.sha256(json.dumps(self._constants).encode())
        for name, result in self._results.items():
            for key, value in result.items():
                digest.update(f"{name}/{key}/{value.shape}/{_scale(value):.8g}".encode())
                digest.update((np.round(value / _scale(value), 8) + 0.0).tobytes())
        return self.path.parent / ".store" / self.path.stem / digest.hexdigest()[:16]

    def changed_constants(self) -> list[str]:
        """A sentence for each constant that is not what the table was made with; [] when all are."""
        stored, now = self._stored(CONSTANTS), self._constants
        found = [
            f"constant {name}: the table was made with {_short(stored.get(name))}, now it is {_short(text)}"
            for name, text in now.items()
            if stored.get(name) != text
        ]
        return found + [
            f"constant {name}: the table was made with it, now there is none" for name in stored if name not in now
        ]

    def changed_witnesses(self) -> list[str]:
        """A sentence for each quantity of each witness that comes out otherwise than when the table was made."""
        stored, found = self._stored(WITNESSES), []
        found += [f"witness {name}: stored, and nothing runs it" for name in stored if name not in self._results]
        for name, result in self._results.items():
            if name in stored:
                found += [f"witness {name}, {text}" for text in _differences(result, stored[name], ROUNDING)]
            else:
                found.append(f"witness {name}: not stored")
        return found

    def changed_rows(self, *names: str) -> list[str]:
        """A sentence for each quantity of the rows `names`, all by default, that does not come out as stored."""
        table, found = self.read(), []
        for name in names or self.rows:
            again, stored, *close = self.rows[name](table)
            found += [f"row {name}, {text}" for text in _differences(again, stored, *close or [self.close])]
        return found

    def refresh(self) -> None:
        """Stores today's witnesses with the table as it is.

        For a change of what tiny runs alone can see. Raises ValueError when a constant has changed, or when one of
        the rows comes out otherwise than it is stored: then the table has to be made again.
        """
        if found := self.changed_constants() + self.changed_rows():
            raise ValueError(f"the table {self.path.name} must be made again: {'; '.join(found)}")
        self.write(**self.read())

    @cached_property
    def _constants(self) -> dict[str, str]:
        return {name: exact(value, name) for name, value in self.constants.items()}

    @cached_property
    def _results(self) -> dict[str, dict[str, np.ndarray]]:
        return {name: _arrays(function()) for name, function in self.witnesses.items()}

    @property
    def _listed(self) -> dict:
        return {name: {key: value.tolist() for key, value in one.items()} for name, one in self._results.items()}

    def _stored(self, part: str) -> dict:
        everything = _loaded(self.path)
        if part not in everything:
            raise ValueError(f"the table {self.path.name} has no {part}, it must be made again")
        return json.loads(str(everything[part]))


def read(path) -> dict[str, np.ndarray]:
    """The arrays of a stored table. Raises FileNotFoundError, and ValueError for a file that cannot be read."""
    return {name: array for name, array in _loaded(Path(path)).items() if name not in (CONSTANTS, WITNESSES)}


def write(path, **arrays) -> None:
    """Writes a compressed .npz; whoever reads it meanwhile finds the old file, or the new one."""
    entries.replace(Path(path), lambda file: np.savez_compressed(file, **arrays))


def _loaded(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"the table {path.name} is missing, {path.with_suffix('.py').name} makes it: {path}")
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"the table {path.name} is damaged, {error}: {path}") from error


def _arrays(result) -> dict[str, np.ndarray]:
    """What a witness returned, as arrays of numbers by name."""
    result = result if isinstance(result, dict) else {"result": result}
    return {key: np.asarray(value, dtype=np.float64) for key, value in result.items()}


def _differences(now: dict, stored: dict, allowed: float) -> list[str]:
    """Which quantities are not the same to `allowed` of their largest entry, and by how much."""
    if set(now) != set(stored):
        return [f"quantities {', '.join(sorted(set(now) ^ set(stored)))}: only now, or only stored"]
    apart = {key: _apart(np.asarray(now[key], float), np.asarray(stored[key], float)) for key in stored}
    return [f"{key}: {off:.2g} of its largest entry apart" for key, off in apart.items() if not off <= allowed]


def _apart(now: np.ndarray, stored: np.ndarray) -> float:
    if now.shape != stored.shape:
        return np.inf
    finite = np.isfinite(stored) & np.isfinite(now)
    if not np.array_equal(now[~finite], stored[~finite], equal_nan=True):
        return np.inf
    return float(np.max(np.abs(now[finite] - stored[finite]), initial=0.0) / _scale(stored))


def _scale(values: np.ndarray) -> float:
    """The largest finite entry; 1 where all are 0."""
    return float(np.max(np.abs(values[np.isfinite(values)]), initial=0.0)) or 1.0


def _short(text) -> str:
    return text if text is None or len(text) <= 100 else f"{text[:97]}..."
