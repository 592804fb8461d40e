"""The errors of the package: each message says what was expected, what came, and what to do."""


class NtklensError(Exception):
    """Anything that a user can put right; the command line prints it as one sentence and exits with 2."""


class InputError(NtklensError, ValueError):
    """An argument that does not fit: its value, shape, type or a file that is not there."""


class UnsupportedLayer(NtklensError):
    """A module, or a part of it, that has no infinite-width rule; the message names it and an alternative."""


class NumericalFailure(NtklensError, ArithmeticError):
    """A computation that cannot be completed in floating point as asked; the message names the remedy."""
