"""The files of a new project, which ``spikefit init`` copies."""
