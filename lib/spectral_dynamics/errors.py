"""What a solver raises when it cannot deliver. Nothing computed so far is lost: it is in `.partial`."""


class ConvergenceError(RuntimeError):
    """An iteration stopped short of its tolerance. `.partial` is the best iterate, `.residual` its true error."""

    def __init__(self, message: str, partial=None, residual: float | None = None):
        super().__init__(message)
        self.partial = partial
        self.residual = residual

    def __reduce__(self):  # so that it survives the way back from a worker
        return type(self), (*self.args, self.partial, self.residual)


class DivergenceError(RuntimeError):
    """Training ran away at `.step`; `.partial` holds everything up to there."""

    def __init__(self, message: str, step: int, partial=None):
        super().__init__(message)
        self.step = step
        self.partial = partial

    def __reduce__(self):
        return type(self), (*self.args, self.step, self.partial)


class InstabilityWarning(UserWarning):
    """A solution was found, but one from other random numbers would be another."""
