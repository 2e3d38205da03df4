"""nbval compares text; this plugin makes it compare the numbers in the text with a tolerance.

Two stored outputs are equal when their words are equal and their numbers differ by less than a relative 1e-6, as they
do between processors. The measured error in a line of the ledger is not compared: the check has asserted it.
Pictures are not compared either, but a cell that has a figure in its metadata must have made one.
"""

import math
import re

from nbval.plugin import IPyNbCell

import chapters

RTOL, ATOL = 1e-6, 1e-12
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")
_LEDGER_ERROR = re.compile(r"^(✓ \S+ \| [a-z]+ \| )\S+( <= )", re.M)
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


class Tolerant(str):
    """Text that equals other text when the words agree exactly and the numbers within tolerance."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other) -> bool:
        if not isinstance(other, str):
            return False
        if _NUMBER.sub("#", self) != _NUMBER.sub("#", other):
            return False
        pairs = zip(_NUMBER.findall(self), _NUMBER.findall(other), strict=True)
        return all(math.isclose(float(a), float(b), rel_tol=RTOL, abs_tol=ATOL) for a, b in pairs)

    def __ne__(self, other) -> bool:
        return not self == other


_sanitize = IPyNbCell.sanitize


def _tolerant(cell, text):
    if not isinstance(text, str):
        return text
    text = _ADDRESS.sub("0x…", _LEDGER_ERROR.sub(r"\1…\2", _sanitize(cell, text)))
    return Tolerant(text)


IPyNbCell.sanitize = _tolerant

_run = IPyNbCell.runtest


def _run_and_look(cell) -> None:
    _run(cell)
    if chapters.lacks_its_picture(cell.cell, cell.test_outputs):
        cell.raise_cell_error("The cell has a figure in its metadata and made no picture", "")


IPyNbCell.runtest = _run_and_look
