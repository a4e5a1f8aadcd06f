"""Figures of chips with their sources, and how they are read from YAML and validated.

A figure is ``{value, source, confidence}``. Confidence is one of

* ``P`` a paper, ``V`` a vendor document, ``T`` source code of a public tool, ``S`` a secondary source, ``D``
  derived;
* ``R`` recalled and not looked up: *unverified*.

``value: null`` says that nobody published the figure.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeAlias, TypeVar, get_args, get_origin

from spikefit.errors import TargetError

CONFIDENCES = ("P", "V", "T", "S", "D", "R")

Value = TypeVar("Value")
Read = TypeVar("Read", covariant=True)


@dataclass(frozen=True)
class SourcedValue(Generic[Read]):
    """One figure of a chip: its value (None if unknown), its source, and the confidence in the source.

    Example:
        >>> cores = SourcedValue(128, "Davies et al. 2018", "P")
        >>> known(cores), known(SourcedValue(None)), cores.unverified
        (128, None, False)
    """

    value: Read | None
    source: str | None = None
    confidence: str | None = None

    @property
    def unverified(self) -> bool:
        """Whether the figure was recalled and not looked up."""
        return self.confidence == "R"


def known(figure: SourcedValue[Value] | None) -> Value | None:
    """The value of ``figure``; None if it is unknown or does not apply."""
    return None if figure is None else figure.value


def known_or(default: Value, figure: SourcedValue[Value] | None) -> Value:
    """The value of ``figure``, which may be 0; ``default`` if it is unknown or does not apply."""
    value = known(figure)
    return default if value is None else value


@dataclass(frozen=True)
class Kind:
    """A type of value: its description in messages (text, or a function that returns it) and its validator."""

    described: str | Callable[[], str]
    accepts: Callable[[Any], bool]

    @property
    def allowed(self) -> str:
        """Description of the accepted values."""
        return self.described if isinstance(self.described, str) else self.described()


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def choice(*options: Any) -> Kind:
    """One of ``options``."""
    return Kind("one of " + ", ".join(map(str, options)), lambda value: value in options)


def key_of(table: Mapping[str, Any], hint: str) -> Kind:
    """A key of ``table``, looked up when a value is validated; ``hint`` explains how to add a key."""
    return Kind(lambda: f"one of {', '.join(table)} ({hint})", lambda value: isinstance(value, str) and value in table)


def some(kind: Kind) -> Kind:
    """A non-empty list of ``kind``."""
    return Kind(
        lambda: f"a list, each {kind.allowed}",
        lambda value: isinstance(value, list) and bool(value) and all(map(kind.accepts, value)),
    )


def any_of(kind: Kind) -> Kind:
    """A list of ``kind``, which may be empty."""
    return Kind(
        lambda: f"a list, each {kind.allowed}, or []",
        lambda value: isinstance(value, list) and all(map(kind.accepts, value)),
    )


INTEGER = Kind("an integer of at most 64 bits", lambda value: _is_integer(value) and -(2**63) <= value < 2**63)
COUNT = Kind("an integer of at least 0", lambda value: _is_integer(value) and value >= 0)
POSITIVE = Kind("an integer of at least 1", lambda value: _is_integer(value) and value >= 1)
BOOLEAN = Kind("true or false", lambda value: isinstance(value, bool))
AMOUNT = Kind(
    "a number of at least 0 (YAML requires the decimal point and the exponent's sign: 2.0e-12)",
    lambda value: not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value < math.inf,
)
POSITIVE_AMOUNT = Kind("a number above 0", lambda value: AMOUNT.accepts(value) and value > 0)
BITS = Kind("an integer from 1 to 32", lambda value: _is_integer(value) and 1 <= value <= 32)


Count: TypeAlias = Annotated[SourcedValue[int] | None, COUNT]
Positive: TypeAlias = Annotated[SourcedValue[int] | None, POSITIVE]
Integer: TypeAlias = Annotated[SourcedValue[int] | None, INTEGER]
Amount: TypeAlias = Annotated[SourcedValue[float] | None, AMOUNT]
PositiveAmount: TypeAlias = Annotated[SourcedValue[float] | None, POSITIVE_AMOUNT]


def expect(kind: Kind, value: Any, file: str, path: str) -> None:
    """Raise :class:`TargetError` unless ``kind`` accepts ``value``, the content of the field ``path``."""
    if not kind.accepts(value):
        raise TargetError(f"{file}: {path}: got {value!r}, expected {kind.allowed}.")


def expect_keys(content: Any, allowed: tuple[str, ...], required: tuple[str, ...], file: str, path: str) -> None:
    """Raise :class:`TargetError` unless ``content`` has all ``required`` keys and only ``allowed`` ones."""
    if not isinstance(content, dict):
        raise TargetError(f"{file}: {path or 'content'}: got {content!r}, expected the keys {', '.join(allowed)}.")
    for key in content:
        if key not in allowed:
            where = f"{path}.{key}" if path else str(key)
            raise TargetError(
                f"{file}: {where}: unknown field with the value {content[key]!r}, expected one of {', '.join(allowed)}."
            )
    for key in required:
        if key not in content:
            where = f"{path}.{key}" if path else key
            raise TargetError(f"{file}: {where}: missing field.")


def read_section(kind: type, content: Any, file: str, path: str) -> Any:
    """Read ``content`` as an instance of the dataclass ``kind``; fields without a default must have a known value."""
    entries = {entry.name: entry for entry in dataclasses.fields(kind)}
    required = tuple(name for name, entry in entries.items() if entry.default is dataclasses.MISSING)
    expect_keys(content, tuple(entries), required, file, path)
    parsed: dict[str, Any] = {}
    for name, value in content.items():
        where, annotation = f"{path}.{name}", entries[name].type
        if get_origin(annotation) is Annotated:
            parsed[name] = _read_sourced_value(get_args(annotation)[1], name in required, value, file, where)
        else:  # a nested section, possibly optional
            inner = next(part for part in get_args(annotation) if isinstance(part, type))
            parsed[name] = read_section(inner, value, file, where)
    return kind(**parsed)


def _read_sourced_value(kind: Kind, required: bool, content: Any, file: str, path: str) -> SourcedValue[Any]:
    fields = ("value", "source", "confidence")
    expect_keys(content, fields, ("value",), file, path)
    value = content["value"]
    if value is not None or required:
        expect(kind, value, file, f"{path}.value")
        expect_keys(content, fields, fields, file, path)
        expect(choice(*CONFIDENCES), content["confidence"], file, f"{path}.confidence")
        source = Kind("where the figure was read", lambda text: isinstance(text, str) and bool(text.strip()))
        expect(source, content["source"], file, f"{path}.source")
    value = tuple(value) if isinstance(value, list) else value
    return SourcedValue(value, content.get("source"), content.get("confidence"))


def sourced_values_of(value: Any, path: str) -> Iterator[tuple[str, SourcedValue[Any]]]:
    """Yield every figure in ``value`` and its sections, with its dotted path, which starts with ``path``."""
    if isinstance(value, SourcedValue):
        yield path, value
    elif dataclasses.is_dataclass(value):
        for entry in dataclasses.fields(value):
            yield from sourced_values_of(getattr(value, entry.name), f"{path}.{entry.name}")


def to_plain(value: Any) -> Any:
    """A section as plain dictionaries and lists, without figures that do not apply."""
    if isinstance(value, tuple):
        return list(value)
    if not dataclasses.is_dataclass(value):
        return value
    entries = {entry.name: getattr(value, entry.name) for entry in dataclasses.fields(value)}
    keep = isinstance(value, SourcedValue)  # an unknown value stays visible
    return {key: to_plain(entry) for key, entry in entries.items() if entry is not None or (keep and key == "value")}
