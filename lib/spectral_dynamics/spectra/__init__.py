"""Level two: spectra, given order parameters. Knows nothing of training."""

from . import laws, outliers, sharpness

__all__ = ["laws", "outliers", "sharpness"]
