"""From a trained network to a chip: lowering, simulation, proof of equality, report."""
