"""Conversion of frozen dataclasses to plain JSON values and back."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from spikefit.errors import ReportError

Read = TypeVar("Read")


def to_plain(value: Any) -> Any:
    """Convert dataclasses and mappings to dictionaries in their own order, and tuples to lists; keep other values."""
    if dataclasses.is_dataclass(value):
        return {entry.name: to_plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(entry) for entry in value]
    return value


def from_plain(kind: type[Read], content: Any, path: str) -> Read:
    """Build a dataclass from the result of :func:`to_plain`.

    Derived fields (``init=False``) are derived again; unknown keys are ignored.

    Args:
        kind: a dataclass whose fields are annotated with dataclasses, tuples, mappings and JSON values.
        content: values read from JSON.
        path: path of ``content`` within the file, for messages.

    Raises:
        ReportError: for a missing key, or a value of the wrong type; names it.
    """
    if not isinstance(content, Mapping):
        raise ReportError(f"{path}: got {content!r}, expected the fields of {kind.__name__}.")
    given, hints = dict[str, Any](), get_type_hints(kind)
    for entry in dataclasses.fields(kind):  # type: ignore[arg-type]
        if not entry.init:
            continue
        if entry.name in content:
            given[entry.name] = _read(hints[entry.name], content[entry.name], f"{path}.{entry.name}")
        elif entry.default is entry.default_factory is dataclasses.MISSING:
            raise ReportError(f"{path}.{entry.name}: missing field.")
    return kind(**given)


def _read(annotation: Any, content: Any, path: str) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        if content is None and type(None) in arguments:
            return None
        kinds = [kind for kind in arguments if kind is not type(None)]
        return _read(kinds[0], content, path) if len(kinds) == 1 else _scalar(tuple(kinds), content, path)
    if origin is tuple:
        if not isinstance(content, list | tuple):
            raise ReportError(f"{path}: got {content!r}, expected a list.")
        return tuple(_read(arguments[0], entry, f"{path}[{index}]") for index, entry in enumerate(content))
    if origin is Mapping:
        if not isinstance(content, Mapping):
            raise ReportError(f"{path}: got {content!r}, expected a mapping of names to values.")
        return {name: _read(arguments[1], entry, f"{path}.{name}") for name, entry in content.items()}
    if dataclasses.is_dataclass(annotation):
        return from_plain(annotation, content, path)  # type: ignore[arg-type]
    if annotation is Any:
        return tuple(content) if isinstance(content, list) else content
    return _scalar((annotation,), content, path)


def _scalar(kinds: tuple[type, ...], content: Any, path: str) -> Any:
    accepted = (*kinds, int) if float in kinds else kinds  # other languages may write 1.0 as 1
    if not isinstance(content, accepted):
        raise ReportError(f"{path}: got {content!r}, expected {' or '.join(kind.__name__ for kind in kinds)}.")
    return content
