"""Pruning of units and synapses: groups of tied units, importance scores, schedules, budgets, and compaction."""

from spikefit.prune.compact import compact
from spikefit.prune.groups import UnitGroup, alive_units, live_synapses, unit_groups
from spikefit.prune.scores.base import Score, SynapseScore
from spikefit.prune.scores.firing_rate import FiringRate
from spikefit.prune.scores.fsc import FSC
from spikefit.prune.scores.magnitude import Magnitude
from spikefit.prune.scores.oracle import Oracle
from spikefit.prune.scores.random import Random
from spikefit.prune.scores.svs import SVS
from spikefit.prune.scores.synapse_fisher import SynapseFisher
from spikefit.prune.scores.synapse_magnitude import SynapseMagnitude
from spikefit.prune.scores.synapse_random import SynapseRandom

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
