"""Level two: spectra, given order parameters. Knows nothing of training."""

from . import laws, linearization, many_outputs, outliers, sharpness, strengths

__all__ = ["laws", "linearization", "many_outputs", "outliers", "sharpness", "strengths"]
