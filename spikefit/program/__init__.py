"""What a chip runs: the integer network, how it is made from a trained one, simulated, compared and stored."""
