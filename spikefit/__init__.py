"""Train, compress and deploy spiking neural networks for neuromorphic chips.

Importing this package is fast: it loads neither torch nor any data set library. Import what you need from its modules,
for example ``from spikefit.networks import ConvSNN``.
"""

__version__ = "0.1.0"
