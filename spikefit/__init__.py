"""Train, compress and deploy spiking neural networks for neuromorphic chips.

Importing this package is fast: it loads neither torch nor any data set library. These names are loaded when they are
first used:

* :func:`load` a trained module from a checkpoint;
* :func:`check` whether a network or a configuration fits a chip, before training;
* :func:`deploy` a trained network to a chip, which gives a :class:`Report`;
* :func:`export` the program of a chip, or a NIR graph;
* :func:`chips`, the chips that spikefit knows.

Everything else is imported from its module, for example ``from spikefit.networks import ConvSNN``.

Example:
    >>> import spikefit
    >>> [chip.name for chip in spikefit.chips()][:3]
    ['akida_akd1000', 'altai1', 'generic']
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikefit.api.check import check as check
    from spikefit.api.chips import chips as chips
    from spikefit.api.deploy import deploy as deploy
    from spikefit.api.export import export as export
    from spikefit.api.load import load as load
    from spikefit.deploy.report import Report as Report

__version__ = "0.1.0"
__all__ = ["Report", "__version__", "check", "chips", "deploy", "export", "load"]

_HOMES = {
    "Report": "spikefit.deploy.report",
    "check": "spikefit.api.check",
    "chips": "spikefit.api.chips",
    "export": "spikefit.api.export",
    "load": "spikefit.api.load",
}


class CallablePackage(ModuleType):
    """Type of the package ``spikefit.deploy``, which is also the function ``spikefit.deploy``.

    Python binds a package that is imported to its name in the parent package, so that one name has both meanings.
    """

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call :func:`spikefit.api.deploy.deploy`."""
        from spikefit.api.deploy import deploy as function

        return function(*args, **options)


def __getattr__(name: str) -> Any:
    if name == "deploy":
        return importlib.import_module("spikefit.deploy")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'spikefit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
