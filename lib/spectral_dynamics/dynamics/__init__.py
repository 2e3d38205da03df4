"""Level one: order parameters in training time."""

from . import least_squares
from .order import OrderParameters

__all__ = ["OrderParameters", "least_squares"]
