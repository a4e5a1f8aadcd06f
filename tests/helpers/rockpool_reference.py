"""Rockpool's ``XyloSim``, without the package samna, which drives the chips and which Rockpool imports in any case."""

import importlib.machinery
import importlib.util
import sys
from contextlib import contextmanager
from unittest.mock import MagicMock


class _NoChips:
    """Finds every module of samna: an object that has every attribute."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "samna":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return MagicMock(__path__=[], __spec__=spec, __name__=spec.name, __version__="0")

    def exec_module(self, module):
        pass


@contextmanager
def without_samna():
    """Context in which samna can be imported."""
    finder = _NoChips()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "samna"]:
            del sys.modules[name]


def xylo_sim():
    """The class ``XyloSim`` of Xylo Audio 3."""
    with without_samna():
        from rockpool.devices.xylo.syns65302 import XyloSim
    return XyloSim
