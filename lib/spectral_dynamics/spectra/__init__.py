"""Level two: spectra, given order parameters. Knows nothing of training."""

from . import deviation, fitted, laws, linearization, many_outputs, outliers, sharpness, strengths

__all__ = ["deviation", "fitted", "laws", "linearization", "many_outputs", "outliers", "sharpness", "strengths"]
