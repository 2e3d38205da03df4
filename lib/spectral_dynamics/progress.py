"""Bars for what takes longer than a moment: on terminals alone, so never in a notebook or a log."""

import numpy as np
from tqdm import tqdm


def bar(what: str, work: float, progress: bool | None) -> tqdm:
    """A bar on standard error that is full after `work`, counted so that the time left is told right.

    `progress`: show it; None: only on a terminal, and only once a second has passed. Raises ValueError for anything
    else.
    """
    if not isinstance(progress, bool | np.bool_ | None):
        raise ValueError(f"progress must be True, False or None, got {progress!r}")
    return tqdm(
        total=work,
        desc=what,
        disable=None if progress is None else not progress,
        delay=1.0 if progress is None else 0.0,
        bar_format="{l_bar}{bar}| {elapsed}<{remaining}",
    )
