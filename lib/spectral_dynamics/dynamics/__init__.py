"""Level one: order parameters in training time."""

from . import deep_linear, least_squares, mlp
from .order import OrderParameters

__all__ = ["OrderParameters", "deep_linear", "least_squares", "mlp"]
