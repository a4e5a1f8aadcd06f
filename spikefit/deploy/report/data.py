"""The report of a deployment as one typed object, from which every file, page, table and log is made."""

import html
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spikefit.atomic import write_atomically
from spikefit.deploy.report.comparison import Comparison
from spikefit.deploy.report.json_values import from_plain, to_plain
from spikefit.deploy.report.picture_data import (
    ChipEntry,
    CodebookEntry,
    CoreMapEntry,
    RatesEntry,
    SampleEntry,
    TrainingRecord,
)
from spikefit.deploy.report.sections import (
    CoresEntry,
    EnergyEntry,
    FindingEntry,
    LayerEntry,
    ParityEntry,
    Provenance,
    SourcedEntry,
)
from spikefit.errors import ReportError

# A list of numbers alone, or of short texts, is written on one line.
_LIST_OF_SCALARS = re.compile(r'\[\n\s+((?:[^\[\]{}"]|"[0-9a-z.]{1,128}")*?)\n\s+\]')


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of deploying a network to a chip; counts and energies are averages per inference.

    Attributes:
        target: name of the chip.
        fits: whether no limit is violated. Derived.
        partial: whether figures that presume a fit (cores, hops, energy) are incomplete. Derived.
        findings: the violated limits.
        unknown_limits: limits that nobody published, and that therefore were not checked.
        figures: figures of the chip, with sources.
        samples: number of simulated samples.
        accuracy_before_compression: accuracy of the float network, 0 to 1; None if it was not measured.
        samples_before_compression: number of samples of that accuracy; None if it was not measured.
        accuracy_float: accuracy of the trained network, 0 to 1.
        trained_with_integers_of: chip with whose integers the trained network computes; None if it computes with real
            numbers.
        accuracy_deployed: accuracy of the program on the chip, 0 to 1.
        time_steps: steps of an inference.
        input_kind: what the network reads in a step, a value of :class:`~spikefit.input_kind.InputKind`;
            None in reports of earlier versions.
        units_total: number of prunable channels and neurons.
        units_alive: number of those that are not pruned.
        units_pruned_fraction: pruned fraction of the units, 0 to 1. Derived.
        cores_used: number of cores in use. Derived.
        cores: the placement.
        neurons: neurons of all populations.
        synapses: synapses of all layers. Derived.
        unique_weights_max: distinct weights of the layer with the most. Derived.
        model_bytes: size of the program's tensors in a bundle, bytes.
        bits_per_weight: average bits of a stored weight, without tables of values.
        float_bytes: size of the same network with 32 bits per weight and constant, bytes; None in reports of earlier
            versions.
        synops_per_inference: synaptic operations of the network's neurons. Derived.
        relay_synops_per_inference: synaptic operations of the relays, in addition; None if unknown, and in reports of
            earlier versions.
        macs_per_inference: multiplications of graded inputs. Derived.
        spikes_per_inference: spikes of all populations. Derived.
        overflows_per_inference: how often a membrane left the state's range. Derived.
        energy_per_inference_j: known part of the energy, joule; None if no part is known.
        energy: terms of the energy.
        parity: comparison of the exact program with the network; None if nothing was compared.
        target_agreement: comparison of the chip's program with the network; None if nothing was compared.
        encoder: name of the layer that multiplies graded inputs; None without such a layer. Derived.
        layers: results of each layer, in network order.
        provenance: where the network and the samples come from.
        codebooks: weights and codebook values of the layers. This attribute and the following ones are the data of
            the page's pictures; they are empty or None in reports of earlier versions.
        rates: firing rates of the spiking populations.
        examples: the first correctly and the first wrongly classified sample.
        confusion: number of samples by class (row) and predicted class (column); None for more than 128 classes.
        core_map: content and position of the cores.
        training: what happened in training, epoch by epoch; None if it was not recorded.
        chips: the main figures on all chips, if the network was deployed on several.

    Example:
        >>> from spikefit.deploy.deployment import Deployment
        >>> from spikefit.hardware.deployment_context import DeploymentContext
        >>> from spikefit.hardware.target import HardwareTarget
        >>> from spikefit.input_kind import InputKind
        >>> from spikefit.networks import MLP
        >>> import torch
        >>> network, inputs = MLP((1, 8, 8), 10, hidden=[16]).eval(), torch.ones(4, 2, 1, 8, 8)
        >>> deployment = Deployment(network, DeploymentContext(HardwareTarget.load("loihi"), 4, InputKind.SPIKES))
        >>> deployment.update(inputs, torch.tensor([3, 7]), network.logits(network(inputs)))
        >>> report = Report.from_json(deployment.report().to_json())
        >>> report.cores_used, len(report.compare(report).rows())
        (2, 2)
    """

    target: str
    fits: bool = field(init=False)
    partial: bool = field(init=False)
    findings: tuple[FindingEntry, ...]
    unknown_limits: tuple[str, ...]
    figures: tuple[SourcedEntry, ...]
    samples: int
    accuracy_before_compression: float | None = None
    samples_before_compression: int | None = None
    accuracy_float: float
    trained_with_integers_of: str | None = None
    accuracy_deployed: float
    time_steps: int
    input_kind: str | None = None
    units_total: int
    units_alive: int
    units_pruned_fraction: float = field(init=False)
    cores_used: int = field(init=False)
    cores: CoresEntry
    neurons: int
    synapses: int = field(init=False)
    unique_weights_max: int = field(init=False)
    model_bytes: int
    bits_per_weight: float
    float_bytes: int | None = None
    synops_per_inference: float = field(init=False)
    relay_synops_per_inference: float | None = None
    macs_per_inference: float = field(init=False)
    spikes_per_inference: float = field(init=False)
    overflows_per_inference: float = field(init=False)
    energy_per_inference_j: float | None
    energy: EnergyEntry
    parity: ParityEntry | None
    target_agreement: ParityEntry | None
    encoder: str | None = field(init=False)
    layers: tuple[LayerEntry, ...]
    provenance: Provenance = field(default_factory=Provenance)
    codebooks: tuple[CodebookEntry, ...] = ()
    rates: tuple[RatesEntry, ...] = ()
    examples: tuple[SampleEntry, ...] = ()
    confusion: tuple[tuple[int, ...], ...] | None = None
    core_map: CoreMapEntry | None = None
    training: TrainingRecord | None = None
    chips: tuple[ChipEntry, ...] = ()

    def __post_init__(self) -> None:
        layers = self.layers
        derived = {
            "fits": not self.findings,
            "partial": bool(self.findings or self.cores.unplaced),
            "units_pruned_fraction": 1 - self.units_alive / self.units_total if self.units_total else 0.0,
            "cores_used": self.cores.used,
            "synapses": sum(layer.synapses for layer in layers),
            "unique_weights_max": max((layer.unique_weights for layer in layers), default=0),
            "synops_per_inference": sum(layer.synops for layer in layers),
            "macs_per_inference": sum(layer.macs for layer in layers),
            "spikes_per_inference": sum(layer.spikes for layer in layers),
            "overflows_per_inference": sum(layer.overflows for layer in layers),
            "encoder": next((layer.name for layer in layers if layer.encoder), None),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """The report as a dictionary of JSON values, in the order of the fields."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_dict(cls, content: Any) -> "Report":
        """The report from the dictionary ``content`` of :meth:`to_dict`.

        Raises:
            ReportError: for a missing or malformed field; names it.
        """
        return from_plain(cls, content, "report")

    def to_json(self, path: str | Path | None = None) -> str:
        """The report as JSON text, written to ``path`` too if one is given."""
        text = json.dumps(self.to_dict(), indent=2)
        text = _LIST_OF_SCALARS.sub(lambda found: "[" + " ".join(found[1].split()) + "]", text) + "\n"
        if path is not None:
            write_atomically(Path(path), text)
        return text

    def to_html(self, path: str | Path | None = None) -> str:
        """The report as one HTML page, written to ``path`` too if one is given."""
        from spikefit.deploy.report.html import render  # it reads this class

        page = render(self)
        if path is not None:
            write_atomically(Path(path), page)
        return page

    def _repr_html_(self) -> str:
        """The page in a frame of its own, for notebooks: its styles do not reach the notebook."""
        page = html.escape(self.to_html(), quote=True)
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 640px; border: 0"></iframe>'

    def compare(self, *others: "Report") -> Comparison:
        """The comparison with ``others``: a table (printed, or shown in a notebook) that can also be plotted."""
        return Comparison.of([self, *others])

    def write(self, folder: Path) -> Path:
        """Write :meth:`to_json` to ``report.json`` in ``folder``, atomically, and return its path."""
        return write_atomically(folder / "report.json", self.to_json())

    @classmethod
    def from_json(cls, source: str | Path) -> "Report":
        """The report from the JSON text of :meth:`to_json`, or from the path of its file.

        Raises:
            ReportError: for a file that can't be read, text that is not JSON, or a missing or malformed field.
        """
        try:
            is_text = isinstance(source, str) and source.lstrip().startswith("{")
            content = json.loads(str(source) if is_text else Path(source).read_text(encoding="utf-8"))
        except OSError as error:
            raise ReportError(f"report: {source} can't be read: {error.strerror}.") from error
        except json.JSONDecodeError as error:
            raise ReportError(f"report: not valid JSON: {error}.") from error
        return cls.from_dict(content)
