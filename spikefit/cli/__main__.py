"""Entry point of ``python -m spikefit.cli``, the same program as ``spikefit``."""

from spikefit.cli.main import main

if __name__ == "__main__":
    main()
