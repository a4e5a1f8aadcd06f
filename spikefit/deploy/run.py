"""One deployment, from a trained network to the figures of its report."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from spikefit.deploy.lower import lower
from spikefit.deploy.parity import Parity, compare
from spikefit.deploy.simulate import Simulator, merge_activity
from spikefit.deploy.size import model_size
from spikefit.errors import TargetError
from spikefit.hardware.check import Finding, check, check_structure, unknown_limits
from spikefit.hardware.energy import EnergyEstimate, EnergyModelName, constants, estimate
from spikefit.hardware.figures import Figure, known, to_plain
from spikefit.hardware.placement import Placement, place
from spikefit.hardware.program import LayerActivity, Program
from spikefit.hardware.target import HardwareTarget
from spikefit.networks.blocks import Network
from spikefit.prune.groups import alive_units, unit_groups


def require_structure(network: Network, target: HardwareTarget, time_steps: int, graded_input: bool) -> None:
    """Refuse a network that uses something the chip does not have, whatever is trained or pruned.

    Raises:
        TargetError: naming each neuron model, reset, layer, pooling or readout that the chip lacks, and what it has.
    """
    program = lower(network, time_steps, graded_input=graded_input)
    findings = check_structure(target, program)
    if findings:
        lines = "\n".join(f"  - {finding}" for finding in findings)
        raise TargetError(f"target {target.name} can't run this network, however it is trained or pruned:\n{lines}")


@dataclass
class Tally:
    """Counts over samples that add up over batches and processes."""

    samples: int = 0
    correct_float: int = 0
    correct_deployed: int = 0
    activity: list[tuple[tuple[LayerActivity, ...], int]] = field(default_factory=list)
    parity: list[Parity] = field(default_factory=list)
    agreement: list[Parity] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Add the counts of ``other``."""
        self.samples += other.samples
        self.correct_float += other.correct_float
        self.correct_deployed += other.correct_deployed
        self.activity += other.activity
        self.parity += other.parity
        self.agreement += other.agreement


class Deployment:
    """A trained network on a chip: lowered, checked, placed, simulated, and its energy estimated.

    Args:
        network: trained; not changed.
        target: the chip.
        time_steps: steps of one inference.
        graded_input: whether inputs are real numbers (direct coding).
        energy_model: ``target`` (the chip's own constants) or another name of :mod:`spikefit.hardware.energy`.
        parity_samples: on how many samples to compare the exact program with the network, spike for spike.
    """

    def __init__(
        self,
        network: Network,
        target: HardwareTarget,
        time_steps: int,
        *,
        graded_input: bool,
        energy_model: EnergyModelName = "target",
        parity_samples: int = 64,
    ) -> None:
        self.network, self.target, self.energy_model = network, target, energy_model
        self.program = lower(network, time_steps, graded_input=graded_input, precision="target", target=target)
        self.exact = lower(network, time_steps, graded_input=graded_input)
        self.placement: Placement = place(target, self.program)
        self.findings: list[Finding] = [*check(target, self.program), *self.placement.findings]
        self.parity_left = parity_samples
        self.tally = Tally()
        self._simulator = Simulator(self.program)

    def update(self, inputs: Tensor, labels: Tensor, logits: Tensor) -> None:
        """Simulate a batch.

        Args:
            inputs: ``[T, B, ...]``.
            labels: ``[B]``.
            logits: ``[B, classes]`` that the trained network gave.
        """
        inputs, labels, logits = inputs.cpu(), labels.cpu(), logits.cpu()
        simulation = self._simulator(inputs)
        self.tally.add(
            Tally(
                len(labels),
                int((logits.argmax(dim=1) == labels).sum()),
                int((simulation.logits.argmax(dim=1) == labels).sum()),
                [(simulation.activity, simulation.samples)],
            )
        )
        few = inputs[:, : self.parity_left]
        if few.shape[1]:
            self.tally.parity.append(compare(self.network, self.exact, few))
            self.tally.agreement.append(compare(self.network, self.program, few, tolerance=0.0))
            self.parity_left -= few.shape[1]

    def report(self) -> dict[str, Any]:
        """Everything measured, as plain JSON values. Energies in joule, counts per inference."""
        tally = self.tally
        if not tally.samples:
            raise ValueError("report: no batch has been simulated.")
        activity = merge_activity(tally.activity)
        energy = estimate(
            self.target, activity, self.placement, self.program.time_steps, self.energy_model, self.program
        )
        layers = layer_rows(self.program, activity, energy)
        groups = unit_groups(self.network)
        alive = sum(int(alive_units(self.network, group).sum()) for group in groups)
        units = sum(group.units for group in groups)
        size = model_size(self.exact, self.program)
        return {
            "target": self.target.name,
            "fits": not self.findings,
            "findings": [{**asdict(finding), "text": str(finding)} for finding in self.findings],
            "unknown_limits": list(unknown_limits(self.target)),
            "figures": [_figure(name, figure) for name, figure in self.target.figures()],
            "samples": tally.samples,
            "accuracy_float": tally.correct_float / tally.samples,
            "accuracy_deployed": tally.correct_deployed / tally.samples,
            "time_steps": self.program.time_steps,
            "units_total": units,
            "units_alive": alive,
            "units_pruned_fraction": 1 - alive / units if units else 0.0,
            "cores_used": self.placement.cores_used,
            "cores": {
                "used": self.placement.cores_used,
                "available": known(self.target.limits.cores),
                "lower_bound": self.placement.lower_bound,
                "unplaced": list(self.placement.unplaced),
                "splitter_neurons": self.placement.splitter_neurons,
                "hops_per_spike": self.placement.hops_per_spike,
                "utilisation": utilisation(self.placement),
            },
            "neurons": self.program.neurons,
            "synapses": sum(layer.synapses for layer in activity),
            "unique_weights_max": max(layer["unique_weights"] for layer in layers),
            "model_bytes": size.bytes,
            "bits_per_weight": size.bits_per_weight,
            "synops_per_inference": sum(layer.synops for layer in activity),
            "macs_per_inference": sum(layer.macs for layer in activity),
            "spikes_per_inference": sum(layer.spikes for layer in activity),
            "overflows_per_inference": sum(layer.overflows for layer in activity),
            "energy_per_inference_j": energy.total_j,
            "energy": {
                "model": energy.model,
                "terms_j": dict(energy.terms),
                "unknown": list(energy.unknown),
                "constants": [_figure(*item) for item in constants(self.target, self.energy_model).items()],
            },
            "parity": _parity(tally.parity),
            "target_agreement": _parity(tally.agreement),
            "encoder": next((row["name"] for row in layers if row["encoder"]), None),
            "layers": layers,
        }


def _figure(name: str, figure: Figure[Any]) -> dict[str, Any]:
    """A figure under its name, as plain JSON values."""
    return {"name": name, "value": to_plain(figure.value), "source": figure.source, "confidence": figure.confidence}


def utilisation(placement: Placement) -> dict[str, dict[str, float]]:
    """Mean and largest share, 0 to 1, of each limit of a core that the cores in use take.

    A core on which a limit does not apply counts for none of it.
    """
    shares: dict[str, list[float]] = {}
    for core in placement.cores:
        for limit, share in core.utilisation.items():
            shares.setdefault(limit, []).append(share)
    return {limit: {"mean": sum(used) / len(used), "max": max(used)} for limit, used in shares.items()}


def _parity(parts: list[Parity]) -> dict[str, Any] | None:
    if not parts:
        return None
    compared = sum(part.compared for part in parts)
    mismatches = sum(part.mismatches for part in parts)
    ties = sum(part.ties for part in parts)
    agreement = 1 - (mismatches + ties) / max(1, compared)
    return {"compared": compared, "mismatches": mismatches, "ties": ties, "agreement": agreement}


def layer_rows(program: Program, activity: tuple[LayerActivity, ...], energy: EnergyEstimate) -> list[dict[str, Any]]:
    """One row a population: its size, its weights and what it did in an average inference."""
    rows = []
    for layer in activity:
        population = program.population(layer.name)
        projections = program.inputs_of(layer.name)
        rows.append(
            {
                "name": layer.name,
                "model": population.model,
                "encoder": any(program.is_encoder(projection) for projection in projections),
                "shape": list(population.shape),
                "neurons": layer.neurons,
                "synapses": layer.synapses,
                # An absent synapse is a weight of zero, and counts as one of the values.
                "unique_weights": max(len(torch.unique(projection.weight)) for projection in projections),
                "bits": max((projection.bits or 0) for projection in projections),
                "spikes": layer.spikes,
                "rate": layer.spikes / layer.updates if layer.updates else 0.0,
                "synops": layer.synops,
                "macs": layer.macs,
                "updates": layer.updates,
                "overflows": layer.overflows,
                "energy_j": energy.per_layer.get(layer.name),
                "energy_terms_j": energy.layer_terms.get(layer.name, {}),
            }
        )
    return rows
