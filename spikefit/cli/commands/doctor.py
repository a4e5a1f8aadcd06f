"""Check the packages, the data folder and the GPU of this machine.

With --compute, a few training steps are compared, too: with and without a chip's integers, on the GPU with those on the
CPU, and replayed from a CUDA graph. The exit status is 1 if a check fails.

examples:
  spikefit doctor
  spikefit doctor --compute
"""

import argparse
from collections.abc import Sequence

from spikefit.cli.installed import installed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("--compute", action="store_true", help="also compare training steps; takes some seconds")


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Print the checks, and return the exit status: 0 if none fails, else 1."""
    compute, failed = parser.parse_args(words).compute, 0
    for finding in installed():
        print(finding, flush=True)
        failed += finding.ok is False
    if compute:
        from spikefit.cli.doctor import computed  # imports torch

        for finding in computed():
            print(finding, flush=True)
            failed += finding.ok is False
    print(f"{failed} of these fail." if failed else "All checks that apply to this machine pass.")
    if not compute:
        print("spikefit doctor --compute also compares training steps on CPU and GPU.")
    return 1 if failed else 0
