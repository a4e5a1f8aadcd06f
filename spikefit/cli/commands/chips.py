"""List the chips that come with spikefit, or show every figure of one, with its source and confidence.

examples:
  spikefit chips
  spikefit chips loihi
  spikefit chips loihi --yaml > my_chip.yaml
"""

import argparse
from collections.abc import Sequence
from typing import Any

from spikefit.api.chips import chips
from spikefit.cli.commands.console import console, table
from spikefit.deploy.report.html import CONFIDENCES, UNITS, plain
from spikefit.deploy.report.terminal import quantity
from spikefit.hardware.sourced_value import known
from spikefit.hardware.target import HardwareTarget, chip_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="a chip, or the path of a YAML file; all if left out")
    parser.add_argument("--yaml", action="store_true", help="print the chip's file, as a start for your own")


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """List all chips, or show one."""
    given = parser.parse_args(words)
    if given.name is None:
        if given.yaml:
            parser.error("--yaml needs the NAME of a chip")
        console().print(table([summary(chip) for chip in chips()], right=("cores", "neurons", "unknown", "recalled")))
        print("spikefit chips NAME shows every figure of a chip with its source.")
        return 0
    chip = HardwareTarget.load(given.name)
    if given.yaml:
        print(chip_file(given.name).read_text(encoding="utf-8"), end="")
        return 0
    out = console()
    out.print(f"{chip.name}: {chip.description}", markup=False)
    out.print(table([figure(name, value) for name, value in chip.sourced_values()]))
    return 0


def summary(chip: HardwareTarget) -> dict[str, str]:
    """The row of a chip: sizes, what its neurons can do, and how many of its figures are unknown or unverified."""
    figures = [value for _, value in chip.sourced_values()]
    per_core, whole = known(chip.limits.neurons_per_core), known(chip.limits.neurons_per_chip)
    neurons = "-" if per_core is whole is None else f"{whole:,}" if per_core is None else f"{per_core:,} a core"
    return {
        "chip": chip.name,
        "cores": _or_dash(known(chip.limits.cores)),
        "neurons": neurons,
        "weight bits": _listed(known(chip.weights.bits)),
        "neuron models": _listed(known(chip.neuron.models)),
        "unknown": str(sum(figure.value is None for figure in figures)),
        "recalled": str(sum(figure.unverified for figure in figures)),
        "description": chip.description,
    }


def figure(name: str, value: Any) -> dict[str, str]:
    """The row of one figure."""
    unit = UNITS.get(name.rpartition("_")[2])
    if value.value is None:
        text = "unknown"
    elif unit is not None and not isinstance(value.value, tuple):
        text = quantity(value.value, unit)
    else:
        text = plain(value.value)
    return {
        "figure": name,
        "value": text,
        "source": value.source or "-",
        "confidence": CONFIDENCES.get(value.confidence or "", "-"),
    }


def _or_dash(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _listed(values: Sequence[object] | None) -> str:
    return "-" if not values else ", ".join(map(str, values))
