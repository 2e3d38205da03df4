"""What takes minutes of training: scripts, seeds, stored results. Installed with the library, as `spectral_experiments`."""
