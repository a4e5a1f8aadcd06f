"""Check whether a network fits a chip, before training: which limits it violates, and what would help.

The network has random weights, all its units and the quantizers of its configuration; no data are read. All options of
`spikefit fit` may be given. The exit status is 0 if the network fits every chip that is named, else 1 (with all: 0).

examples:
  spikefit check --config quickstart.yaml --hardware all
  spikefit check --config quickstart.yaml --hardware truenorth --model.init_args.network.init_args.hidden=[32]
  spikefit check runs/quickstart/version_0 --hardware loihi2 my_chip.yaml
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from spikefit.cli.commands.console import console, table
from spikefit.hardware.finding import grouped

if TYPE_CHECKING:
    from spikefit.api.check import Check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("--config", metavar="FILE", action="append", help="a configuration; later ones override")
    parser.add_argument(
        "--hardware",
        metavar="CHIP",
        nargs="+",
        default=[],
        help="names and YAML files of chips, or all; by default the chip of the configuration, or else all",
    )
    parser.usage = "spikefit check (--config FILE ... [OPTION OF fit ...] | RUN) [--hardware CHIP ...]"


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Check the network on each chip and print one table."""
    source = words[0] if words and not words[0].startswith("-") else None
    given, rest = parser.parse_known_args(words if source is None else words[1:])
    if source is not None and (rest or given.config):
        parser.error("expected either a run or a checkpoint, or --config with options of fit")
    if source is None and not given.config:
        parser.error("expected --config FILE, or a run or a checkpoint")

    from spikefit.api.check import check_on, module_of  # imports torch and Lightning
    from spikefit.api.chips import ALL, chosen_chips
    from spikefit.api.load import make_importable
    from spikefit.cli.configured import configured_module

    make_importable()
    if source is None:
        options = [word for file in given.config for word in ("--config", file)]
        module, untrained = configured_module([*options, *rest]), True
    else:
        module, untrained = module_of(source)
    names = given.hardware or ([] if module.hardware is not None else [ALL])
    checks = [check_on(module, chip, untrained) for chip in chosen_chips(names, module.hardware)]
    out = console()
    if len(checks) == 1:
        out.print(table(limits(checks[0]), right=("needs", "has")) if checks[0].findings else str(checks[0]))
        if checks[0].remedy:
            out.print(f"{checks[0].chip}: {checks[0].remedy}.", markup=False, soft_wrap=True)
    else:
        out.print(table([summary(check) for check in checks], right=("cores",)))
        print("With one chip, spikefit check shows what each limit needs and has.")
    every = [] if ALL in names else checks
    return 0 if all(check.fits for check in every) else 1


def limits(check: "Check") -> list[dict[str, str]]:
    """One row for each violated limit."""
    return [
        {
            "limit": finding.limit,
            "where": finding.where,
            "needs": str(finding.needed),
            "has": str(finding.available),
            "what would help": finding.remedy,
        }
        for finding in grouped(check.findings)
    ]


def summary(check: "Check") -> dict[str, str]:
    """The row of a chip."""
    unknown = f"as far as known; {len(check.unknown_limits)} limits are not published" if check.unknown_limits else ""
    return {
        "chip": check.chip,
        "fits": "yes" if check.fits else "no",
        "cores": "-" if check.cores is None or not check.fits else f"{check.cores:,}",
        "violated limits": ", ".join(dict.fromkeys(finding.limit for finding in check.findings)) or "-",
        "what would help": check.remedy or unknown,
    }
