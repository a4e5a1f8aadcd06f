"""Scores of units and synapses, one file a score: what has the lowest score is pruned first."""
