"""The command line: ``spikefit`` and ``lightning``, what is wrong with its options, and where a run writes."""
