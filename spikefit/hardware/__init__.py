"""Models of neuromorphic chips: limits, checks, placement of neurons on cores, and energy."""
