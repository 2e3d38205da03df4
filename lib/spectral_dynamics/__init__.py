"""Spectral dynamics of deep networks: two-level dynamical mean-field theory.

    problems ─► dynamics ─► OrderParameters ─► spectra ─► a chapter: check, plot
        └─────► networks ─► Recording ───────────────────►┘

`dynamics` is level one (order parameters in training time), `spectra` is level two (spectra, given the
order parameters) and `networks` is the ground truth, which imports nothing of the theory.
"""

from . import dynamics, networks, problems, spectra

__all__ = ["dynamics", "networks", "problems", "spectra"]
__version__ = "0.10.0"
