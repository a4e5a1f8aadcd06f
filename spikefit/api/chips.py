"""The chips that spikefit knows."""

from collections.abc import Sequence
from pathlib import Path

from spikefit.errors import ConfigurationError
from spikefit.hardware.target import HardwareTarget, available_targets

Hardware = str | Path | HardwareTarget
"""A chip: its name, the path of its YAML file, or its description."""
ALL = "all"


def chips() -> list[HardwareTarget]:
    """The descriptions of all chips that come with spikefit, by name.

    Example:
        >>> for chip in chips()[:2]:
        ...     print(chip.name, chip.family, chip.limits.cores.value)
        akida_akd1000 memory 78
        altai1 crossbar 16
    """
    return [HardwareTarget.load(name) for name in available_targets()]


def chip_of(hardware: Hardware, own: HardwareTarget | None = None) -> HardwareTarget:
    """The description of one chip.

    Args:
        hardware: the chip.
        own: the chip of the run, whose name stands for this description.

    Raises:
        TargetError: for an unknown name, or a missing or malformed file.
    """
    if isinstance(hardware, HardwareTarget):
        return hardware
    if own is not None and str(hardware) == own.name:
        return own
    return HardwareTarget.load(hardware)


def chosen_chips(names: Sequence[Hardware], own: HardwareTarget | None = None) -> list[HardwareTarget]:
    """The chips that a command names: ``all``, some, or, if none is named, the chip of the run.

    Args:
        names: names and paths; ``all`` for every chip that comes with spikefit.
        own: the chip of the run, if it has one.

    Raises:
        ConfigurationError: if neither the command nor the run names a chip, or a chip is named twice.
        TargetError: for an unknown name, or a missing or malformed file.
    """
    if not names:
        if own is None:
            raise ConfigurationError(
                f"hardware: no chip is named, and the run has none; expected {ALL}, or some of "
                f"{', '.join(available_targets())}, or paths of YAML files."
            )
        return [own]
    if ALL in names:
        if len(names) > 1:
            raise ConfigurationError(f"hardware: got {', '.join(map(str, names))}, expected {ALL} alone, or chips.")
        return [chip_of(name, own) for name in available_targets()]
    found = [chip_of(name, own) for name in names]
    listed = [chip.name for chip in found]
    if len(set(listed)) < len(listed):
        raise ConfigurationError(f"hardware: got {', '.join(listed)}, expected each chip once.")
    return found
