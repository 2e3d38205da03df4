"""What is raised where there is no whole answer. What has been computed is in `.partial`, or in `.results`."""


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


class SweepError(RuntimeError):
    """Some cases of a sweep failed. `.results`: those of the others, None in place of the failed ones; all are kept.

    `.errors`: by the place of a case, what it raised, with all that this carries.
    """

    def __init__(self, message: str, results: list, errors: dict[int, Exception]):
        super().__init__(message)
        self.results = results
        self.errors = errors

    def __reduce__(self):
        return type(self), (*self.args, self.results, self.errors)


class InstabilityWarning(UserWarning):
    """A solution was found, but one from other random numbers would be another."""
