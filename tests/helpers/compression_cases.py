"""Every quantizer, score and schedule in a training of five epochs, for tests of resuming and of two processes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from callbacks import (
    ChipEmulation,
    CodebookMonitor,
    CodebookReclustering,
    FitToHardware,
    FSCPruning,
    NormCalibration,
    SynapsePruning,
)
from callbacks.schedule import Schedule
from spikefit import prune
from spikefit.deploy.unit_cost import CoreCost, EnergyCost, SynapseCost
from spikefit.losses import EnergyPenalty
from spikefit.prune.budget import Budget
from spikefit.quantize import AxonCodebook, Codebook, PostTraining, RescaledUniform, Ternary, Uniform


@dataclass(frozen=True)
class Case:
    """A quantizer, other arguments of the model, and the callbacks, created anew for each training."""

    quantizer: Any = Codebook
    callbacks: Callable[[], list[Any]] = list
    options: dict[str, Any] = field(default_factory=dict)


def recluster(**options):
    return lambda: [CodebookReclustering(**options), CodebookMonitor()]


def fsc(**options):
    return lambda: [
        CodebookReclustering(Schedule(1)),
        FSCPruning(**{"schedule": Schedule(1, 3), **options}),
        NormCalibration(2),
    ]


def synapses(**options):
    return lambda: [CodebookReclustering(Schedule(1)), SynapsePruning(**{"schedule": Schedule(1, 3), **options})]


def chip():
    return [CodebookReclustering(Schedule(1)), NormCalibration(2), ChipEmulation(Schedule(2))]


def fitted():
    """Half of the neurons of the network have to go."""
    return [
        FitToHardware(Schedule(1, 2), emulate_from=3),
        CodebookReclustering(Schedule(1)),
        NormCalibration(2),
    ]


SMALL_CHIP = str(Path(__file__).parent / "small_chip.yaml")
QUANTIZERS = {
    "layer": Codebook,
    "channel": partial(Codebook, scope="channel", zero="free"),
    "core": partial(Codebook, scope="core", core_outputs=4, zero="none"),
    "axon": AxonCodebook,
    "learned_grid": partial(Codebook, grid="learned"),
    "power_of_two": partial(Codebook, grid="power_of_two", bits=8),
    "lsq": Uniform,
    "rescaled": RescaledUniform,
    "ternary": Ternary,
    "post_training": PostTraining,
}
SCORES = {
    "fsc": prune.FSC(2),
    "rate": prune.FiringRate(2),
    "magnitude": prune.Magnitude(),
    "random": prune.Random(3),
    "svs": prune.SVS(2),
    "oracle": prune.Oracle(1),
}
SYNAPSE_SCORES = {
    "fisher": prune.SynapseFisher(2),
    "magnitude": prune.SynapseMagnitude(),
    "random": prune.SynapseRandom(3),
}
LAYERS = ("conv1", "conv2", "fc1", "readout")


def mixed(*names):
    """A network with one of ``QUANTIZERS`` per layer."""
    quantizers = {layer: QUANTIZERS[name] for layer, name in zip(LAYERS, names, strict=True)}
    return Case(None, recluster(schedule=Schedule(1)), {"layer_quantizers": quantizers})


CASES: dict[str, Case] = {
    "quantizers-of-scopes": mixed("layer", "channel", "core", "axon"),
    "quantizers-of-grids": mixed("learned_grid", "power_of_two", "lsq", "rescaled"),
    "quantizers-without-a-codebook": mixed("ternary", "post_training", "lsq", "layer"),
    "ramp": Case(Codebook, recluster(schedule=Schedule(1), ramp=2.5)),
    "by-step": Case(Codebook, recluster(schedule=Schedule(3, every=3, interval="step"))),
    "frozen": Case(Codebook, recluster(schedule=Schedule(1, 1), freeze=2)),
    "currents": Case(Codebook, recluster(schedule=Schedule(1, 3, every=2), metric="currents", batches=2)),
    "currents-frozen": Case(Codebook, recluster(schedule=Schedule(1), freeze=1, metric="currents", batches=2)),
    **{f"score-{name}": Case(callbacks=fsc(score=score)) for name, score in SCORES.items()},
    "growth-linear": Case(callbacks=fsc(growth="linear")),  # the others are cubic
    "prune-by-step": Case(callbacks=fsc(schedule=Schedule(4, 14, every=5, interval="step"))),
    "prune-recovery": Case(callbacks=fsc(schedule=Schedule(1, 2), recovery=1)),
    "cost-synapses": Case(callbacks=fsc(cost=SynapseCost())),
    "cost-energy": Case(callbacks=fsc(cost=EnergyCost())),
    "cost-cores": Case(callbacks=fsc(cost=CoreCost())),
    "budget-neurons": Case(callbacks=fsc(budget=Budget(neurons=300))),
    "budget-energy": Case(callbacks=fsc(budget=Budget(energy_j=2e-7, batches=2))),
    **{
        f"synapses-{name}": Case(Codebook, synapses(score=score), {"prunable_synapses": True})
        for name, score in SYNAPSE_SCORES.items()
    },
    "chip-emulation": Case(callbacks=chip),
    "fit-to-hardware": Case(partial(Codebook, levels=8, bits=8), fitted, {"hardware": SMALL_CHIP}),
    "energy-penalty": Case(Codebook, fsc(), {"loss": EnergyPenalty(budget_j=3e-7)}),
    "synapses-budget": Case(Codebook, synapses(budget=Budget(synapses=4000)), {"prunable_synapses": True}),
}
