"""Pruning of units and synapses: which die together, which matter least, when they go, and the network that is left."""

from spikefit.prune.activity_scores import SVS, FiringRate
from spikefit.prune.compact import compact
from spikefit.prune.groups import UnitGroup, alive_units, live_synapses, unit_groups
from spikefit.prune.oracle import Oracle
from spikefit.prune.scores import FSC, Score, SynapseScore
from spikefit.prune.synapse_scores import SynapseFisher, SynapseMagnitude, SynapseRandom
from spikefit.prune.weight_scores import Magnitude, Random

__all__ = [
    "FSC",
    "SVS",
    "FiringRate",
    "Magnitude",
    "Oracle",
    "Random",
    "Score",
    "SynapseFisher",
    "SynapseMagnitude",
    "SynapseRandom",
    "SynapseScore",
    "UnitGroup",
    "alive_units",
    "compact",
    "live_synapses",
    "unit_groups",
]
