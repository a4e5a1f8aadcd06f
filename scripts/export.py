"""Write a trained network for a chip: a bundle of its program, and if asked a NIR graph for other libraries.

    python -m scripts.export runs/quickstart/version_0/checkpoints/best.ckpt --hardware loihi --out bundle --nir norse

Reads the checkpoint, lowers the network for the target, prints what does not fit, writes ``OUT/program.safetensors``
(and ``OUT/network.nir``), reads everything back, and says so when it is equal. The bundle is written also when the
network is too large for the chip, but not when the chip lacks what it uses. The checkpoint says what the network reads,
and for how many steps. Exit status 2 with one message when something fails.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from spikefit.checkpoints import read_checkpoint
from spikefit.deploy.deployment import Deployment, require_structure
from spikefit.errors import BundleError, CheckpointError, SpikeFitError, check_range
from spikefit.hardware.check_capacity import unknown_limits
from spikefit.hardware.target import HardwareTarget
from spikefit.module import SpikingClassifier
from spikefit.nir.dialects import DIALECTS
from spikefit.nir.write import to_nir, write_nir
from spikefit.program.bundle import differences, read_bundle, write_bundle
from spikefit.program.ir import Program


def trained_module(path: Path) -> SpikingClassifier:
    """The module of a checkpoint that the command line wrote: the network, and what it reads.

    Raises:
        CheckpointError: when the file is none, or does not say which network it holds.
    """
    content = read_checkpoint(path, "checkpoint")
    if "network" not in content.get("hyper_parameters", {}):
        raise CheckpointError(
            f"checkpoint: {path} does not say which network it holds: it was trained from Python with a function. "
            "Build the network there, load its weights, and call spikefit.program.bundle.write_bundle."
        )
    try:
        return SpikingClassifier.load_from_checkpoint(path, map_location="cpu")
    except SpikeFitError:
        raise
    except Exception as error:  # whatever a class path or its options from another version lead to
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, SpikeFitError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"checkpoint: the network of {path} can't be built: {reason}") from error


def write_checked(program: Program, path: Path) -> int:
    """Write the bundle and read it back; its size in bytes.

    Raises:
        BundleError: when it reads back as another program, naming the fields.
    """
    write_bundle(program, path)
    found = differences(program, read_bundle(path))
    if found:
        raise BundleError(f"{path}: reads back as another program: {', '.join(found)}.")
    return path.stat().st_size


def export(arguments: argparse.Namespace) -> None:
    """Everything that the options ask for."""
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
        to_nir(deployment.exact, arguments.nir)  # what can't be said is refused before anything is written
    print(
        f"{arguments.checkpoint} on {target.name}: {program.neurons} neurons, {context.time_steps} steps, "
        f"inputs of the kind {context.input_kind}"
    )
    print("  it fits" if not deployment.findings else "  it does not fit:")
    for finding in deployment.findings:
        print(f"  - {finding}")
    for limit in unknown_limits(target):
        print(f"  not checked, nobody published it: {limit}")
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
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle; made if need be")
    parser.add_argument("--time_steps", type=int, help="steps of an inference; those of the checkpoint if not given")
    parser.add_argument(
        "--nir", nargs="?", const="nir", choices=DIALECTS, help="write OUT/network.nir too, for which library"
    )
    try:
        export(parser.parse_args(arguments))
    except SpikeFitError as error:
        print(f"export: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
