"""Deployment of a trained network to a chip: lowering, simulation, comparison with the network, and report."""
