"""Displayed formulas, evaluated: the signs that `texts` finds, with the objects of a page's code.

A reader knows the meaning of what all texts share (fractions, roots, powers, sums, integrals, matrices, elementary
functions); every letter, with its indices and brackets if need be, is given by the caller.
"""

import functools
import itertools

import sympy
from scipy import integrate

from .arithmetic import (
    applied,
    entry,
    entrywise,
    is_matrix,
    is_table,
    matrix,
    modulus,
    over,
    plus,
    raised,
    times,
    transposed,
)
from .texts import Unreadable, cut, depth, group, tokens

_FUNCTIONS = {
    **{rf"\{name}": name for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "exp")},
    **{r"\ln": "log", r"\log": "log", r"\arcsin": "asin", r"\arccos": "acos", r"\arctan": "atan"},
}
WHOLE = ("tr", "det", "rank")
_NAMED = {"arsinh": "asinh", "artanh": "atanh", "erf": "erf", "Re": "re", "Im": "im", "sign": "sign"}
_STOP = {
    ")",
    "]",
    "}",
    r"\rangle",
    ",",
    "&",
    r"\\",
    "+",
    "-",
    r"\pm",
    r"\mp",
    "/",
    "=",
    "<",
    ">",
    r"\le",
    r"\ge",
    r"\to",
}
_STOP |= {r"\cdot", r"\times", r"\circ", r"\odot"}
_BARS, _ACCENTS = ("|", r"\|"), (r"\tilde", r"\hat", r"\bar", r"\underline")
_JOINTS = {"(", "[", "{", "^", "_", r"\cdot", r"\times", "/"}
_BIG = (r"\sum", r"\prod", r"\int")
_ENDS = {"/", "(", "[", r"\cdot", r"\times", *_BARS, *_BIG}


class Reader:
    """Evaluates formulas in which each letter of `values` {LaTeX: value} has its meaning.

    Keys: letters as the text writes them, indices, powers and brackets included where they belong to the name
    ("\\bar W^\\ell", "\\langle v(t)^2\\rangle", "\\frac{\\mathrm da}{\\mathrm dt}", and "h \\to" for what h
    becomes); the longest that fits is taken. Values: numbers, SymPy expressions, matrices (SymPy, or arrays of
    two dimensions), arrays of one dimension (many numbers at once), functions, which are called with what follows
    in brackets, and tables (arrays, lists, dictionaries), of which `c_s` or `C(t, s)` take an entry, and of a
    list `C^\\ell` too; so does a name with a letter in it that a sum binds ("\\frac{\\partial f}{\\partial x_j}",
    under a sum over j). A number beside a square matrix is that multiple of the identity. A sum is given its
    range: "\\sum_s": ("s", range(4)), or a function of the letters bound outside; "\\sum_{s=1}^n", "\\sum_{s<t}"
    and "\\sum_{s\\le t}" know theirs. "\\int": a function (integrand, low, high); scipy's quad otherwise.
    "\\langle": a function that averages. A tuple (plus, minus) for a letter with a double sign: its value for
    each. "cases": which of several cases, from 0; without it a column of them all.
    """

    def __init__(self, values: dict, sign: int = 1):
        self.sign = sign
        pick = {key: value[sign < 0] if _double(key, value) else value for key, value in values.items()}
        self.special = {key: pick.pop(key) for key in ("cases", r"\langle", "=") if key in pick}
        self.operators = {tuple(tokens(key)): pick.pop(key) for key in list(pick) if key.startswith(_BIG)}
        self.names = {tuple(tokens(key)): value for key, value in pick.items()}
        for key in self.names:
            _refuse(key)
        self.scope: dict[tuple, int] = {}

    def known(self, found: list[str], at: int):
        """The longest name that stands at `at`, or None."""
        names = itertools.chain(self.scope, self.names)
        fitting = [name for name in names if tuple(found[at : at + len(name)]) == name]
        return max(fitting, key=len, default=None)

    def meaning(self, name: tuple):
        """What a name stands for; a table, if letters that a sum binds are in the name, is entered at these."""
        if name in self.scope:
            return self.scope[name]
        bound = [self.scope[(token,)] for token in name if (token,) in self.scope] if len(name) > 1 else []
        return entry(self.names[name], bound) if bound and is_table(self.names[name]) else self.names[name]

    def opaque(self, found: list[str]) -> set[int]:
        """Places that belong to names of several signs, and those of cases that are not asked for."""
        hidden, at = self.passed_over(found), 0
        while at < len(found):
            name = self.known(found, at)
            hidden |= set(range(at, at + len(name))) if name and len(name) > 1 else set()
            at += len(name) if name else 1
        return hidden

    def passed_over(self, found: list[str]) -> set[int]:
        """Places of conditions, and of all cases but the one that is asked for."""
        hidden, row, inside, condition = set(), 0, False, False
        for at, token in enumerate(found):
            if token in (r"\begin{cases}", r"\end{cases}"):
                row, inside, condition = 0, token.startswith(r"\begin"), False
            elif token == r"\\":
                row, condition = row + 1, False
            elif token == "&":
                condition = True
            elif inside and (condition or self.special.get("cases", row) != row):
                hidden.add(at)
        return hidden

    def has(self, found: list[str]) -> bool:
        """Whether these signs as a whole are a name: what stands before an arrow may be."""
        return tuple(found) in self.names

    def value(self, found: list[str]):
        """What a formula is worth. Raises Unreadable where a part of it has no meaning."""
        if not found:
            raise Unreadable("there is nothing on one side of a relation")
        result, at = _Parser(self, found).sum(0)
        if at < len(found):
            raise Unreadable(f"no meaning for {' '.join(found[at : at + 6])}")
        return result


class _Parser:
    """One walk through a formula's signs. Each method takes a place and gives a value and the place behind it."""

    def __init__(self, reader: Reader, found: list[str]):
        self.reader, self.found = reader, found

    def at(self, place: int) -> str:
        return self.found[place] if place < len(self.found) else ""

    def sum(self, at: int):
        """Terms with signs between them."""
        total, sign = None, 1
        while True:
            while self.at(at) in ("+", "-", r"\pm", r"\mp"):
                sign *= {"+": 1, "-": -1, r"\pm": self.reader.sign, r"\mp": -self.reader.sign}[self.at(at)]
                at += 1
            term, at = self.product(at)
            term = term if sign > 0 else times(-1, term)
            total, sign = term if total is None else plus(total, term), 1
            if self.at(at) not in ("+", "-", r"\pm", r"\mp"):
                return total, at

    def product(self, at: int, short: bool = False):
        """Factors side by side; `short`: up to a bracket or a division, as behind a slash or a function's name."""
        result, at = self.factor(at)
        while True:
            token = self.at(at)
            if token in (r"\cdot", r"\times", r"\circ", r"\odot") and not short:
                factor, at = self.factor(at + 1)
                result = entrywise(result, factor) if token in (r"\circ", r"\odot") else times(result, factor, token)
            elif token == "/" and not short:
                below, at = self.product(at + 1, short=True)
                result = over(result, below)
            elif token and token not in _STOP and not (short and token in _ENDS):
                factor, at = self.factor(at)
                result = times(result, factor)
            else:
                return result, at

    def factor(self, at: int):
        """One thing with its powers, indices and arguments."""
        result, at = self.thing(at)
        while True:
            token = self.at(at)
            if token == "^":
                power, at = self.power(at + 1)
                result = power(result)
            elif token == "_":
                inner, at = group(self.found, at + 1)
                pair = is_matrix(result) and min(result.shape) > 1 and len(inner) == 2  # W_{01}, row beside column
                result = entry(result, self.indices([inner[0], ",", inner[1]] if pair else inner))
            elif token in ("(", "[") and (is_table(result) or (is_matrix(result) and self.pair(at))):
                inner, at = self.bracketed(at)
                result = entry(result, self.indices(inner))
            elif token == "|" and callable(result) and not isinstance(result, sympy.Basic):
                inner, at = self.thing(at)  # as in \max|x|
                result = result(inner)
            elif token == "!":
                result, at = sympy.factorial(result), at + 1
            else:
                return result, at

    def pair(self, at: int) -> bool:
        """Whether the bracket at `at` holds two indices."""
        return len(cut(self.bracketed(at)[0], ",")) == 2

    def power(self, at: int):
        """What `^` with the group behind it does to a value."""
        inner, at = group(self.found, at)
        if inner in ([r"\top"], [r"\mathrm", "T"], ["T"]) and not self.reader.known(inner, 0):
            return transposed, at
        exponent = self.reader.value(inner)
        return (lambda base: raised(base, exponent)), at

    def indices(self, inner: list[str]) -> list:
        """Values of what stands in an index or in a function's brackets: by commas, or letter beside letter."""
        parts = cut(inner, ",")
        if len(parts) == 1:
            letters, at = [], 0
            while (name := self.reader.known(inner, at)) is not None:
                letter = self.reader.scope[name] if name in self.reader.scope else self.reader.names[name]
                if not isinstance(letter, (int, sympy.Integer)):
                    break
                letters.append(letter)
                at += len(name)
            if letters and at == len(inner):
                return letters
        return [self.reader.value(part) for part in parts]

    def bracketed(self, at: int) -> tuple[list[str], int]:
        """What is inside the bracket that opens at `at`."""
        opening, end, level = self.at(at), at, 0
        while end < len(self.found):
            level += depth(self.at(end))
            end += 1
            if not level:
                return self.found[at + 1 : end - 1], end
        raise Unreadable(f"{opening} is not closed")

    def thing(self, at: int):
        """A letter, a number, a bracket, a fraction, a root, a function of what follows, a sum, a matrix."""
        token, reader = self.at(at), self.reader
        if name := reader.known(self.found, at):
            return reader.meaning(name), at + len(name)
        if token.isdigit():
            return self.number(at)
        if token == r"\frac":
            above, at = group(self.found, at + 1)
            below, at = group(self.found, at)
            return over(reader.value(above) if above else 1, reader.value(below)), at
        if token == r"\binom":
            above, at = group(self.found, at + 1)
            below, at = group(self.found, at)
            return sympy.binomial(reader.value(above), reader.value(below)), at
        if token == r"\sqrt":
            return self.root(at + 1)
        if token in ("(", "[", "{"):
            inner, at = self.bracketed(at)
            return reader.value(inner), at
        if token in _BARS:
            end = self.found.index(token, at + 1) if token in self.found[at + 1 :] else len(self.found)
            return modulus(reader.value(self.found[at + 1 : end])), end + 1
        if token == r"\langle" and r"\langle" in reader.special:
            inner, at = self.bracketed(at)
            at = group(self.found, at + 1)[1] if self.at(at) == "_" else at  # over what
            return reader.special[r"\langle"](reader.value(inner)), at
        if token in _BIG:
            return self.big(at)
        if token.startswith(r"\begin{"):
            return self.grid(at)
        return self.function(at)

    def number(self, at: int):
        end = at
        while self.at(end).isdigit() or (self.at(end) == "." and self.at(end + 1).isdigit()):
            end += 1
        text = "".join(self.found[at:end])
        return sympy.Rational(text) if "." in text else sympy.Integer(text), end

    def root(self, at: int):
        order = 2
        if self.at(at) == "[":
            inner, at = self.bracketed(at)
            order = self.reader.value(inner)
        inner, at = group(self.found, at)
        return raised(self.reader.value(inner), sympy.Rational(1, order)), at

    def function(self, at: int):
        """An elementary function, a trace, a determinant, pi, e; whatever else has no meaning."""
        token = self.at(at)
        name = _FUNCTIONS.get(token) or {r"\det": "det"}.get(token)
        if token in (r"\operatorname", r"\mathrm"):
            inner, end = group(self.found, at + 1)
            word = "".join(inner)
            name, at = _NAMED.get(word) or (word if word in WHOLE else None), end - 1 if word else at
        if name is None:
            constants = {r"\pi": sympy.pi, "e": sympy.E, "i": sympy.I, r"\infty": sympy.oo}
            if token in constants:
                return constants[token], at + 1
            raise Unreadable(f"no meaning for {' '.join(self.found[at : at + 6]) or 'the end of a formula'}")
        power, at = self.power(at + 2) if self.at(at + 1) == "^" else (None, at + 1)
        bracket = self.at(at) in ("(", "[")
        if name in WHOLE and not (name == "det" and bracket):
            inside, at = self.product(at)
        elif bracket:
            inner, at = self.bracketed(at)
            inside = self.reader.value(inner)
        else:
            inside, at = self.product(at, short=True)
        result = applied(name, inside)
        return (power(result) if power else result), at

    def big(self, at: int):
        """A sum, a product or an integral, over all that follows up to the next sign."""
        kind, head = self.at(at), [self.at(at)]
        at += 1
        limits = {}
        while self.at(at) in ("_", "^"):
            which = self.at(at)
            limits[which], end = group(self.found, at + 1)
            head += self.found[at:end]
            at = end
        end, level = at, 0
        while end < len(self.found):
            token = self.found[end]
            if level == 0 and end > at and token in ("+", "-", r"\pm", r"\mp") and self.found[end - 1] not in _JOINTS:
                break
            level += depth(token)
            if level < 0:
                break
            end += 1
        given = self.reader.operators.get(tuple(head))
        body = self.found[at:end]
        if kind == r"\int":
            return self.integral(body, limits, given), end
        return self.series(kind, body, self.range(limits, given)), end

    def range(self, limits: dict, given):
        """The letters that a sum binds, and the values they take."""
        reader = self.reader
        if given is not None:
            given = (
                given(dict(map(lambda b: ("".join(b[0]), b[1]), reader.scope.items()))) if callable(given) else given
            )
            letters, values = given
            return [tuple(tokens(letter)) for letter in ([letters] if isinstance(letters, str) else letters)], values
        below = limits.get("_", [])
        for relation, extra in (("=", None), (r"\le", 1), ("<", 0)):
            if below.count(relation) != 1:
                continue
            cut = below.index(relation)
            letter, bound = tuple(below[:cut]), int(reader.value(below[cut + 1 :]))
            if relation == "=" and "^" in limits:
                return [letter], range(bound, int(reader.value(limits["^"])) + 1)
            if relation != "=":
                return [letter], range(0, bound + extra)
        raise Unreadable(f"no range for the sum over {' '.join(below) or 'nothing'}")

    def series(self, kind: str, body: list[str], bound):
        letters, values = bound
        outside, terms = dict(self.reader.scope), []
        for value in values:
            value = value if isinstance(value, tuple) else (value,)
            self.reader.scope = outside | dict(zip(letters, value, strict=True))
            terms.append(self.reader.value(body))
        self.reader.scope = outside
        if not terms:
            return sympy.Integer(kind != r"\sum")
        return functools.reduce(plus if kind == r"\sum" else times, terms)

    def integral(self, body: list[str], limits: dict, given):
        """The letter behind the d is bound; by `given`, or by quadrature."""
        places = [i for i, t in enumerate(body[:-1]) if t == "d" and body[i + 1] not in _STOP]
        if not places:
            raise Unreadable("an integral without its differential")
        at = places[-1]
        start = at - (body[at - 1 : at] == [r"\mathrm"])
        end = at + 2 + (body[at + 1] in _ACCENTS)
        letter, rest = tuple(body[at + 1 : end]), body[:start] + body[end:]
        low, high = (self.reader.value(limits[k]) if k in limits else None for k in "_^")
        outside = dict(self.reader.scope)

        def integrand(x):
            self.reader.scope = outside | {letter: x}
            result = self.reader.value(rest) if rest else 1
            self.reader.scope = outside
            return result

        if given is not None:
            return given(integrand, low, high)
        return integrate.quad(lambda x: float(integrand(x)), float(low), float(high), limit=200)[0]

    def grid(self, at: int):
        """A matrix, or the case that was asked for."""
        kind, end, level = self.at(at), at, 0
        while True:
            level += self.at(end).startswith(r"\begin{") - self.at(end).startswith(r"\end{")
            end += 1
            if not level:
                break
        rows = [cut(row, "&") for row in cut(self.found[at + 1 : end - 1], r"\\") if row]
        if kind == r"\begin{cases}":
            wanted = self.reader.special.get("cases")
            chosen = rows if wanted is None else [rows[wanted]]
            worth = [self.reader.value(cut(row[0], ",")[0]) for row in chosen]
            return (matrix([[each] for each in worth]) if wanted is None else worth[0]), end
        return matrix([[self.reader.value(part) if part else 0 for part in row] for row in rows]), end


def _double(key: str, value) -> bool:
    return isinstance(value, tuple) and (r"\pm" in key or r"\mp" in key)


def _refuse(name: tuple) -> None:
    """A name that holds a whole formula would hide what is to be read."""
    level = 0
    for before, token in zip(("", *name), name, strict=False):
        level += depth(token)
        if level == 0 and (token == "=" or (token in "+-" and before not in ("_", "^"))):
            raise ValueError(f"values must name letters, not formulas, got {' '.join(name)}")
