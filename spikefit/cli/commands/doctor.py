"""Check the packages, the data folder, the CPU and the GPU of this machine.

A few training steps are compared: with a chip's integers, on the GPU, and replayed from a CUDA graph. The exit status
is 1 if a check fails.

example:
  spikefit doctor
"""

import argparse
from collections.abc import Sequence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command has no arguments."""


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Run all checks."""
    parser.parse_args(words)

    from spikefit.cli import doctor  # imports torch

    return doctor.main()
