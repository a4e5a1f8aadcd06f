"""Shorten jsonargparse's error messages and add what is allowed."""

import difflib
import importlib
import inspect
import re

from spikefit.cli.moved import CHECKPOINT, OPTIONS, moved_classes

_NOISE = (
    "Given value",
    "Subtypes:",
    "Errors:",
    "Does not validate against any of the Union subtypes",
    "- Does not validate against any of the Union subtypes",
    "- Expected a <class 'NoneType'>",
    "- Expected a path but",
)
_TAIL = re.compile(r"\.? Got value: (Namespace|NestedArg).*$")
_TYPE = re.compile(r"Type collections\.abc\.Callable\[.*?\] expects a function or a callable class: ")
_REFUSED = re.compile(r"Problem with given class_path '([\w.]+)':\s+Option '([\w.]+)' is not accepted")
_UNEXPECTED = (
    re.compile(r"Option '([\w.]+)' is not accepted.*?class_path='([\w.]+)'", re.DOTALL),
    re.compile(r"[Kk]ey '([\w.]+)' is not expected.*?class_path='([\w.]+)'", re.DOTALL),
)
SCHEDULE = ("start", "stop", "every", "interval")  # options of callbacks.Schedule


def explain(message: str) -> str:
    """Remove repetitions and dumps from ``message``, and append what is allowed where it can be determined."""
    lines: list[str] = []
    for line in message.splitlines():
        text = _TYPE.sub("", _TAIL.sub("", line)).rstrip()
        stripped = text.strip()
        if stripped and not stripped.startswith(_NOISE) and stripped not in [kept.strip() for kept in lines]:
            lines.append(text[:300])
    return "\n".join([*lines, *_allowed(message)])


def _allowed(message: str) -> list[str]:
    hints = moved_classes(message)
    if hints:
        return hints
    missing = re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message)
    if missing:
        names = _public_classes(missing[1])
        if names:
            hints.append(_hint(missing[2], names, f"{missing[1]} has"))
    for given, class_path in dict.fromkeys(_unknown(message)):
        options = _options(class_path)
        if options:
            hints.append(_moved(given, options) or _hint(given, options, f"{class_path} accepts"))
    group = re.search(r"Group 'schedule' does not accept option '(\w+)'", message)
    if group:
        hints.append(_hint(group[1], list(SCHEDULE), "schedule accepts"))
    return hints


def _unknown(message: str) -> list[tuple[str, str]]:
    """Pairs of an option that a class does not accept and the path of the class."""
    found = [(option, class_path) for class_path, option in _REFUSED.findall(message)]
    for pattern in _UNEXPECTED:
        match = pattern.search(message)
        if match and not found:
            found.append((match[1], match[2]))
    return found


def _moved(given: str, options: list[str]) -> str:
    """Hint for an option of an earlier version; empty for any other option."""
    if given in SCHEDULE and "schedule" in options:
        return f"{given}: is now schedule.{given}, in YAML such as schedule: {{start: 8, stop: 20}}."
    if given not in OPTIONS:
        return ""
    return f"{given}: {OPTIONS[given]}" + (f"\n{CHECKPOINT}" if given in ("handover", "gradient_scale") else "")


def _hint(given: str, allowed: list[str], prefix: str) -> str:
    close = difflib.get_close_matches(given, allowed, 1)
    question = f"Did you mean {close[0]}? " if close else ""
    return f"{question}{prefix} {', '.join(allowed)}."


def _public_classes(module: str) -> list[str]:
    try:
        found = importlib.import_module(module)
    except ImportError:
        return []
    public = getattr(found, "__all__", None)
    names = public or [name for name in dir(found) if getattr(getattr(found, name), "__module__", "") == module]
    return [name for name in names if inspect.isclass(getattr(found, name, None))][:40]


def _options(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    try:
        signature = inspect.signature(getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError, TypeError, ValueError):
        return []
    return list(signature.parameters)
