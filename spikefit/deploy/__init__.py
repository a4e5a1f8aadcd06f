"""Deployment of a trained network to a chip: lowering, simulation, comparison with the network, and report.

The package can also be called: it is the function :func:`spikefit.deploy`, see :mod:`spikefit.api.deploy`.
"""

import sys

from spikefit import CallablePackage

sys.modules[__name__].__class__ = CallablePackage
