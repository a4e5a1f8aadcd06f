"""Write the program of a trained network for a chip, read it back, and compare.

A bundle is one safetensors file with the chip's packed integers; a NIR graph is for snnTorch, SpikingJelly, Norse or
sinabs (pip install nir); rockpool is the specification of a Xylo chip for SynSense's library Rockpool. Needs the
checkpoint alone, no data.

examples:
  spikefit export runs/quickstart/version_0/checkpoints/best.ckpt --hardware loihi
  spikefit export runs/quickstart/version_0 --format nir --dialect norse --out exported
  spikefit export runs/digits_xylo/version_0 --format rockpool
"""

import argparse
from collections.abc import Sequence
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("checkpoint", metavar="CKPT", help="a checkpoint, or the directory of a run (its best one)")
    parser.add_argument("--hardware", metavar="CHIP", help="name or YAML file of a chip; by default that of the run")
    parser.add_argument("--format", metavar="FORMAT", default="bundle", help="bundle (the default), nir or rockpool")
    parser.add_argument("--dialect", metavar="NAME", help="reader of the NIR graph: nir (the default), snntorch, ...")
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder of the file; RUN/export/CHIP by default")
    parser.add_argument("--time_steps", metavar="T", type=int, help="steps of an inference; as in the checkpoint")


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Export and say what was written."""
    given = parser.parse_args(words)
    if given.dialect is not None and given.format != "nir":
        parser.error(f"--dialect: got {given.dialect} with --format {given.format}, expected --format nir")

    from spikefit.api.export import export
    from spikefit.api.load import make_importable

    make_importable()
    written = export(
        given.checkpoint,
        given.hardware,
        given.out,
        format=given.format,
        dialect=given.dialect or "nir",
        time_steps=given.time_steps,
    )
    print(
        f"{given.checkpoint} on {written.target}: {written.neurons:,} neurons, {written.time_steps} steps, inputs of "
        f"the kind {written.input_kind}"
    )
    print("  it fits" if written.fits else "  it does not fit:")
    for finding in written.findings:
        print(f"  - {finding}")
    for limit in written.unknown_limits:
        print(f"  not checked, because it is not published: {limit}")
    kind = {
        "bundle": "bundle",
        "nir": f"NIR graph in the dialect {given.dialect or 'nir'}",
        "rockpool": "specification for Rockpool",
    }[written.format]
    print(f"  {kind} {written.path}: {written.bytes:,} bytes, read back and equal")
    return 0
