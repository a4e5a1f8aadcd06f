"""Quantizers as descriptions of primitives, which checkpoints store: ``{"class": name or path, **options}``."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import Tensor

from spikefit import quantize
from spikefit.errors import ConfigurationError
from spikefit.quantize.base import Quantizer


def described(kind: type[Quantizer], options: Mapping[str, Any]) -> dict[str, Any]:
    """Describe ``kind(weight, **options)``.

    Args:
        kind: a class of :mod:`spikefit.quantize`, which is stored by its name, or any other importable subclass of
            :class:`~spikefit.quantize.base.Quantizer`, which is stored by its path.
        options: arguments besides the weight, primitives only.

    Raises:
        ConfigurationError: for a class that is no quantizer, or that can't be imported by its path.

    Example:
        >>> described(quantize.Ternary, {"threshold": 0.5})
        {'class': 'Ternary', 'threshold': 0.5}
    """
    if not (isinstance(kind, type) and issubclass(kind, Quantizer)):
        raise ConfigurationError(f"quantizer: got {kind!r}, expected a subclass of {Quantizer.__module__}.Quantizer.")
    if getattr(quantize, kind.__name__, None) is kind:
        return {"class": kind.__name__, **options}
    path = f"{kind.__module__}.{kind.__qualname__}"
    if _found(path) is not kind:
        raise ConfigurationError(
            f"quantizer: got {path}, which can't be imported by this path, so that no checkpoint could be loaded; "
            "expected a class at the top level of a module."
        )
    return {"class": path, **options}


def quantizer_class(name: str) -> type[Quantizer]:
    """The class that a description names.

    Raises:
        ConfigurationError: if it does not exist or is no quantizer.
    """
    kind = _found(name) if "." in name else getattr(quantize, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Quantizer)):
        raise ConfigurationError(
            f"quantizer: got {name!r}, expected a class of spikefit.quantize or the path of an importable subclass of "
            "Quantizer. The module that defines it must be in the working directory or installed."
        )
    return kind


def built(description: Mapping[str, Any], weight: Tensor) -> Quantizer:
    """The quantizer of a description, fitted to ``weight``.

    Raises:
        ConfigurationError: if its class does not exist or refuses its options.
    """
    options = {option: value for option, value in description.items() if option != "class"}
    kind = quantizer_class(description["class"])
    try:
        return kind(weight.detach(), **options)  # type: ignore[call-arg]
    except TypeError as error:
        raise ConfigurationError(f"quantizer: {description['class']} refuses {options}: {error}") from error


def _found(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name, None)
    except ImportError:
        return None
