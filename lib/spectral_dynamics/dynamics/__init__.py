"""Level one: order parameters in training time."""
