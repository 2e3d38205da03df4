"""What is trained. A problem is frozen and validated once, at the door; theory and networks take the same one."""

from dataclasses import dataclass

from . import arguments


@dataclass(frozen=True)
class LeastSquares:
    """Linear regression on Gaussian data, trained by full-batch gradient descent.

    Inputs `X` (P, D) i.i.d. N(0, 1), targets `y = X wstar/sqrt(D) + noise`, `|wstar|^2 = D`, start at zero.
    With the error vector `v = wstar - beta`, `Delta = X v/sqrt(D) + noise` and
    `vhat = sqrt(D)/P X^T Delta`, one step is

        beta(t+1) = beta(t) + learning_rate (vhat(t) - ridge beta(t)) .

    `data_ratio` is alpha = P/D; `ridge` the L2 penalty, in units of the function-space rate;
    `noise_std` a standard deviation. Proportional limit: D, P -> infinity at fixed alpha.
    """

    data_ratio: float
    learning_rate: float
    ridge: float = 0.0
    noise_std: float = 0.0

    def __post_init__(self):
        arguments.number("data_ratio", self.data_ratio, above=0)
        arguments.number("learning_rate", self.learning_rate, above=0)
        arguments.number("ridge", self.ridge, at_least=0)
        arguments.number("noise_std", self.noise_std, at_least=0)
