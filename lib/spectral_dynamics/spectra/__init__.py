"""Level two: spectra, given order parameters. Knows nothing of training."""
