"""Level two: spectra, given order parameters. Knows nothing of training."""

from . import laws, many_outputs, outliers, sharpness

__all__ = ["laws", "many_outputs", "outliers", "sharpness"]
