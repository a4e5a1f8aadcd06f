"""What a deployment measured, as one typed object. Every file, page, table and logger shows this and nothing else."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spikefit.atomic import write_atomically
from spikefit.deploy.report.json_values import from_plain, to_plain
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


@dataclass(frozen=True, kw_only=True)
class Report:
    """A network on a chip. Counts and energies are those of an average inference.

    Attributes:
        target: name of the chip.
        fits: whether no limit is violated. Derived.
        partial: whether figures that presume a fit (cores, hops, energy) tell only a part. Derived.
        findings: the violated limits.
        unknown_limits: limits that nobody published, and so nobody checked.
        figures: of the chip.
        samples: that were simulated.
        accuracy_before_compression: of the float network on such samples, 0 to 1; None where there was none.
        samples_before_compression: on how many; None where there was none.
        accuracy_float: of the trained network, 0 to 1.
        trained_with_integers_of: chip whose integers the trained network computes with; None for its own numbers.
        accuracy_deployed: of the program on the chip, 0 to 1.
        time_steps: of an inference.
        input_kind: what the network reads in a step, a value of :class:`~spikefit.input_kind.InputKind`;
            None in reports of before.
        units_total: channels and neurons that can be pruned.
        units_alive: those that are left.
        units_pruned_fraction: 0 to 1. Derived.
        cores_used: cores that hold something. Derived.
        cores: the placement.
        neurons: of all populations.
        synapses: of all layers. Derived.
        unique_weights_max: of the layer that has most. Derived.
        model_bytes: size of the program's tensors in a bundle, byte.
        bits_per_weight: of an average stored weight, without tables of values, bit.
        float_bytes: of the same network with 32 bits a weight and constant, byte; None in reports of before.
        synops_per_inference: synaptic operations. Derived.
        macs_per_inference: multiplications of graded inputs. Derived.
        spikes_per_inference: of all populations. Derived.
        overflows_per_inference: how often a membrane left the state's range. Derived.
        energy_per_inference_j: the known part, joule; None where nothing is known.
        energy: its terms.
        parity: of the exact program; None where nothing was compared.
        target_agreement: of the chip's program; None where nothing was compared.
        encoder: name of the layer that multiplies graded inputs; None where there is none. Derived.
        layers: in network order.
        provenance: where network and samples come from.
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
        """The report as plain JSON values, in the order of the fields."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_dict(cls, content: Any) -> "Report":
        """The report that :meth:`to_dict` gave ``content`` for.

        Raises:
            ReportError: naming the field that is missing or malformed.
        """
        return from_plain(cls, content, "report")

    def to_json(self) -> str:
        """The report as text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def write(self, folder: Path) -> Path:
        """Write :meth:`to_json` to ``report.json`` in ``folder``, atomically, and return its path."""
        return write_atomically(folder / "report.json", self.to_json())

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """The report that :meth:`to_json` gave ``text`` for.

        Raises:
            ReportError: for text that is no JSON, or a field that is missing or malformed.
        """
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ReportError(f"report: no JSON ({error}).") from error
        return cls.from_dict(content)
