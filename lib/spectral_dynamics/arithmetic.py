"""What displayed formulas do with their letters: sums, products and powers of numbers, expressions, matrices, tables.

Numbers are floating or exact (SymPy); where both meet the floating ones win. `distance` compares two sides.
"""

import itertools
import zlib

import numpy as np
import sympy
from scipy import linalg, special

from .texts import Unreadable

_NUMPY = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh", "atanh": "arctanh"}
_NUMPY |= {"re": "real", "im": "imag"}


def is_matrix(value) -> bool:
    return isinstance(value, sympy.MatrixBase) or (isinstance(value, np.ndarray) and value.ndim == 2)


def is_table(value) -> bool:
    """Whether brackets behind it are arguments, or indices."""
    return isinstance(value, (list, dict)) or (callable(value) and not isinstance(value, sympy.Basic))


def floating(value):
    """A SymPy number, or a matrix of them, in floating point; what has letters in it stays."""
    if isinstance(value, sympy.MatrixBase) and not value.free_symbols:
        value = np.array(value.evalf().tolist(), dtype=complex)
        return value if np.abs(value.imag).max() > 0 else value.real
    if isinstance(value, sympy.Basic) and not value.free_symbols:
        number = complex(value)
        return number if number.imag else number.real
    return value


def alike(*values) -> list:
    """All in floating point if one of them is."""
    mixed = any(isinstance(value, (np.ndarray, np.generic, float, complex)) for value in values)
    return [floating(value) for value in values] if mixed else list(values)


def plus(a, b):
    """A sum; a number beside a square matrix stands for that multiple of the identity."""
    a, b = alike(a, b)
    if is_matrix(a) == is_matrix(b):
        return a + b
    matrix, number = (a, b) if is_matrix(a) else (b, a)
    if isinstance(number, np.ndarray) or matrix.shape[0] != matrix.shape[1]:
        raise Unreadable(f"a matrix of shape {matrix.shape} and what is none are added")
    return matrix + number * (np.eye(len(matrix)) if isinstance(matrix, np.ndarray) else sympy.eye(matrix.rows))


def times(a, b, sign: str = ""):
    """A product; of a column and another, or a matrix, with a dot, the scalar one. One entry is a number."""
    a, b = alike(a, b)
    if is_matrix(a) and is_matrix(b):
        if sign == r"\cdot" and a.shape[1] == 1 and a.shape[0] == b.shape[0]:
            a = transposed(a)
        if a.shape[1] != b.shape[0]:
            raise Unreadable(f"matrices of shapes {a.shape} and {b.shape} are multiplied")
        product = a @ b
        return product[0, 0] if product.shape == (1, 1) else product
    return a * b


def entrywise(a, b):
    a, b = alike(a, b)
    return a.multiply_elementwise(b) if isinstance(a, sympy.MatrixBase) else a * b


def over(a, b):
    return times(a, raised(b, sympy.Integer(-1)))


def transposed(a):
    return a.T if is_matrix(a) else a


def raised(base, exponent):
    """A power; of a square matrix the inverse and whole powers, of a number a matrix, as in e^{-tS}.

    A list gives its entry, since layers count above.
    """
    if isinstance(base, list):
        return base[int(exponent)]
    base, exponent = alike(base, exponent)
    if is_matrix(exponent) and not is_matrix(base):
        return linalg.expm(exponent * np.log(base))
    if not is_matrix(base):
        if isinstance(base, (float, np.ndarray)) and np.isrealobj(base) and np.min(base) < 0:
            base = base + 0j if np.any(np.asarray(exponent) % 1) else base
        return base**exponent
    if base.shape[0] != base.shape[1]:
        raise Unreadable(f"a power of a matrix of shape {base.shape}")
    whole = int(exponent)
    return np.linalg.matrix_power(base, whole) if isinstance(base, np.ndarray) else base**whole


def modulus(a):
    """|a| of a number, the length of a column."""
    if not is_matrix(a):
        return np.abs(a) if isinstance(a, (float, complex, np.ndarray, np.generic)) else sympy.Abs(a)
    if a.shape[1] != 1:
        raise Unreadable(f"the modulus of a matrix of shape {a.shape}")
    return raised(times(a, a, r"\cdot"), sympy.Rational(1, 2))


def entry(table, places: list):
    """The value of a function, or an entry of a table."""
    if callable(table) and not isinstance(table, sympy.Basic):
        return table(*places)
    key = tuple(int(place) for place in places) if not isinstance(table, dict) else tuple(places)
    key = key[0] if len(key) == 1 else key
    if isinstance(table, dict):
        key = tuple(map(_whole, key)) if isinstance(key, tuple) else _whole(key)
    if not isinstance(table, (list, dict, np.ndarray, sympy.MatrixBase)):
        raise Unreadable(f"an index on {table}, which is no table")
    return table[key]


def _whole(value):
    return int(value) if isinstance(value, sympy.Integer) else value


def applied(name: str, value):
    """An elementary function, a trace, a determinant, a rank."""
    if name == "rank":
        return np.linalg.matrix_rank(value)
    if name in ("tr", "det"):
        value = value if is_matrix(value) else sympy.Matrix([[value]])
        known = {"tr": np.trace, "det": np.linalg.det} if isinstance(value, np.ndarray) else {}
        return known.get(name, {"tr": lambda m: m.trace(), "det": lambda m: m.det()}[name])(value)
    if isinstance(value, (float, complex, np.ndarray, np.generic)):
        return special.erf(value) if name == "erf" else getattr(np, _NUMPY.get(name, name))(value)
    return getattr(sympy, name)(value)


def matrix(rows: list[list]):
    """A matrix of numbers and of blocks; a number among blocks stands for that multiple of the identity."""
    columns = list(zip(*rows, strict=True))
    widths = [max((part.shape[1] for part in column if is_matrix(part)), default=1) for column in columns]
    heights = [
        max((part.shape[0] for part in row if is_matrix(part)), default=0)
        or max((wide for part, wide in zip(row, widths, strict=True) if part != 0), default=1)
        for row in rows
    ]
    whole = [alike(*itertools.chain(*rows))[i * len(columns) : (i + 1) * len(columns)] for i in range(len(rows))]
    numeric = any(isinstance(part, (float, complex, np.ndarray, np.generic)) for row in whole for part in row)

    def block(part, high, wide):
        if is_matrix(part):
            return part
        if part == 0:
            return np.zeros((high, wide)) if numeric else sympy.zeros(high, wide)
        if high != wide:
            raise Unreadable(f"a number in a block of shape {(high, wide)}")
        return part * (np.eye(high) if numeric else sympy.eye(high))

    blocks = [
        [block(p, h, w) for p, w in zip(row, widths, strict=True)] for row, h in zip(whole, heights, strict=True)
    ]
    return np.block(blocks) if numeric else sympy.Matrix(sympy.BlockMatrix(blocks))


def at_edge(a, relation: str, b) -> tuple:
    """Two sides of an order where they come closest, if one of them is many numbers and the other one is one."""
    if relation not in ("<", r"\le", ">", r"\ge") or (np.ndim(a) == 1) == (np.ndim(b) == 1):
        return a, b
    outermost = np.max if (relation in ("<", r"\le")) == (np.ndim(a) == 1) else np.min
    return (outermost(a), b) if np.ndim(a) == 1 else (a, outermost(b))


def holds(worth: list, relations: list[str]) -> np.ndarray:
    """Where a chain of orders is true, of sides that are numbers or many."""
    compare = {"<": np.less, r"\le": np.less_equal, ">": np.greater, r"\ge": np.greater_equal}
    sides = [np.asarray(side, dtype=float) for side in worth]
    pairs = zip(relations, itertools.pairwise(sides), strict=True)
    return np.logical_and.reduce([compare[relation](*pair) for relation, pair in pairs])


def distance(a, b) -> float:
    """How far apart two sides are, relative to the larger if that is above 1."""
    a, b = alike(a, b)
    if is_matrix(a) != is_matrix(b) and not (np.ndim(a) and np.ndim(b)):
        a, b = (a, plus(times(0, a), b)) if is_matrix(a) else (plus(times(0, b), a), b)
    first, second = (_sampled(side) for side in (a, b))
    if first.shape != second.shape and first.size > 1 and second.size > 1:
        raise Unreadable(f"sides of shapes {first.shape} and {second.shape} are compared")
    scale = max(1.0, np.max(np.abs(first)), np.max(np.abs(second)))
    if not np.isfinite(scale):
        return 0.0 if np.all(first == second) else np.inf
    return float(np.max(np.abs(first - second)) / scale)


def _sampled(side) -> np.ndarray:
    """Its numbers; of what has letters, at three places that depend on the letters' names alone."""
    if not isinstance(side, (sympy.Basic, sympy.MatrixBase)):
        return np.asarray(side, dtype=complex)
    entries = list(side) if isinstance(side, sympy.MatrixBase) else [side]
    letters = sorted(set().union(*(e.free_symbols for e in entries)), key=str)
    places = [{s: sympy.Rational(_place(str(s), k), 97) for s in letters} for k in range(3)]
    return np.array([[complex(e.subs(place).doit().evalf(20)) for e in entries] for place in places])


def _place(name: str, which: int) -> int:
    """A number between 31 and 160, another for another name."""
    return 31 + zlib.crc32(f"{name}{which}".encode()) % 130
