"""Arguments are checked once, at the door. Each message names the argument, what was wrong and what is allowed."""

import numbers

import numpy as np


def number(name: str, value, *, above: float | None = None, at_least: float | None = None) -> float:
    """A finite real scalar, as a float. Raises ValueError, also when it is not `above` or `at_least` the bound."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not np.isfinite(value):
        raise ValueError(f"{name} must be a finite real number, got {value!r}")
    if above is not None and not value > above:
        raise ValueError(f"{name} must be greater than {above}, got {value!r}")
    if at_least is not None and not value >= at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value!r}")
    return float(value)


def whole(name: str, value, *, at_least: int = 0) -> int:
    """An integer not below `at_least`. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value!r}")
    return int(value)


def fraction(name: str, value) -> float:
    """A number between 0 and 1, both excluded. Raises ValueError."""
    value = number(name, value, above=0)
    if value >= 1:
        raise ValueError(f"{name} must be below 1, got {value!r}")
    return value


def array(name: str, value, *, shape: tuple | None = None, ndim: int | None = None) -> np.ndarray:
    """A finite, non-empty float64 array. In `shape`, None stands for any length. Raises ValueError."""
    try:
        result = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an array of real numbers, got {type(value).__name__}") from None
    if ndim is not None and result.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension(s), got shape {result.shape}")
    if shape is not None:
        fits = len(shape) == result.ndim
        fits = fits and all(want is None or want == have for want, have in zip(shape, result.shape, strict=True))
        if not fits:
            wanted = "(" + ", ".join("any" if want is None else str(want) for want in shape) + ")"
            raise ValueError(f"{name} must have shape {wanted}, got {result.shape}")
    if result.size == 0:
        raise ValueError(f"{name} is empty, at least one entry is needed")
    if not np.all(np.isfinite(result)):
        raise ValueError(f"{name} holds {np.sum(~np.isfinite(result))} non-finite entries, all must be finite")
    return result


def one_of(name: str, value, allowed) -> str:
    """A word out of `allowed`. Raises ValueError."""
    if value not in tuple(allowed):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def generator(name: str, value) -> np.random.Generator:
    """A seeded `numpy.random.Generator`. Raises ValueError."""
    if not isinstance(value, np.random.Generator):
        raise ValueError(f"{name} must be a numpy.random.Generator, got {type(value).__name__}")
    return value
