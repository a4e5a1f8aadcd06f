"""Write a trained network for a chip: a bundle of its program, and if asked a NIR graph for other libraries.

    python scripts/export.py runs/quickstart/version_0/checkpoints/best.ckpt --target loihi --out bundle --nir norse

Reads the checkpoint, lowers the network for the target, prints what does not fit, writes ``OUT/program.json`` and
``OUT/program.safetensors`` (and ``OUT/network.nir``), reads everything back, and says so when it is equal. The bundle
is written also when the network is too large for the chip, but not when the chip lacks what it uses. Time steps and
coding are options, or come from ``config.yaml`` in the run's directory. Exit status 2 with one message when something
fails.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from spikefit.checkpoints import read_checkpoint
from spikefit.deploy.bundle import TENSORS, differences, read_bundle, write_bundle
from spikefit.deploy.export_nir import to_nir, write_nir
from spikefit.deploy.run import Deployment, require_structure
from spikefit.errors import BundleError, CheckpointError, ConfigurationError, SpikeFitError, check_range
from spikefit.hardware.check import unknown_limits
from spikefit.hardware.program import Program
from spikefit.hardware.target import HardwareTarget
from spikefit.module import SpikingClassifier
from spikefit.networks import Network
from spikefit.networks.nir_dialects import DIALECTS

ENCODINGS = ("direct", "rate", "latency", "frames")


def trained_network(path: Path) -> Network:
    """The network of a checkpoint that the command line wrote.

    Raises:
        CheckpointError: when the file is none, or does not say which network it holds.
    """
    content = read_checkpoint(path, "checkpoint")
    if "network" not in content.get("hyper_parameters", {}):
        raise CheckpointError(
            f"checkpoint: {path} does not say which network it holds: it was trained from Python with a function. "
            "Build the network there, load its weights, and call spikefit.deploy.bundle.write_bundle."
        )
    try:
        return SpikingClassifier.load_from_checkpoint(path, map_location="cpu").network.eval()
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


def data_options(checkpoint: Path) -> dict[str, Any]:
    """What ``config.yaml`` in the directory of the run says about the data; nothing without one."""
    config = checkpoint.resolve().parent.parent / "config.yaml"
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    data = content.get("data") if isinstance(content, dict) else None
    options = data.get("init_args") if isinstance(data, dict) else None
    return options if isinstance(options, dict) else {}


def chosen(option: str, given: Any, found: dict[str, Any], checkpoint: Path) -> Any:
    """The option, or what the run's configuration has.

    Raises:
        ConfigurationError: when neither says it.
    """
    value = found.get(option) if given is None else given
    if value is None:
        run = checkpoint.resolve().parent.parent
        raise ConfigurationError(
            f"{option}: not given, and {run} has no config.yaml that says it; expected --{option}."
        )
    return value


def write_checked(program: Program, folder: Path) -> int:
    """Write the bundle and read it back; its size in bytes.

    Raises:
        BundleError: when it reads back as another program, naming the fields.
    """
    path = write_bundle(program, folder)
    found = differences(program, read_bundle(folder))
    if found:
        raise BundleError(f"{folder}: reads back as another program: {', '.join(found)}.")
    return path.stat().st_size + (folder / TENSORS).stat().st_size


def export(arguments: argparse.Namespace) -> None:
    """Everything that the options ask for."""
    target = HardwareTarget.load(arguments.target)
    network, found = trained_network(arguments.checkpoint), data_options(arguments.checkpoint)
    steps = chosen("time_steps", arguments.time_steps, found, arguments.checkpoint)
    encoding = chosen("encoding", arguments.encoding, found, arguments.checkpoint)
    check_range("time_steps", steps, 1)
    graded = encoding == "direct"
    require_structure(network, target, steps, graded)
    deployment = Deployment(network, target, steps, graded_input=graded)
    program = deployment.program
    if arguments.nir:
        to_nir(deployment.exact, arguments.nir)  # what can't be said is refused before anything is written
    print(f"{arguments.checkpoint} on {target.name}: {program.neurons} neurons, {steps} steps, encoding {encoding}")
    print("  it fits" if not deployment.findings else "  it does not fit:")
    for finding in deployment.findings:
        print(f"  - {finding}")
    for limit in unknown_limits(target):
        print(f"  not checked, nobody published it: {limit}")
    size = write_checked(program, arguments.out)
    print(f"  bundle {arguments.out}: {size:,} bytes, read back and equal in every field and tensor")
    if arguments.nir:
        path = write_nir(deployment.exact, arguments.out / "network.nir", arguments.nir)
        print(f"  NIR graph {path}, in the dialect {arguments.nir}: read back and equal in every node")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--target", required=True, help="name of a chip in configs/hardware, or path of a YAML file")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle; made if need be")
    parser.add_argument("--time_steps", type=int, help="steps of an inference")
    parser.add_argument("--encoding", choices=ENCODINGS, help="with 'direct' the first layer reads real numbers")
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
