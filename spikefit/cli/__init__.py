"""The command line programs ``spikefit`` and ``lightning``: commands, error messages and run directories."""
