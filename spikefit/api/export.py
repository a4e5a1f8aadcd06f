"""Export of a trained network: the program of a chip, or a graph or specification for other libraries."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from spikefit.api.chips import Hardware, chip_of, chosen_chips
from spikefit.api.load import TrainedRun
from spikefit.deploy.deployment import Deployment, require_structure
from spikefit.errors import BundleError, check_choice, check_range
from spikefit.hardware.check_chip_capacity import unknown_limits
from spikefit.hardware.finding import Finding
from spikefit.module import SpikingClassifier
from spikefit.nir.write import to_nir, write_nir
from spikefit.program.bundle import differences, read_bundle, write_bundle
from spikefit.program.ir import Program
from spikefit.program.rockpool import write_specification

Format = Literal["bundle", "nir", "rockpool"]
FILES: dict[Format, str] = {"bundle": "program.safetensors", "nir": "network.nir", "rockpool": "xylo.npz"}


@dataclass(frozen=True)
class Exported:
    """A file that was exported, and what is known about its program.

    Attributes:
        path: the file; it was read back and is equal to what was written.
        format: ``bundle``, ``nir`` or ``rockpool``.
        bytes: size of the file.
        target: name of the chip.
        findings: limits of the chip that the network violates.
        unknown_limits: limits that nobody published, and that therefore were not checked.
        neurons: neurons of all populations.
        time_steps: steps of an inference.
        input_kind: what the network reads in a step.
    """

    path: Path
    format: Format
    bytes: int
    target: str
    findings: tuple[Finding, ...]
    unknown_limits: tuple[str, ...]
    neurons: int
    time_steps: int
    input_kind: str

    @property
    def fits(self) -> bool:
        """Whether no known limit is violated."""
        return not self.findings


def export(
    source: str | Path | SpikingClassifier,
    hardware: Hardware | None = None,
    out: str | Path | None = None,
    *,
    format: Format = "bundle",
    dialect: str = "nir",
    time_steps: int | None = None,
) -> Exported:
    """Write the program of a trained network to a file, read it back and compare.

    A network that is too large for the chip is written too, with findings; one that uses features which the chip lacks
    is refused.

    Args:
        source: a checkpoint, the directory of a run, or a trained module.
        hardware: the chip: a name, the path of a YAML file, or a description. None for the chip of the run.
        out: folder of the file; None for ``export/CHIP`` in the directory of the run, for a module ``export/CHIP``.
        format: ``bundle``, the integers of the chip as one safetensors file; ``nir``, a NIR graph of the network; or
            ``rockpool``, the specification of a Xylo chip for SynSense's Rockpool (:mod:`spikefit.program.rockpool`).
        dialect: the library that will read the NIR graph: ``nir``, ``snntorch``, ``spikingjelly``, ``norse``,
            ``sinabs``.
        time_steps: steps of an inference; None for those of the checkpoint.

    Raises:
        TargetError: for an unknown chip, or one that can't run this kind of network at any size.
        ExchangeError: if the format can't represent the network or the chip; nothing is written.
        BundleError, StorageError: if the file can't be written, or reads back differently.

    Example:
        >>> import tempfile
        >>> from spikefit.networks import MLP
        >>> network = lambda shape, classes: MLP(shape, classes, hidden=[16])
        >>> module = SpikingClassifier(network, (1, 8, 8), 10, input_kind="spikes", time_steps=4)
        >>> exported = export(module, "loihi", tempfile.mkdtemp())
        >>> exported.path.name, exported.fits, exported.neurons
        ('program.safetensors', True, 26)
    """
    check_choice("format", format, FILES)
    run = TrainedRun.of(source)
    module, own = run.module, run.module.hardware
    target = chosen_chips([], own)[0] if hardware is None else chip_of(hardware, own)
    context = replace(module.context, target=target)
    if time_steps is not None:
        check_range("time_steps", time_steps, 1)
        context = replace(context, time_steps=time_steps)
    was_training = module.training
    try:
        network = module.network.eval()
        require_structure(network, context)
        deployment = Deployment(network, context)
    finally:
        module.train(was_training)
    folder = _folder(run, target.name) if out is None else Path(out)
    path = folder / FILES[format]
    if format == "nir":
        to_nir(deployment.exact, dialect)  # raises for an unsupported network before anything is written
        write_nir(deployment.exact, path, dialect)
    elif format == "rockpool":
        write_specification(deployment.program, path)
    else:
        write_checked(deployment.program, path)
    return Exported(
        path,
        format,
        path.stat().st_size,
        target.name,
        tuple(deployment.findings),
        tuple(unknown_limits(target)),
        deployment.program.neurons,
        context.time_steps,
        context.input_kind.value,
    )


def _folder(run: TrainedRun, chip: str) -> Path:
    home = run.folder or (Path() if run.checkpoint is None else run.checkpoint.parent)
    return home / "export" / chip


def write_checked(program: Program, path: Path) -> None:
    """Write a bundle and read it back.

    Raises:
        BundleError: if the program that is read back differs; the message names the fields.
    """
    write_bundle(program, path)
    found: Sequence[str] = differences(program, read_bundle(path))
    if found:
        raise BundleError(f"{path}: the program that was read back differs in {', '.join(found)}.")
