"""Checks of a parsed configuration, for what jsonargparse accepts and the classes can't use."""

import inspect
import pydoc
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from lightning.pytorch import Trainer

from spikefit.errors import ConfigurationError, check_range

LINKED = ("input_shape", "num_classes", "hardware")
"""Arguments of the module that other options set later."""
THREADS = 1024
"""Largest number of threads; torch crashes where the system has no more."""


def require_usable(settings: Any) -> None:
    """Raise for values that would only fail while objects are built, far from the option's name.

    Args:
        settings: the parsed section of a command.

    Raises:
        ConfigurationError: for an option that is null although it must have a value, an empty list of devices, a number
            out of range, or a schedule that is no mapping; the message names the option and what is allowed.
    """
    for section in ("model", "data", "trainer"):
        _require_annotations(settings.get(section), section)
    for name, allowed in _nulls(settings):
        raise ConfigurationError(f"{name}: got null, expected {allowed}.")
    trainer = settings.trainer
    if trainer.devices == []:
        raise ConfigurationError("trainer.devices: got [], expected auto, a number of devices, or a list such as [0].")
    # What torch or Lightning only notice while they train, with a crash or a division by zero.
    for name, low, high in (("accumulate_grad_batches", 1, None), ("check_val_every_n_epoch", 1, None)):
        if trainer[name] is not None:
            check_range(f"trainer.{name}", trainer[name], low, high)
    if trainer.gradient_clip_val is not None:
        check_range("trainer.gradient_clip_val", trainer.gradient_clip_val, 0)
    if settings.cpu_threads is not None:
        check_range("cpu_threads", settings.cpu_threads, 1, THREADS)
    if not isinstance(settings.seed_everything, bool | None):
        check_range("seed_everything", settings.seed_everything, 0, 2**32 - 1)
    require_mappings(trainer.callbacks)


def require_mappings(callbacks: Any) -> None:
    """Raise for a schedule that is a number: jsonargparse would only find that out while it builds the callback.

    Raises:
        ConfigurationError: naming the callback and what is allowed.
    """
    for callback in callbacks if isinstance(callbacks, list) else []:
        schedule = (callback.get("init_args") or {}).get("schedule")
        if isinstance(schedule, str | int | float):
            raise ConfigurationError(
                f"schedule of {callback.class_path}: got {schedule!r}, expected start, stop, every and interval, such "
                "as {start: 8, stop: 20}."
            )


def _require_annotations(value: Any, name: str) -> None:
    """Raise for an object whose parameter has no type, so that jsonargparse does not know that it makes it.

    An object that can be made as it stands is left alone.
    """
    if isinstance(value, list):
        for index, entry in enumerate(value):
            _require_annotations(entry, f"{name}.{index}")
        return
    value = vars(value) if hasattr(value, "as_dict") else value
    options = value.get("init_args") if isinstance(value, Mapping) else None
    options = vars(options) if hasattr(options, "as_dict") else options
    if not isinstance(options, Mapping):
        return
    kind = pydoc.locate(str(value.get("class_path")))
    for option, given in options.items():
        if _unannotated(kind, option) and _incomplete(given):
            raise ConfigurationError(
                f"{name}.init_args.{option}: the parameter {option} of {value['class_path']} has no annotation, so "
                f"that the kind of its value is not known; expected one, such as {option}: NeuronFactory, from "
                "spikefit.neurons."
            )
        _require_annotations(given, f"{name}.init_args.{option}")


def _unannotated(kind: Any, option: str) -> bool:
    try:
        parameter = inspect.signature(kind).parameters.get(option)
    except (TypeError, ValueError):
        return False
    return parameter is not None and parameter.annotation is inspect.Parameter.empty


def _incomplete(value: Any) -> bool:
    """Whether ``value`` describes an object without all that its class needs, as factories do."""
    if type(value).__name__ == "NestedArg":  # an option of an object that jsonargparse could not make
        return True
    if not hasattr(value, "as_dict") or "class_path" not in value:
        return False
    try:
        parameters = inspect.signature(pydoc.locate(value["class_path"])).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    given = value.get("init_args") or {}
    needed = (
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    )
    return any(given.get(name) is None for name in needed)


def _nulls(settings: Any) -> Iterator[tuple[str, str]]:
    """Names of options that are null, and what their classes allow."""
    needed = _needed(Trainer)
    yield from ((f"trainer.{name}", needed[name]) for name in needed if settings.trainer.get(name, 0) is None)
    for section in ("model", "data", "trainer"):
        yield from _nulls_below(settings.get(section), section)


def _nulls_below(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _nulls_below(entry, f"{name}.{index}")
        return
    if hasattr(value, "as_dict"):
        value = vars(value)
    if not isinstance(value, Mapping):
        return
    options = value.get("init_args")
    if "class_path" in value and options is not None:
        needed = _needed(pydoc.locate(value["class_path"]))
        for option in needed:
            if option not in LINKED and options.get(option, 0) is None:
                yield f"{name}.init_args.{option}", needed[option]
    for key, below in value.items():
        yield from _nulls_below(below, f"{name}.{key}")


@cache
def _needed(kind: Any) -> dict[str, str]:
    """Arguments of a class that must not be None, and a description of their types."""
    try:
        parameters, hints = inspect.signature(kind).parameters, typing.get_type_hints(kind.__init__)
    except (TypeError, ValueError, NameError, AttributeError):  # built in, or with names that can't be resolved
        return {}
    return {
        name: _described(hints[name])
        for name, parameter in parameters.items()
        if name in hints and parameter.default is not None and not _optional(hints[name])
    }


def _optional(hint: Any) -> bool:
    if hint is Any or isinstance(hint, typing.TypeVar):
        return True
    if typing.get_origin(hint) in (typing.Union, types.UnionType, typing.Annotated):
        return any(_optional(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return None in typing.get_args(hint)
    return hint is None or hint is type(None)


def _described(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(hint)))}"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_described(part) for part in typing.get_args(hint))
    return str(getattr(hint, "__name__", hint)) if not typing.get_args(hint) else str(hint).replace("typing.", "")
