"""Results on disk, an entry for each case of a sweep: what it is found by, and how it is written and read.

The key of an entry is made of everything that the result of a pure function depends on and that can be looked at,
to the last bit (see `exact`):

    the function    its compiled code, its default values, what it has captured, the globals it reads; and the same of
                    every function of its own module that it calls
    the case        its arguments

Functions of other modules, and all classes, are taken by their names: what they do is seen by witnesses, and
`sweeps.Table.store` is another folder when they do something else.
"""

import hashlib
import os
import pickle
import reprlib
import sys
import uuid
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from dis import get_instructions
from functools import partial
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType

import numpy as np

CHECKSUM = 32  # bytes, before the pickled result
PLAIN = "numbers, texts, arrays, lists, dictionaries and dataclasses"


def exact(value, name: str = "value") -> str:
    """A text that is the same for two values when they are, to the last bit and in the same order, and only then.

    Of None, truth values, numbers, texts, bytes; numpy's scalars and arrays, by type, shape and bytes; lists, tuples
    and dictionaries, in their order, and dataclasses, by field, of all these. Raises ValueError for anything else:
    functions, and what is known by its address in memory.
    """
    return _exact(value, name, _refused)


def keys(function: Callable, cases: list[dict]) -> list[str]:
    """One for each case: the same for equal calls of the same function, and only for them.

    Raises ValueError for what no key can be made of: a case that is no dictionary, a value without an exact text.
    """
    inner = _inner(function)
    if isinstance(inner, type) or not callable(inner) or not hasattr(inner, "__qualname__"):
        raise ValueError(f"function must be a function, got {function!r}")
    module, name = inner.__module__, inner.__qualname__
    what = _Description(name, module).text(function, name)
    found = []
    for place, case in enumerate(cases):
        if not isinstance(case, dict) or not all(isinstance(key, str) for key in case):
            raise ValueError(f"cases[{place}] must be a dictionary of arguments by name, got {case!r}")
        given = _Description(name, module).text({key: case[key] for key in sorted(case)}, f"cases[{place}]")
        found.append(hashlib.sha256(f"{what}\n{given}".encode()).hexdigest()[:40])
    return found


def write(path: Path, result: bytes) -> None:
    """Keeps a pickled result, whole or not at all. The checksum knows the entry's name: a copy is no other entry."""
    replace(path, lambda file: file.write(_checksum(path, result) + result))


def read(path: Path):
    """The result of an entry. Raises FileNotFoundError, and ValueError when it is damaged or cannot be unpickled."""
    content = path.read_bytes()
    result = content[CHECKSUM:]
    if content[:CHECKSUM] != _checksum(path, result):
        raise ValueError("its checksum is wrong")
    try:
        return pickle.loads(result)
    except Exception as error:  # a class that is gone, another version of a package
        raise ValueError(f"{type(error).__name__}: {error}") from error


def replace(path: Path, writer: Callable) -> None:
    """Writes a file; whoever reads it meanwhile finds the old one, or the new one."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        with open(part, "wb") as file:
            writer(file)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _checksum(path: Path, result: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + result).digest()


# Exact texts


def _exact(value, name: str, other: Callable) -> str:
    """`exact`, where other(value, name) is the text of everything that is no data."""
    kind = type(value)
    if value is None or kind in (bool, int, float, complex, str, bytes):
        return repr(value)
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        dtype = value.dtype.newbyteorder("<")
        digest = hashlib.sha256(np.ascontiguousarray(value, dtype).tobytes()).hexdigest()[:32]
        return f"{kind.__name__}({dtype.str}, {np.shape(value)}, {digest})"
    if kind in (list, tuple):
        parts = [_exact(part, f"{name}[{place}]", other) for place, part in enumerate(value)]
        return f"{kind.__name__}({', '.join(parts)})"
    if kind is dict:
        pairs = [(_exact(key, name, other), _exact(one, f"{name}[{key!r}]", other)) for key, one in value.items()]
        return f"dict({', '.join(f'{key}: {one}' for key, one in pairs)})"
    if is_dataclass(value) and not isinstance(value, type):
        parts = [(one.name, _exact(getattr(value, one.name), f"{name}.{one.name}", other)) for one in fields(value)]
        return f"{kind.__name__}({', '.join(f'{key}={one}' for key, one in parts)})"
    return other(value, name)


def _refused(value, name: str) -> str:
    raise ValueError(f"{name} must be made of {PLAIN}, got {value!r}")


class _Description:
    """Texts of functions of one `module`, and of what they hold; `root`, the one that is run, is named in errors."""

    def __init__(self, root: str, module: str):
        self.root, self.module, self.seen = root, module, []

    def text(self, value, name: str) -> str:
        return _exact(value, name, self.other)

    def other(self, value, name: str) -> str:
        """Of what `exact` refuses: functions of every kind, classes, modules, paths, sets."""
        if isinstance(value, ModuleType):
            return f"module {value.__name__}"
        if isinstance(value, PurePath | np.dtype | range):
            return f"{type(value).__name__}({str(value)!r})"
        if isinstance(value, set | frozenset):
            return f"set({', '.join(sorted(self.text(one, name) for one in value))})"
        if isinstance(value, tuple):  # with names
            return f"{type(value).__name__}({self.text(tuple(value), name)})"
        if isinstance(value, partial):
            return f"partial({self.text([value.func, value.args, value.keywords], name)})"
        if isinstance(value, MethodType):
            return f"method({self.text([value.__func__, value.__self__], name)})"
        if isinstance(value, np.ufunc):
            return f"ufunc {value.__name__}"
        own = getattr(value, "__module__", None) == self.module and not isinstance(value, type)
        if _is_found_by_name(value) and not own:
            return f"{value.__module__}.{value.__qualname__}"
        inner = getattr(value, "__wrapped__", value)  # of functools.cache
        if isinstance(inner, FunctionType):
            return self.function(inner if not isinstance(value, FunctionType) else value)
        raise ValueError(
            f"{name} must be made of {PLAIN}, or be a function of these, got {reprlib.repr(value)}: results of "
            f"{self.root} could not be told apart by it (in place of a generator of random numbers: its seed)"
        )

    def function(self, function: FunctionType) -> str:
        """Its code and all that it holds, once; from then on its number."""
        name = f"{function.__module__}.{function.__qualname__}"
        if function in self.seen:
            return f"{name} again, {self.seen.index(function)}"
        self.seen.append(function)
        captured, read = _captured(function), _globals(function)
        defaults = [function.__defaults__, function.__kwdefaults__]
        parts = [
            _compiled(function.__code__),
            self.text(defaults, f"a default value of {function.__qualname__}"),
            *(self.text(captured[key], f"{key}, captured by {function.__qualname__},") for key in captured),
            *(self.text(read[key], f"{key}, a global of {function.__qualname__},") for key in read),
        ]
        return f"{name}({', '.join(parts)}; {', '.join([*captured, *read])})"


def _inner(function: Callable) -> Callable:
    """The function within partials and bound methods."""
    while isinstance(function, partial | MethodType):
        function = function.func if isinstance(function, partial) else function.__func__
    return function


def _is_found_by_name(value) -> bool:
    """Whether an import finds this very function or class: one made inside a function is not found."""
    if isinstance(value, BuiltinFunctionType) and not isinstance(value.__self__, ModuleType | None):
        return False  # a method of something that has a state, such as a generator's
    found = sys.modules.get(getattr(value, "__module__", None) or "")
    for part in getattr(value, "__qualname__", "").split("."):
        found = getattr(found, part, None)
    return found is value


def _captured(function: FunctionType) -> dict:
    """What a closure has captured, by name; a variable that was not yet there is left out."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    missing = object()
    return {name: value for name, cell in cells if (value := _content(cell, missing)) is not missing}


def _content(cell, missing):
    try:
        return cell.cell_contents
    except ValueError:
        return missing


def _globals(function: FunctionType) -> dict:
    """The globals that a function and those inside it read, by name."""
    names = sorted(_names_read(function.__code__))
    return {name: function.__globals__[name] for name in names if name in function.__globals__}


def _names_read(code: CodeType) -> set[str]:
    named = {one.argval for one in get_instructions(code) if "GLOBAL" in one.opname or one.opname == "LOAD_NAME"}
    return named.union(*(_names_read(one) for one in code.co_consts if isinstance(one, CodeType)))


def _compiled(code: CodeType) -> str:
    """What a function does, without its place, its comments and its layout."""
    constants = [_compiled(one) if isinstance(one, CodeType) else _constant(one) for one in code.co_consts]
    names = (
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_argcount,
        code.co_kwonlyargcount,
        code.co_flags,
    )
    return repr((code.co_code, code.co_exceptiontable, constants, names))


def _constant(value) -> str:
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)
