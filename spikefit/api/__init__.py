"""The functions of ``import spikefit``, which the commands of the command line call too."""
