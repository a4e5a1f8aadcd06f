"""Every quantizer, score and schedule in a training of five epochs: for the tests of resuming and of two processes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from callbacks import (
    ChipArithmetic,
    CodebookMonitor,
    CodebookReclustering,
    FitToHardware,
    FSCPruning,
    NormCalibration,
    SynapsePruning,
)
from spikefit import prune
from spikefit.deploy.budget import Budget
from spikefit.deploy.costs import CoreCost, EnergyCost, SynapseCost
from spikefit.quantize import AxonCodebook, Codebook, PostTraining, RescaledUniform, Ternary, Uniform


@dataclass(frozen=True)
class Case:
    """A quantizer, what else the model is told, and the callbacks, made anew for each training."""

    quantizer: Any = Codebook
    callbacks: Callable[[], list[Any]] = list
    options: dict[str, Any] = field(default_factory=dict)


def recluster(**options):
    return lambda: [CodebookReclustering(**options), CodebookMonitor()]


def fsc(**options):
    return lambda: [CodebookReclustering(start=1), FSCPruning(**{"start": 1, "stop": 3, **options}), NormCalibration(2)]


def synapses(**options):
    return lambda: [CodebookReclustering(start=1), SynapsePruning(**{"start": 1, "stop": 3, **options})]


def chip():
    return [CodebookReclustering(start=1), NormCalibration(2), ChipArithmetic("loihi", start=2)]


def fitted():
    """Half of the neurons of the network have to go."""
    target = Path(__file__).parent / "small_chip.yaml"
    return [
        FitToHardware(str(target), start=1, stop=2, arithmetic=3),
        CodebookReclustering(start=1),
        NormCalibration(2),
    ]


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
CASES: dict[str, Case] = {
    **{f"quantizer-{name}": Case(quantizer, recluster(start=1)) for name, quantizer in QUANTIZERS.items()},
    "ramp-blend": Case(Codebook, recluster(start=1, ramp=2.5)),
    "ramp-soft": Case(partial(Codebook, handover="soft"), recluster(start=1, ramp=2.5)),
    "ramp-fraction": Case(partial(Codebook, handover="fraction"), recluster(start=1, ramp=2.5)),
    "by-step": Case(Codebook, recluster(start=3, every=3, interval="step")),
    "frozen": Case(Codebook, recluster(start=1, stop=1, freeze=2)),
    "currents": Case(Codebook, recluster(start=1, stop=3, every=2, metric="currents", batches=2)),
    "currents-frozen": Case(Codebook, recluster(start=1, freeze=1, metric="currents", batches=2)),
    **{f"score-{name}": Case(callbacks=fsc(score=score)) for name, score in SCORES.items()},
    **{f"growth-{name}": Case(callbacks=fsc(growth=name)) for name in ("one_shot", "linear", "cubic")},
    "prune-by-step": Case(callbacks=fsc(start=4, stop=14, every=5, interval="step")),
    "prune-recovery": Case(callbacks=fsc(stop=2, recovery=1)),
    "cost-synapses": Case(callbacks=fsc(cost=SynapseCost())),
    "cost-energy": Case(callbacks=fsc(cost=EnergyCost("loihi"))),
    "cost-cores": Case(callbacks=fsc(cost=CoreCost("loihi"))),
    "budget-neurons": Case(callbacks=fsc(budget=Budget(neurons=300))),
    "budget-energy": Case(callbacks=fsc(budget=Budget(energy_j=2e-7, target="loihi", batches=2))),
    **{
        f"synapses-{name}": Case(Codebook, synapses(score=score), {"prunable_synapses": True})
        for name, score in SYNAPSE_SCORES.items()
    },
    "chip-arithmetic": Case(callbacks=chip),
    "fit-to-hardware": Case(partial(Codebook, levels=8, bits=8), callbacks=fitted),
    "synapses-budget": Case(Codebook, synapses(budget=Budget(synapses=4000)), {"prunable_synapses": True}),
}
