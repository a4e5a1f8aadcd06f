"""Pure tensor functions: no state, no configuration, no knowledge of networks or chips."""
