"""Export a trained network for a chip: a bundle of its program and, optionally, a NIR graph for other libraries.

    python -m scripts.export runs/quickstart/version_0/checkpoints/best.ckpt --hardware loihi --out bundle --nir norse

Reads the checkpoint, lowers the network for the target, prints which limits are violated, writes
``OUT/program.safetensors`` (and ``OUT/network.nir``), reads everything back, and compares. The bundle is also written
if the network is too large for the chip, but not if it uses features that the chip lacks. Input kind and time steps
come from the checkpoint. If something fails, the exit status is 2 and one message is printed.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from spikefit.checkpoints import read_checkpoint
from spikefit.cli.errors import explain
from spikefit.deploy.deployment import Deployment, require_structure
from spikefit.errors import BundleError, CheckpointError, SpikeFitError, check_range
from spikefit.hardware.check_chip_capacity import unknown_limits
from spikefit.hardware.target import HardwareTarget
from spikefit.module import SpikingClassifier
from spikefit.nir.dialects import DIALECTS
from spikefit.nir.write import to_nir, write_nir
from spikefit.program.bundle import differences, read_bundle, write_bundle
from spikefit.program.ir import Program


def trained_module(path: Path) -> SpikingClassifier:
    """Load the module from a checkpoint that the command line wrote.

    Raises:
        CheckpointError: if the file is not a checkpoint, or does not describe its network.
    """
    content = read_checkpoint(path, "checkpoint")
    if "network" not in content.get("hyper_parameters", {}):
        raise CheckpointError(
            f"checkpoint: {path} does not describe its network, because it was trained from Python with a function. "
            "Build the network in Python, load its weights, and call spikefit.program.bundle.write_bundle."
        )
    try:
        return SpikingClassifier.load_from_checkpoint(path, map_location="cpu")
    except SpikeFitError:
        raise
    except Exception as error:  # class paths or options from another version may raise anything
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, SpikeFitError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from None
        reason = explain(str(error)) or type(error).__name__
        raise CheckpointError(f"checkpoint: the network of {path} can't be built: {reason}") from error


def write_checked(program: Program, path: Path) -> int:
    """Write the bundle, read it back, and return its size in bytes.

    Raises:
        BundleError: if the program that is read back differs; the message names the fields.
    """
    write_bundle(program, path)
    found = differences(program, read_bundle(path))
    if found:
        raise BundleError(f"{path}: the program that was read back differs in {', '.join(found)}.")
    return path.stat().st_size


def export(arguments: argparse.Namespace) -> None:
    """Export as given by the command line options."""
    target = HardwareTarget.load(arguments.hardware)
    module = trained_module(arguments.checkpoint)
    if arguments.time_steps is not None:
        check_range("time_steps", arguments.time_steps, 1)
        module.time_steps = arguments.time_steps
    context = replace(module.context, target=target)
    network = module.network.eval()
    require_structure(network, context)
    deployment = Deployment(network, context)
    program = deployment.program
    if arguments.nir:
        to_nir(deployment.exact, arguments.nir)  # raises for an unsupported network before anything is written
    print(
        f"{arguments.checkpoint} on {target.name}: {program.neurons} neurons, {context.time_steps} steps, "
        f"inputs of the kind {context.input_kind}"
    )
    print("  it fits" if not deployment.findings else "  it does not fit:")
    for finding in deployment.findings:
        print(f"  - {finding}")
    for limit in unknown_limits(target):
        print(f"  not checked, because it is not published: {limit}")
    bundle = arguments.out / "program.safetensors"
    size = write_checked(program, bundle)
    print(f"  bundle {bundle}: {size:,} bytes, read back and equal in every field and tensor")
    if arguments.nir:
        path = write_nir(deployment.exact, arguments.out / "network.nir", arguments.nir)
        print(f"  NIR graph {path}, in the dialect {arguments.nir}: read back and equal in every node")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--hardware", required=True, help="name of a chip in configs/hardware, or path of a YAML file")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle; created if missing")
    parser.add_argument("--time_steps", type=int, help="steps of an inference; those of the checkpoint by default")
    parser.add_argument(
        "--nir", nargs="?", const="nir", choices=DIALECTS, help="also write OUT/network.nir, for the given library"
    )
    try:
        export(parser.parse_args(arguments))
    except SpikeFitError as error:
        print(f"export: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
