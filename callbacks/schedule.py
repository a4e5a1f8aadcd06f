"""Schedule of the epochs or steps at which a callback acts."""

from dataclasses import dataclass, replace
from typing import Literal

from spikefit.errors import ConfigurationError, check_choice, check_range

Interval = Literal["epoch", "step"]


@dataclass(frozen=True)
class Schedule:
    """Positions ``start``, ``start + every``, ... up to ``stop``, in epochs or optimizer steps.

    In YAML, for example, ``schedule: {start: 8, stop: 20}``; omitted options keep the default of the callback.

    Args:
        start: first position, counted from 0.
        stop: upper bound of the positions, inclusive; None for no end.
        every: distance between two positions.
        interval: unit of the positions, ``epoch`` or ``step``.

    Raises:
        ConfigurationError: for negative positions, a stop before the start, or another interval.

    Example:
        >>> schedule = Schedule(8, 20, every=5)
        >>> [position for position in range(30) if schedule.due(position)], schedule.last
        ([8, 13, 18], 18)
    """

    start: int = 0
    stop: int | None = None
    every: int = 1
    interval: Interval = "epoch"

    def __post_init__(self) -> None:
        check_range("schedule.start", self.start, 0)
        check_range("schedule.every", self.every, 1)
        check_choice("schedule.interval", self.interval, ("epoch", "step"))
        if self.stop is not None:
            check_range("schedule.stop", self.stop, self.start)

    def due(self, position: int) -> bool:
        """Whether epoch (or step) ``position`` belongs to the schedule."""
        if position < self.start or (self.stop is not None and position > self.stop):
            return False
        return (position - self.start) % self.every == 0

    @property
    def last(self) -> int | None:
        """The last position; None for a schedule without an end."""
        return None if self.stop is None else self.stop - (self.stop - self.start) % self.every

    def settled(self, position: int) -> bool:
        """Whether nothing is due after ``position``."""
        return self.last is not None and position >= self.last

    @property
    def endless(self) -> "Schedule":
        """The same schedule without an end."""
        return replace(self, stop=None)

    def require_end(self) -> int:
        """Return the last position.

        Raises:
            ConfigurationError: if the schedule has no end.
        """
        if self.last is None:
            raise ConfigurationError(f"schedule.stop: got None, expected the last position, at least {self.start}.")
        return self.last


def require_schedule(schedule: object) -> Schedule:
    """Return ``schedule`` if it is a :class:`Schedule`.

    Raises:
        ConfigurationError: for any other object, for example a plain number.
    """
    if not isinstance(schedule, Schedule):
        raise ConfigurationError(f"schedule: got {schedule!r}, expected Schedule(start, stop, every, interval).")
    return schedule
