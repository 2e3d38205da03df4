"""Where a source can be changed in one place, and how: an operator, a number, an index, a term, a factor, a name.

What is no formula is left alone: text, errors raised, what is drawn or printed, checks and assertions, annotations,
tolerances (numbers written with an exponent, and arguments called so), and arguments such as sizes and seeds.
"""

import ast
import io
import re
import tokenize
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256

ARITHMETIC = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}
COMPARISONS = {"<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"), "==": ("!=",), "!=": ("==",)}
NAMES = {
    name: other
    for pair in (
        ("sin", "cos"),
        ("min", "max"),
        ("minimum", "maximum"),
        ("argmin", "argmax"),
        ("tril", "triu"),
        ("zeros", "ones"),
        ("zeros_like", "ones_like"),
        ("real", "imag"),
        ("sinh", "cosh"),
        ("asin", "acos"),
    )
    for name, other in (pair, pair[::-1])
}
CHOICES = re.compile(
    r"strict|at_least|above|tol|accuracy|seed|rng|figsize|otypes|dtype|axis|label|kind|record|sites|replicas|progress|bar"
)
NO_RESULT = re.compile(r"rival|room|why|tol")  # a wrong answer already, or how far a check may be off
GUARDS = re.compile(r"checks\.|print\(|plt\.|plots\.|display\(|_guard\(")
DRAWING = re.compile(r"\b(plots|plt|ax|axes|fig)\b|color|label|\blw\b|\bls\b|\bms\b|alpha=|style")
ASSIGNED = (ast.Assign, ast.AnnAssign, ast.AugAssign)


@dataclass(frozen=True)
class Change:
    """One changed place: on `line` (from 1), bytes `start` to `end` of it become `new`. `line_text` is as it was."""

    line: int
    start: int
    end: int
    new: str
    line_text: str
    occurrence: int = 0  # among equal lines of the source

    @property
    def before(self) -> str:
        return self.line_text.strip()

    @property
    def after(self) -> str:
        return self._changed().strip()

    def _changed(self) -> str:
        line = self.line_text.encode()
        return (line[: self.start] + self.new.encode() + line[self.end :]).decode()

    def apply(self, source: str) -> str:
        lines = source.split("\n")
        lines[self.line - 1] = self._changed()
        return "\n".join(lines)

    def key(self, *salt) -> str:
        """The same wherever the line has moved to."""
        parts = (*salt, self.line_text, self.occurrence, self.start, self.end, self.new)
        return sha256(repr(parts).encode()).hexdigest()


class Sites(ast.NodeVisitor):
    """Collects (line, start, end, new) of a source. `formulas`: numbers count only in sums, products and indices."""

    def __init__(self, source: str, formulas: bool, drawn: bool):
        self.formulas, self.drawn, self.found, self.parents = formulas, drawn, [], []
        self.source = source
        self.tokens = {}  # those of each line: (word, line, byte)
        for one in tokenize.generate_tokens(io.StringIO(source).readline):
            if one.type in (tokenize.OP, tokenize.NAME):
                row, column = one.start
                self.tokens.setdefault(row, []).append((one.string, row, len(one.line[:column].encode())))
        self.visit(ast.parse(source))

    def visit(self, node):
        if self._left_alone(node):
            return
        self.parents.append(node)
        super().visit(node)
        self.parents.pop()

    def _left_alone(self, node) -> bool:
        if isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.arguments)):
            return True
        if isinstance(node, ast.keyword):
            return bool(node.arg and CHOICES.search(node.arg)) or (
                self.formulas and isinstance(node.value, ast.Constant)
            )
        text = ast.get_source_segment(self.source, node) if isinstance(node, (ast.Expr, *ASSIGNED)) else ""
        if isinstance(node, ast.Expr) and GUARDS.match(text):
            return True
        return self.drawn and bool(text) and (isinstance(node, ast.Expr) or bool(DRAWING.search(text)))

    def add(self, line: int, start: int, end: int, new: str) -> None:
        self.found.append((line, start, end, new))

    def operator(self, words, after, before):
        """The token that stands between two places."""
        lines = range(after[0], before[0] + 1)
        inside = (t for k in lines for t in self.tokens.get(k, ()) if after <= t[1:] < before and t[0] in words)
        return next(inside, None)

    def visit_BinOp(self, node):
        swapped = ARITHMETIC.get(type(node.op))
        found = swapped and self.operator("+-*/", _end(node.left), _start(node.right))
        if found:
            word, line, column = found
            self.add(line, column, column + 1, swapped)
            if node.end_lineno == line:
                self.add(line, column, node.end_col_offset, "")
            if node.lineno == line and word in "+*":
                self.add(line, node.col_offset, column + 2, "")
        self.generic_visit(node)

    def visit_AugAssign(self, node):
        swapped = ARITHMETIC.get(type(node.op))
        found = swapped and self.operator(("+=", "-=", "*=", "/="), _end(node.target), _start(node.value))
        if found:
            self.add(found[1], found[2], found[2] + 1, swapped)
        self.visit(node.value)

    def visit_Assign(self, node):
        (target, *_), value = node.targets, node.value
        if isinstance(target, ast.Name) and NO_RESULT.search(target.id):
            return
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            for name, one in zip(target.elts, value.elts, strict=True):
                if not NO_RESULT.search(ast.unparse(name)):
                    self.visit(one)
            return
        self.visit(value)

    def visit_AnnAssign(self, node):
        if node.value:
            self.visit(node.value)

    def visit_Compare(self, node):
        if len(node.ops) == 1:
            found = self.operator(COMPARISONS, _end(node.left), _start(node.comparators[0]))
            for other in COMPARISONS[found[0]] if found else ():
                self.add(found[1], found[2], found[2] + len(found[0]), other)
        self.generic_visit(node)

    def visit_UnaryOp(self, node):
        if isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
            self.add(node.lineno, node.col_offset, node.col_offset + 1, "")
        if isinstance(node.op, ast.Not):
            self.add(node.lineno, node.col_offset, node.col_offset + 4, "")
        self.generic_visit(node)

    def visit_BoolOp(self, node):
        found = self.operator(("and", "or"), _end(node.values[0]), _start(node.values[1]))
        if found:
            self.add(found[1], found[2], found[2] + len(found[0]), "or" if found[0] == "and" else "and")
        self.generic_visit(node)

    def visit_Constant(self, node):
        if not isinstance(node.value, (bool, int, float)) or node.lineno != node.end_lineno:
            return
        text = ast.get_source_segment(self.source, node)
        if isinstance(node.value, bool):
            new = str(not node.value)
        elif "e" in text or not self._in_a_formula():
            return
        elif isinstance(node.value, int):
            new = str(node.value + 1)
        else:
            new = repr(2 * node.value or 1.0)
        self.add(node.lineno, node.col_offset, node.end_col_offset, new)

    def _in_a_formula(self) -> bool:
        if not self.formulas:
            return True
        above = [one for one in self.parents[:-1] if not isinstance(one, (ast.UnaryOp, ast.Tuple))]
        return isinstance(above[-1], (ast.BinOp, ast.Slice, ast.Subscript))

    def visit_Attribute(self, node):
        line, end = node.end_lineno, node.end_col_offset
        if node.attr == "T":
            self.add(line, end - 2, end, "")
        elif node.attr in NAMES:
            self.add(line, end - len(node.attr), end, NAMES[node.attr])
        self.visit(node.value)

    def visit_Name(self, node):
        if node.id in NAMES and isinstance(node.ctx, ast.Load):
            self.add(node.lineno, node.col_offset, node.end_col_offset, NAMES[node.id])

    def visit_FunctionDef(self, node):
        for one in node.body:
            self.visit(one)

    def visit_ClassDef(self, node):
        self.visit_FunctionDef(node)


def _start(node) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _end(node) -> tuple[int, int]:
    return node.end_lineno, node.end_col_offset


def changes(source: str, formulas: bool = False, drawn: bool = False) -> list[Change]:
    """Every place of a source that can be changed."""
    lines, seen, places = source.split("\n"), Counter(), []
    for line in lines:
        places.append(seen[line])
        seen[line] += 1
    found = {
        Change(line, start, end, new, lines[line - 1], places[line - 1])
        for line, start, end, new in Sites(source, formulas, drawn).found
    }
    return sorted(found, key=lambda one: (one.line, one.start, one.end, one.new))


def changes_something(change: Change, source: str) -> bool:
    """Whether the changed source compiles, to something else."""
    try:
        return ast.dump(ast.parse(change.apply(source))) != ast.dump(ast.parse(source))
    except SyntaxError:
        return False


def functions(source: str) -> dict[int, str]:
    """{line: text of the function or method around it}."""
    tops = [node for node in ast.parse(source).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    found = {}
    for top in tops:
        parts = [n for n in top.body if isinstance(n, ast.FunctionDef)] if isinstance(top, ast.ClassDef) else [top]
        for node in parts:
            text = ast.get_source_segment(source, node)
            found |= dict.fromkeys(range(node.lineno, node.end_lineno + 1), text)
    return found
