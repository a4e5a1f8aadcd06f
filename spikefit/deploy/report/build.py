"""Construction of a report from a deployment that has simulated its samples."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from spikefit.deploy.report.collect import codebooks, core_map, rates
from spikefit.deploy.report.data import Report
from spikefit.deploy.report.picture_data import TrainingRecord
from spikefit.deploy.report.sections import (
    Accuracy,
    CoresEntry,
    EnergyEntry,
    FindingEntry,
    LayerEntry,
    ParityEntry,
    Provenance,
    SourcedEntry,
    Utilisation,
)
from spikefit.hardware.check_chip_capacity import unknown_limits
from spikefit.hardware.energy import EnergyEstimate, constants, estimate
from spikefit.hardware.placement import Placement
from spikefit.hardware.sourced_value import SourcedValue, known, to_plain
from spikefit.hardware.target import HardwareTarget
from spikefit.networks.blocks import Network
from spikefit.program.emulation import Emulator
from spikefit.program.ir import LayerActivity, Program
from spikefit.program.model_size import model_size
from spikefit.program.parity import Parity
from spikefit.program.simulate import merge_activity
from spikefit.prune.groups import alive_units, unit_groups

if TYPE_CHECKING:
    from spikefit.deploy.deployment import Deployment


def build_report(
    deployment: "Deployment",
    before_compression: Accuracy | None = None,
    provenance: Provenance | None = None,
    training: TrainingRecord | None = None,
) -> Report:
    """Build the report of ``deployment``.

    Args:
        deployment: after at least one :meth:`~spikefit.deploy.deployment.Deployment.update`.
        before_compression: accuracy of the float network; None for a run without one.
        provenance: where the network and the samples come from.
        training: what happened in training, epoch by epoch; None if it was not recorded.

    Raises:
        ValueError: if no sample was simulated.
    """
    tally, target, program = deployment.tally, deployment.target, deployment.program
    if not tally.samples:
        raise ValueError("report: no batch has been simulated.")
    activity = merge_activity(tally.activity)
    placement, model = deployment.placement, deployment.energy_model
    relay_synops = None if tally.relay_synops is None else tally.relay_synops / tally.samples
    energy = estimate(target, activity, placement, program.time_steps, model, program, relay_synops)
    total, alive = _units(deployment.network)
    size = model_size(program, deployment.exact)
    emulation = deployment.network.emulation
    return Report(
        target=target.name,
        findings=tuple(FindingEntry(**asdict(finding), text=str(finding)) for finding in deployment.findings),
        unknown_limits=tuple(unknown_limits(target)),
        figures=tuple(_figure(name, figure) for name, figure in target.sourced_values()),
        samples=tally.samples,
        accuracy_before_compression=None if before_compression is None else before_compression.share,
        samples_before_compression=None if before_compression is None else before_compression.samples,
        accuracy_float=tally.correct_float / tally.samples,
        trained_with_integers_of=emulation.context.chip.name if isinstance(emulation, Emulator) else None,
        accuracy_deployed=tally.correct_deployed / tally.samples,
        time_steps=program.time_steps,
        input_kind=deployment.context.input_kind.value,
        units_total=total,
        units_alive=alive,
        cores=_cores(target, placement, program.time_steps),
        neurons=program.neurons,
        model_bytes=size.bytes,
        bits_per_weight=size.bits_per_weight,
        float_bytes=size.float_bytes,
        relay_synops_per_inference=relay_synops,
        energy_per_inference_j=energy.total_j,
        energy=EnergyEntry(
            model=energy.model,
            terms_j=dict(energy.terms),
            constants=tuple(_figure(*item) for item in constants(target, model).items()),
        ),
        parity=_parity(tally.parity),
        target_agreement=_parity(tally.agreement),
        layers=tuple(_layer(program, layer, energy) for layer in activity),
        provenance=Provenance() if provenance is None else provenance,
        codebooks=codebooks(deployment.network, training),
        rates=rates(program, tally.fired, tally.samples),
        examples=tuple(tally.examples[correct] for correct in (True, False) if correct in tally.examples),
        confusion=None if tally.confusion is None else tuple(map(tuple, tally.confusion.tolist())),
        core_map=core_map(placement),
        training=training,
    )


def _figure(name: str, figure: SourcedValue[Any]) -> SourcedEntry:
    value = to_plain(figure.value)
    return SourcedEntry(name, tuple(value) if isinstance(value, list) else value, figure.source, figure.confidence)


def _units(network: Network) -> tuple[int, int]:
    """Number of prunable units of the network, and of those that live."""
    groups = unit_groups(network)
    return sum(group.units for group in groups), sum(int(alive_units(network, group).sum()) for group in groups)


def _cores(target: HardwareTarget, placement: Placement, steps: int) -> CoresEntry:
    layers, relays = placement.layer_ticks, placement.relay_ticks
    return CoresEntry(
        used=placement.cores_used,
        available=known(target.limits.cores),
        lower_bound=placement.lower_bound,
        unplaced=tuple(placement.unplaced),
        splitter_neurons=placement.splitter_neurons,
        hops_per_spike=placement.hops_per_spike,
        utilisation=utilisation(placement),
        relay_ticks=relays,
        ticks_per_inference=None if layers is None or relays is None else steps + layers + relays,
    )


def utilisation(placement: Placement) -> dict[str, Utilisation]:
    """Mean and maximum utilisation, 0 to 1, of the cores in use, for each limit of a core.

    A core to which a limit does not apply is left out of that limit's mean.
    """
    shares: dict[str, list[float]] = {}
    for core in placement.cores:
        for limit, share in core.utilisation.items():
            shares.setdefault(limit, []).append(share)
    return {limit: Utilisation(sum(used) / len(used), max(used)) for limit, used in shares.items()}


def _parity(parts: Sequence[Parity]) -> ParityEntry | None:
    if not parts:
        return None
    return ParityEntry(
        compared=sum(part.compared for part in parts),
        mismatches=sum(part.mismatches for part in parts),
        ties=sum(part.ties for part in parts),
    )


def _layer(program: Program, layer: LayerActivity, energy: EnergyEstimate) -> LayerEntry:
    population, projections = program.population(layer.name), program.inputs_of(layer.name)
    return LayerEntry(
        name=layer.name,
        model=population.model,
        encoder=any(program.is_encoder(projection) for projection in projections),
        shape=tuple(population.shape),
        neurons=layer.neurons,
        synapses=layer.synapses,
        # An absent synapse is a weight of zero, so that zero counts as a value.
        unique_weights=max(int(projection.stored.merged().distinct()) for projection in projections),
        bits=max((projection.bits or 0) for projection in projections),
        spikes=layer.spikes,
        rate=layer.spikes / layer.updates if layer.updates else 0.0,
        synops=layer.synops,
        macs=layer.macs,
        updates=layer.updates,
        overflows=layer.overflows,
        energy_j=energy.per_layer.get(layer.name),
        energy_terms_j=energy.layer_terms.get(layer.name, {}),
    )
