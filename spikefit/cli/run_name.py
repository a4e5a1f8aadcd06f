"""The name of a run, from its data, model and quantizer, unless the user gives one."""

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from spikefit.errors import ConfigurationError

LATEST = "latest"
"""Name of the link to the newest training, next to the runs."""


def run_name(settings: Any) -> str:
    """Name of the folder of a run's versions.

    Args:
        settings: the parsed section of a command, with ``data``, ``model`` and ``name``.

    Returns:
        ``name`` if it is given, else data set, network and quantizer, such as ``digits-conv_snn-codebook4``.

    Raises:
        ConfigurationError: for a name that is no relative path, or that of the link to the newest training.
    """
    name = settings.get("name")
    if name is not None:
        path = PurePath(name)
        if not path.parts or path.is_absolute() or ".." in path.parts or path.parts[0] == LATEST or "\0" in name:
            raise ConfigurationError(
                f"name: got {name!r}, expected a name of a folder below runs, other than {LATEST!r}."
            )
        return str(name)
    data, model = settings.get("data"), settings.get("model")
    parts = (_inside(data, "dataset") or data, _inside(model, "network") or model, _inside(model, "quantizer"))
    names = [_class_name(part) for part in parts]
    return "-".join([*names[:2], names[2] + _number(parts[2]) if parts[2] else "float"])


def snake_case(name: str) -> str:
    """``ConvSNN`` as ``conv_snn``.

    Example:
        >>> [snake_case(name) for name in ("ConvSNN", "FashionMNIST", "CIFAR10DVS", "Digits")]
        ['conv_snn', 'fashion_mnist', 'cifar10dvs', 'digits']
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _options(part: Any) -> Mapping[str, Any]:
    options: Any = part.get("init_args") if hasattr(part, "get") else None
    return {} if options is None else options


def _inside(part: Any, option: str) -> Any:
    return _options(part).get(option)


def _class_name(part: Any) -> str:
    path = part.get("class_path") if hasattr(part, "get") else part
    return snake_case(str(path).rpartition(".")[2])


def _number(quantizer: Any) -> str:
    """The number of values of a weight, or else its bits, where the quantizer has such an option."""
    options = _options(quantizer)
    number = options.get("levels") or options.get("bits")
    return "" if number is None else str(number)
