"""Programs that chips run: integer networks, lowered from trained networks, simulated, compared and stored."""
