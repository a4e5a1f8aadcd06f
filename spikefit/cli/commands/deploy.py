"""Deploy a trained network to one or more chips: lower, check, place and simulate it on the test set.

Data, encoding, time steps and options come from the configuration in the directory of the run, so that the figures are
those of the run's own deployment. Writes report.json and report.html for each chip, and comparison.json.

examples:
  spikefit deploy runs/quickstart/version_0/checkpoints/best.ckpt --hardware loihi
  spikefit deploy runs/quickstart/version_0 --hardware loihi odin my_chip.yaml
  spikefit deploy runs/quickstart/version_0 --hardware all --samples 100
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from spikefit.cli.commands import USAGE
from spikefit.cli.commands.console import console, show_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("checkpoint", metavar="CKPT", help="a checkpoint, or the directory of a run (its best one)")
    parser.add_argument(
        "--hardware",
        metavar="CHIP",
        nargs="+",
        default=[],
        help="names and YAML files of chips, or all; by default the chip of the run",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder of the reports; RUN/deployment by default")
    parser.add_argument("--config", metavar="FILE", type=Path, help="configuration with the data, instead of the run's")
    parser.add_argument("--samples", metavar="N", type=int, help="test samples to simulate, 0 for all; as in the run")
    parser.add_argument("--parity_samples", metavar="N", type=int, help="samples whose spikes are compared")
    parser.add_argument("--energy_model", metavar="MODEL", help="target, horowitz45 or memory; as in the run")
    parser.add_argument("--open", action="store_true", help="open the page of the first chip in the browser")


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Deploy, write the reports, and print the report of one chip or the comparison of several."""
    given = parser.parse_args(words)

    from spikefit.api.chips import chosen_chips
    from spikefit.api.deploy import Options, deploy_to_all
    from spikefit.api.load import TrainedRun, make_importable
    from spikefit.deploy.deployment import require_structure
    from spikefit.deploy.report.comparison import Comparison, Entry
    from spikefit.deploy.report.html import write_html
    from spikefit.deploy.report.terminal import print_report

    make_importable()
    trained = TrainedRun.of(given.checkpoint, given.config)
    chips = chosen_chips(given.hardware, trained.module.hardware)
    options = Options(given.samples, given.parity_samples, given.energy_model)
    outcomes = deploy_to_all(trained, chips, options=options, tell=print)
    if all(outcome.report is None for outcome in outcomes) and len(chips) == 1:
        from dataclasses import replace

        require_structure(trained.module.network, replace(trained.module.context, target=chips[0]))
    assert trained.checkpoint is not None
    home = trained.folder or trained.checkpoint.parent
    out = given.out or home / "deployment"
    pages = []
    for outcome in outcomes:
        if outcome.report is not None:
            folder = out / outcome.chip.name
            path = outcome.report.write(folder)
            pages.append(write_html(outcome.report, folder))
            if len(outcomes) == 1:
                print_report(outcome.report, pages[-1], path)
    if len(outcomes) > 1:
        name = "" if trained.folder is None else "/".join(trained.folder.resolve().parts[-2:])
        comparison = Comparison(Entry(name, each.chip.name, each.report, each.reasons) for each in outcomes)
        comparison.print(console())
        comparison.to_json(out / "comparison.json")
        print(f"Reports: {out}")
    if not pages:
        return USAGE
    if given.open:
        show_page(pages[0])
    return 0
