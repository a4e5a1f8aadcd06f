"""How the pruned fraction grows."""

from typing import Literal

from spikefit.errors import ConfigurationError, check_choice, check_range

Growth = Literal["one_shot", "linear", "cubic"]


def pruned_fraction(final: float, event: int, events: int, growth: Growth = "cubic") -> float:
    """Fraction of the units that is gone after pruning event ``event`` of ``events`` (counted from 1).

    ``cubic`` is ``final * (1 - (1 - event / events)**3)`` (Zhu and Gupta 2017, arXiv 1710.01878): most goes early,
    when the network has time to recover. ``one_shot`` takes everything at the first event.

    Raises:
        ConfigurationError: for a fraction outside [0, 1), an event outside 1..events, or an unknown growth.
    """
    check_choice("growth", growth, ("one_shot", "linear", "cubic"))
    if not 0 <= final < 1:
        raise ConfigurationError(f"fraction: got {final!r}, expected a value in [0, 1).")
    check_range("event", event, 1, events)
    if growth == "one_shot":
        return final
    progress = event / events
    return final * progress if growth == "linear" else final * (1 - (1 - progress) ** 3)
