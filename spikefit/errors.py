"""Errors that a user can fix; the command line prints only their message, without a traceback."""

from collections.abc import Iterable, Iterator
from typing import SupportsFloat


class SpikeFitError(Exception):
    """Base class of errors that a user can fix; the message says what is wrong and what is expected."""


class ConfigurationError(SpikeFitError, ValueError):
    """An option has a value that is not allowed."""


class DataError(SpikeFitError, OSError):
    """A data set or one of its files is missing or damaged."""


class TargetError(SpikeFitError, ValueError):
    """A hardware description is malformed, or a network uses a feature that the chip does not have."""


class CheckpointError(SpikeFitError):
    """A checkpoint is missing, damaged, or belongs to another network."""


class StorageError(SpikeFitError, OSError):
    """A file can't be written: the disk is full, a quota is used up, or the folder can't be written to."""


class NonFiniteError(SpikeFitError, ArithmeticError):
    """A loss, gradient, weight or current is NaN or infinite."""


class BundleError(SpikeFitError):
    """A bundle is missing, damaged, or of another format, or a program can't be stored in a bundle."""


class ReportError(SpikeFitError, ValueError):
    """A report is damaged or lacks a field."""


class ExchangeError(SpikeFitError, ValueError):
    """A network can't be written to or read from the format of another library."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """``error``, and what it was raised from, in turn."""
    while error is not None:
        yield error
        error = error.__cause__


def user_error(error: BaseException) -> SpikeFitError | None:
    """The first error among :func:`causes` that a user can fix; jsonargparse wraps them into errors about types."""
    return next((cause for cause in causes(error) if isinstance(cause, SpikeFitError)), None)


def check_choice(option: str, value: object, allowed: Iterable[object]) -> None:
    """Raise :class:`ConfigurationError` naming ``option`` unless ``value`` is one of ``allowed``."""
    allowed = list(allowed)
    if value not in allowed:
        choices = ", ".join(repr(choice) for choice in allowed)
        raise ConfigurationError(f"{option}: got {value!r}, expected one of {choices}.")


def check_range(option: str, value: float, low: float | None = None, high: float | None = None) -> None:
    """Raise :class:`ConfigurationError` naming ``option`` unless ``value`` is a number and ``low <= value <= high``."""
    if (
        not isinstance(value, SupportsFloat)
        or (low is not None and not value >= low)
        or (high is not None and not value <= high)
    ):  # NaN is in no range
        if high is None:
            wanted = f"at least {low}"
        elif low is None:
            wanted = f"at most {high}"
        else:
            wanted = f"a value from {low} to {high}"
        raise ConfigurationError(f"{option}: got {value!r}, expected {wanted}.")
