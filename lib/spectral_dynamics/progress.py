"""How far a long computation has come, on standard error."""

import numpy as np
from tqdm import tqdm

TIME_ALONE = "{l_bar}{bar}| {elapsed}<{remaining}"  # where what is counted means nothing to a reader


def bar(name: str, total: int, progress: bool | None, form: str | None = TIME_ALONE, initial: int = 0) -> tqdm:
    """Counts up to `total`. None: only on a terminal, and only once a second has passed; True: at once; False: never.

    Raises ValueError for another `progress`.
    """
    if not isinstance(progress, bool | np.bool_ | None):
        raise ValueError(f"progress must be True, False or None, got {progress!r}")
    return tqdm(
        total=total,
        initial=initial,
        desc=name,
        disable=None if progress is None else not progress,
        delay=1.0 if progress is None else 0.0,
        bar_format=form,
    )
