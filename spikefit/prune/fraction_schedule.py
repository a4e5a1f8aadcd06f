"""Growth of the pruned fraction over the pruning events."""

from typing import Literal

from spikefit.errors import ConfigurationError, check_choice, check_range

Growth = Literal["one_shot", "linear", "cubic"]


def growth_progress(event: int, events: int, growth: Growth = "cubic") -> float:
    """Share of the total pruning, 0 to 1, that is done after pruning event ``event`` of ``events`` (counted from 1).

    ``cubic`` is ``1 - (1 - event / events)**3`` (Zhu and Gupta 2017, arXiv 1710.01878): most is pruned early, while the
    network has time to recover. ``one_shot`` prunes everything at the first event.

    Raises:
        ConfigurationError: for an event outside 1..events or an unknown growth.

    Example:
        >>> [growth_progress(event, 4) for event in (1, 2, 3, 4)]
        [0.578125, 0.875, 0.984375, 1.0]
    """
    check_choice("growth", growth, ("one_shot", "linear", "cubic"))
    check_range("event", event, 1, events)
    if growth == "one_shot":
        return 1.0
    progress = event / events
    return progress if growth == "linear" else 1 - (1 - progress) ** 3


def pruned_fraction(final: float, event: int, events: int, growth: Growth = "cubic") -> float:
    """Fraction that is pruned after event ``event`` of ``events``: ``final`` times :func:`growth_progress`.

    Raises:
        ConfigurationError: for a fraction outside [0, 1), an event outside 1..events, or an unknown growth.
    """
    if not 0 <= final < 1:
        raise ConfigurationError(f"fraction: got {final!r}, expected a value in [0, 1).")
    return final * growth_progress(event, events, growth)


def budget_limit(first: float, budget: float, event: int, events: int, growth: Growth = "cubic") -> float:
    """The largest size allowed after event ``event``, on the way from ``first`` down to ``budget``.

    Args:
        first: size just before the first event.
        budget: limit from the last event on.
        event, events, growth: as in :func:`growth_progress`.

    Raises:
        ConfigurationError: as :func:`growth_progress`.
    """
    progress = growth_progress(event, events, growth)
    return max(budget, first * (1 - progress) + budget * progress)
