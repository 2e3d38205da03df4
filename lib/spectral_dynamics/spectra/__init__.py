"""Level two: spectra, given order parameters. Knows nothing of training."""

from . import laws, outliers

__all__ = ["laws", "outliers"]
