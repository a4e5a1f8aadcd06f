"""Pruning of whole units: which die together, which matter least, when they go, and the network that is left."""

from spikefit.prune.compact import compact
from spikefit.prune.groups import UnitGroup, alive_units, live_synapses, unit_groups
from spikefit.prune.scores import FSC, FiringRate, Magnitude, Random, Score

__all__ = [
    "FSC",
    "FiringRate",
    "Magnitude",
    "Random",
    "Score",
    "UnitGroup",
    "alive_units",
    "compact",
    "live_synapses",
    "unit_groups",
]
