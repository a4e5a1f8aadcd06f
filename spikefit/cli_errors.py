"""Make jsonargparse's errors fit on a screen and say what would be allowed."""

import difflib
import importlib
import inspect
import re

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


def explain(message: str) -> str:
    """``message`` without repetitions and dumps, followed by what is allowed where that can be found out."""
    lines: list[str] = []
    for line in message.splitlines():
        text = _TYPE.sub("", _TAIL.sub("", line)).rstrip()
        stripped = text.strip()
        if stripped and not stripped.startswith(_NOISE) and stripped not in [seen.strip() for seen in lines]:
            lines.append(text[:300])
    return "\n".join([*lines, *_allowed(message)])


def _allowed(message: str) -> list[str]:
    hints = []
    missing = re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message)
    if missing:
        names = _public_classes(missing[1])
        if names:
            hints.append(_hint(missing[2], names, f"{missing[1]} has"))
    unknown = re.search(r"Option '([\w.]+)' is not accepted.*?class_path='([\w.]+)'", message, re.DOTALL)
    if unknown is None:
        unknown = re.search(r"[Kk]ey '([\w.]+)' is not expected.*?class_path='([\w.]+)'", message, re.DOTALL)
    if unknown:
        options = _options(unknown[2])
        if options:
            hints.append(_hint(unknown[1], options, f"{unknown[2]} accepts"))
    return hints


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
