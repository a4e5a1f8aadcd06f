"""Importance scores of units and synapses, one file per score; the lowest scores are pruned first."""
