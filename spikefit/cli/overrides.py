"""Options of callbacks, loggers and quantizers by class name: ``--callbacks.FSCPruning.fraction=0.7``."""

import argparse
import difflib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger

from spikefit.cli.errors import explain, options_of, public_classes
from spikefit.cli.words import PLACES, Override
from spikefit.errors import ConfigurationError
from spikefit.quantize.base import QuantizerFactory

KINDS: dict[str, Any] = {"callbacks": Callback, "logger": Logger, "quantizer": QuantizerFactory}
MODULES = {
    "callbacks": ("callbacks", "lightning.pytorch.callbacks"),
    "logger": ("lightning.pytorch.loggers",),
    "quantizer": ("spikefit.quantize",),
}
"""Modules whose classes a message suggests."""
LAYERS = "model.init_args.layer_quantizers"
_REMOVED = object()


@dataclass
class Entry:
    """One callback, logger or quantizer of a configuration.

    Attributes:
        content: ``class_path`` and ``init_args``; :data:`_REMOVED` once an override has removed it.
        name: what it is called besides its class: its option ``name``, or the pattern of layers.
    """

    content: Any
    name: str = ""

    @property
    def kind(self) -> str:
        """Name of the class."""
        return str(self.content["class_path"]).rpartition(".")[2]

    def __str__(self) -> str:
        return f"{self.kind} ({self.name})" if self.name else self.kind


def overridden(config: Mapping[str, Any], overrides: Iterable[Override]) -> dict[str, Any]:
    """Apply overrides to a configuration.

    Args:
        config: the configuration as plain mappings and lists; unchanged.
        overrides: in order; later ones win.

    Returns:
        The new values of those options that contain callbacks, loggers or quantizers, by dotted name.

    Raises:
        ConfigurationError: for an entry that is not in the configuration or is one of several, for an option that its
            class does not have, and for a value that it refuses.
    """
    changed: dict[str, Any] = {}
    for place in PLACES:
        wanted = [override for override in overrides if override.place == place]
        if wanted:
            entries = _entries(config, place)
            for entry, chosen in _by_entry(entries, wanted, place):
                _apply(entry, chosen, place)
            changed |= _values(config, place, entries)
    return changed


def _get(config: Mapping[str, Any], option: str) -> Any:
    value: Any = config
    for key in option.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _entries(config: Mapping[str, Any], place: str) -> list[Entry]:
    value = _get(config, PLACES[place])
    listed = value if isinstance(value, list) else [value]
    entries = [Entry(_plain(one)) for one in listed if isinstance(one, str | Mapping)]
    if place == "quantizer":
        layers = _get(config, LAYERS) or {}
        return entries + [Entry(_plain(one), pattern) for pattern, one in layers.items() if one is not None]
    for entry in entries:
        entry.name = str((entry.content.get("init_args") or {}).get("name") or "")
    return entries


def _plain(content: Any) -> dict[str, Any]:
    return {"class_path": content} if isinstance(content, str) else dict(content)


def _values(config: Mapping[str, Any], place: str, entries: list[Entry]) -> dict[str, Any]:
    """The new values of the options of one place."""
    if place == "quantizer":
        content = {entry.name: None if entry.content is _REMOVED else entry.content for entry in entries}
        layers = {pattern: content.get(pattern) for pattern in _get(config, LAYERS) or {}}
        return {PLACES[place]: content.get("")} | ({LAYERS: layers} if layers else {})
    kept = [entry.content for entry in entries if entry.content is not _REMOVED]
    if place == "logger":
        single = not isinstance(_get(config, PLACES[place]), list)
        return {PLACES[place]: (kept[0] if single else kept) if kept else False}
    return {PLACES[place]: kept}


def _by_entry(
    entries: list[Entry], overrides: list[Override], place: str
) -> list[tuple[Entry, list[tuple[Override, tuple[str, ...]]]]]:
    """The overrides of each entry, with the path of the option."""
    chosen: dict[int, tuple[Entry, list[tuple[Override, tuple[str, ...]]]]] = {}
    for override in overrides:
        entry, option = _find(entries, override, place)
        chosen.setdefault(id(entry), (entry, []))[1].append((override, option))
    return list(chosen.values())


def _find(entries: list[Entry], override: Override, place: str) -> tuple[Entry, tuple[str, ...]]:
    first, *rest = override.path

    def same(name: str) -> bool:
        return name == first or (override.upper and name.lower() == first.lower())

    matching = [entry for entry in entries if same(entry.kind) or same(entry.name)]
    if rest and rest[0].isdigit() and matching:
        if int(rest[0]) >= len(matching):
            raise ConfigurationError(
                f"{override.origin}: got number {rest[0]}, expected 0 to {len(matching) - 1}: that many of {first} are "
                f"in {PLACES[place]}."
            )
        return matching[int(rest[0])], tuple(rest[1:])
    if len(matching) > 1:
        raise ConfigurationError(_ambiguous(matching, override, place, rest))
    if matching:
        return matching[0], tuple(rest)
    default = next((entry for entry in entries if place == "quantizer" and not entry.name), None)
    if default is not None and (override.upper or first[0].islower()):
        return default, override.path
    raise ConfigurationError(_unknown(entries, override, place))


def _ambiguous(matching: list[Entry], override: Override, place: str, rest: list[str]) -> str:
    option = ".".join(rest) or "OPTION"
    names = [entry.name for entry in matching]
    ways = [f"--{place}.{name}.{option}" for name in names if name and names.count(name) == 1]
    ways += [f"--{place}.{override.path[0]}.{number}.{option}" for number in range(len(matching))]
    if place == "quantizer":
        ways = [f"--{place}.{name}.{option}" if name else f"--{place}.{option}" for name in names]
    return (
        f"{override.origin}: {len(matching)} of {override.path[0]} are in {PLACES[place]}: "
        f"{', '.join(map(str, matching))}. Expected one of {', '.join(ways)}."
    )


def _unknown(entries: list[Entry], override: Override, place: str) -> str:
    first = override.path[0]
    own = list(dict.fromkeys(name for entry in entries for name in (entry.kind, entry.name) if name))
    known = [name for module in MODULES[place] for name in public_classes(module)]
    listed = f"this run has {', '.join(own)}" if own else "this run has none"
    if first in known:
        add = f"--{PLACES[place]}{'+' if place != 'quantizer' else ''}"
        path = next(f"{module}.{first}" for module in MODULES[place] if first in public_classes(module))
        return f"{override.origin}: no {first} is in {PLACES[place]}: {listed}. To add it: {add}={path}"
    close = difflib.get_close_matches(first, own, 1, 0.5) or difflib.get_close_matches(first, known, 1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"{override.origin}: no {first} is in {PLACES[place]}: {listed}.{hint}"


def _apply(entry: Entry, chosen: list[tuple[Override, tuple[str, ...]]], place: str) -> None:
    """Change ``entry`` in place."""
    words = []
    for override, option in chosen:
        if not option:
            if yaml.safe_load(override.value) is not None:
                raise ConfigurationError(
                    f"{override.origin}: got {override.value!r}, expected null, which removes it, or an option of it, "
                    f"such as {override.origin}.{(options_of(entry.content['class_path']) or ['OPTION'])[0]}=VALUE."
                )
            entry.content = _REMOVED
            return
        path = _folded(option, entry) if override.upper else option
        _require_known(path, entry, override)
        words.append(f"--entry.{'.'.join(path)}={override.value}")
    entry.content = _parsed(entry, words, chosen[0][0], place)


def _folded(option: tuple[str, ...], entry: Entry) -> tuple[str, ...]:
    """The path of an option in upper case as its class spells it."""
    known = {name.lower(): name for name in options_of(entry.content["class_path"])}
    lower = [part.lower() if part.isupper() else part for part in option]
    return (known.get(lower[0], lower[0]), *lower[1:])


def _require_known(option: tuple[str, ...], entry: Entry, override: Override) -> None:
    """Raise for an option that the class does not have, unless it takes any."""
    class_path = entry.content["class_path"]
    known, given = options_of(class_path), option[0].rstrip("+")
    if known and given not in (*known, "init_args", "dict_kwargs") and not _takes_any(class_path):
        close = difflib.get_close_matches(given, known, 1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigurationError(
            f"{override.origin}: {class_path} has no option {given}, expected one of {', '.join(known)}.{hint}"
        )


def _takes_any(class_path: str) -> bool:
    module, _, name = class_path.rpartition(".")
    kind: Callable[..., Any] = getattr(__import__(module, fromlist=[name]), name)
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(kind).parameters.values())


def _parsed(entry: Entry, words: list[str], override: Override, place: str) -> Any:
    """Parse ``entry`` and the options for it as the command line parses one object."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--entry", type=KINDS[place])
    try:
        found = parser.parse_args([f"--entry={json.dumps(entry.content)}", *words])
    except argparse.ArgumentError as error:
        reason = explain(str(error)).replace("entry.init_args.", f"{place}.{override.path[0]}.")
        raise ConfigurationError(f"{override.origin}: {reason}") from error
    return yaml.safe_load(parser.dump(found, skip_none=False))["entry"]
