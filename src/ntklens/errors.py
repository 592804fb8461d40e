"""The errors of the package. Each message says what was expected, what was given, and what to do."""


class NtklensError(Exception):
    """An error that the user can put right; the command line prints it as one sentence and exits with code 2."""


class InputError(NtklensError, ValueError):
    """An argument with a wrong value, shape or type, or a file that is missing or cannot be read."""


class UnsupportedLayer(NtklensError):
    """A module, or an operation in its forward, without an infinite-width rule; the message names it and an alternative."""


class NumericalFailure(NtklensError, ArithmeticError):
    """A computation that floating point cannot complete as asked; the message names a remedy."""


class NotPositiveDefinite(NumericalFailure):
    """A matrix that was to be inverted, and that rounding does not tell from a singular one."""
