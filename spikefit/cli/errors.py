"""Shorten jsonargparse's error messages and add what is allowed."""

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spikefit.cli.moved import CHECKPOINT, OPTIONS, moved_classes
from spikefit.cli.own_folder import OWN_PACKAGES, hidden_module
from spikefit.cli.words import COMMANDS

_NOISE = (
    "Given value",
    "Subtypes:",
    "Errors:",
    "Does not validate against any of the Union subtypes",
    "Expected a path but",
    "Not a valid subclass of",
    "Subclass types expect",
    "a class path (str)",
    "a dict with class_path",
    "a dict without class_path",
    "a dict with parameters",
)
_KEY = re.compile(r'(Type collections\.abc\.Callable\[.*?\] expects a function or .*?: )?Parser key "([\w.+]+)":')
_CLASS = re.compile(r"Problem with given class_path '([\w.]+)':")
_TYPE = re.compile(r"Type collections\.abc\.Callable\[.*?\] expects a function or a callable class: ")
_EXPECTED = re.compile(r"Expected an? (<class '([\w.]+)'>|typing\.[\w.]+(\[.*\])?|(list|tuple|dict)\[.*\])\.?$")
_GOT = "Got value: "
_DUMP = ("Namespace(", "NestedArg(", "{'class_path'")
_REFUSED = re.compile(r"Problem with given class_path '([\w.]+)':\s+Option '([\w.]+)' is not accepted")
_UNEXPECTED = (
    re.compile(r"Option '([\w.]+)' is not accepted.*?class_path='([\w.]+)'", re.DOTALL),
    re.compile(r"[Kk]ey '([\w.]+)' is not expected.*?class_path='([\w.]+)'", re.DOTALL),
)
FIRST = "spikefit {} --config quickstart"
LISTS = ("trainer.callbacks", "trainer.logger")
SCHEDULE = ("start", "stop", "every", "interval")  # options of callbacks.Schedule


@dataclass
class _Problem:
    """What is wrong with one option."""

    lines: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    value: str | None = None
    class_path: str = ""


def explain(message: str, options: Iterable[str] = (), where: Callable[[str], str] = lambda option: "") -> str:
    """Rewrite a message of jsonargparse as one line an option, and append what is allowed where it can be determined.

    Args:
        message: the message.
        options: dotted names of the options of the command.
        where: gives the place of an option, to be put in front of what is wrong with it.

    Example:
        >>> explain('Parser key "trainer.max_epochs":\\n  Expected a <class \\'int\\'>. Got value: abc')
        "trainer.max_epochs: got 'abc', expected int."
    """
    missing = _missing(message)
    if missing:
        return missing
    problems, lines = _problems(message), []
    for option, problem in problems.items():
        sentences = _sentences(option, problem, problems)
        refused = re.search(r"(?:Group|Subcommand) '([\w.]+)' does not accept option '([\w.]+)'", message)
        unknown = re.match(r"Option '([\w.]+)' is not accepted$", message)
        group = f"{refused[1]}." if refused and refused[1] not in COMMANDS else ""
        key = f"{group}{refused[2]}" if refused else unknown[1] if unknown else option
        lines += [(where(key) if key else "") + line for line in sentences]
    return "\n".join(dict.fromkeys([*lines, *_allowed(message, list(options))]))


def _missing(message: str) -> str:
    """What to type if there is no command, no data or no model; empty for other messages."""
    if message.startswith('expected "subcommand"'):
        return f"no command; expected one of {', '.join(COMMANDS)}. To begin: {FIRST.format('fit')}"
    required = re.search(r"arguments are required: (\w+)\.(data|model)(?:, \w+\.(model))?$", message)
    if required is None:
        return ""
    parts = " and no ".join(part for part in required.groups()[1:] if part)
    return (
        f"{required[1]}: no {parts} in the configuration; expected files with them. To begin: "
        f"{FIRST.format(required[1])} or, from fragments, spikefit {required[1]} --config base --config data/digits "
        "--config model/conv_snn"
    )


def _problems(message: str) -> dict[str, _Problem]:
    """The problems of each option by its dotted name; the indentation of a line tells what it belongs to."""
    found: dict[str, _Problem] = {}
    parents: list[tuple[int, str]] = []
    for line in filter(str.strip, message.splitlines()):
        text = line.strip().removeprefix("- ")
        depth = len(line) - len(line.lstrip())
        while parents and parents[-1][0] >= depth:
            parents.pop()
        key = _KEY.match(text)
        if key:
            parents.append((depth, f"init_args.{key[2]}" if key[1] else key[2]))
            text = text[key.end() :].strip()
        chosen = _CLASS.match(text)
        if chosen:
            parents.append((depth, "init_args"))
        problem = found.setdefault(".".join(name for _, name in parents), _Problem())
        problem.class_path = chosen[1] if chosen else problem.class_path
        _note(problem, text)
    return found


def _note(problem: _Problem, text: str) -> None:
    """Add a line of jsonargparse to ``problem``."""
    given = text.removeprefix("Given value: ")
    if given != text:
        problem.value = problem.value or (None if given.startswith(_DUMP) else given)
        return
    text, *values = text.split(_GOT)
    for value in values:
        problem.value = problem.value or (None if value.startswith(_DUMP) else value.rstrip(" ."))
    text = _TYPE.sub("", text.rstrip(" ."))
    if not text or text.startswith(_NOISE) or _CLASS.match(text):
        return
    expected = _EXPECTED.match(text)
    if expected:
        problem.types.append(_type(expected[2] or expected[1]))
    else:
        problem.lines.append(text[:300])


def _type(name: str) -> str:
    """Name of a type for a message, in the words of YAML."""
    if name.startswith("typing.Literal"):
        return "one of " + name[name.index("[") + 1 : -1]
    plain = name.rpartition(".")[2] if "[" not in name else name
    return {"NoneType": "null", "Sequence": "a list", "Mapping": "a mapping", "dict": "a mapping"}.get(plain, plain)


def _sentences(option: str, problem: _Problem, problems: Mapping[str, _Problem]) -> list[str]:
    """The lines about one option; none about types if the problem is inside it."""
    name = _name(option.removesuffix(".init_args"), problems)
    prefix = f"{name}: " if name else ""
    if problem.class_path:
        prefix = f"{prefix}{problem.class_path}: "
    deeper = [found for other, found in problems.items() if option and other.startswith(f"{option}.")]
    inside = any(found.lines or found.types for found in deeper)
    types = list(dict.fromkeys(problem.types))
    lines = [
        f"{prefix}got options of it alone, expected its class too, such as {name.rpartition('.')[2]}=CLASS"
        if line.startswith("Expected an instantiatable class")
        else f"{prefix}{line}"
        for line in dict.fromkeys(problem.lines)
    ]
    if types and not inside and not (types == ["null"] and lines):
        types = [one for one in types if one != "null"] + [one for one in types if one == "null"]
        got = "" if problem.value is None else f"got {problem.value[:100]!r}, "
        lines.append(f"{prefix}{got}expected {' or '.join(types)}.")
    return lines


def _name(option: str, problems: Mapping[str, _Problem]) -> str:
    """Name of an option in a message; that of an object in a list has the object's class in it."""
    for objects in LISTS:
        start = f"{objects}.init_args"
        if option.startswith(f"{start}.") and start in problems:
            return f"{objects}: {problems[start].class_path}{option.removeprefix(start)}"
    return option


def _allowed(message: str, options: list[str]) -> list[str]:
    hints = moved_classes(message)
    if hints:
        return hints
    missing = re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message)
    if missing:
        names, own = public_classes(missing[1]), hidden_module(missing[1])
        if own is not None:
            hints.append(f"{own} has the name of a package of spikefit, which is used instead: rename it.")
        if names:
            hints.append(_hint(missing[2], names, f"{missing[1]} has"))
    lost = re.search(r"No module named '([\w.]+)'", message)
    if lost and lost[1].partition(".")[0] not in OWN_PACKAGES:
        hints.append(
            f"A module of your own is imported from the folder in which the command runs, now {Path.cwd()}, or from "
            "PYTHONPATH."
        )
    for given, class_path in dict.fromkeys(_unknown(message)):
        known = options_of(class_path)
        if known:
            hints.append(_moved(given, known) or _hint(given, known, f"{class_path} accepts"))
    for group, given in re.findall(r"(?:Group|Subcommand) '([\w.]+)' does not accept option '([\w.]+)'", message):
        inside = [name.removeprefix(f"{group}.") for name in options if name.startswith(f"{group}.")]
        inside = list(options) if group in COMMANDS else inside
        if group.rpartition(".")[2] == "schedule":
            hints.append(_hint(given, list(SCHEDULE), "schedule accepts"))
        elif inside:
            hints.append(_nearest(given, inside, "" if group in COMMANDS else f"{group}."))
    unknown = re.search(r"unrecognized arguments: --?([\w.+]+)", message)
    if unknown and unknown[1].startswith("schedule."):
        hints.append(_hint(unknown[1].partition(".")[2], list(SCHEDULE), "schedule accepts"))
    elif unknown and options:
        hints.append(_nearest(unknown[1], [*options, "config", "print_config", "help"], "--"))
    key = re.match(r"Option '([\w.]+)' is not accepted$", message)
    if key and options:
        groups = {name.partition(".")[0] for name in options}
        hints.append(_nearest(key[1], [*options, *groups], "") or _nearest(key[1].partition(".")[0], list(groups), ""))
    return [hint for hint in hints if hint]


def _nearest(given: str, allowed: list[str], prefix: str) -> str:
    close = difflib.get_close_matches(given, allowed, 1)
    last = [name for name in allowed if name.rpartition(".")[2] == given]  # trainer.max_epochs for max_epochs
    return f"Did you mean {prefix}{(close or last)[0]}?" if close or last else ""


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


def public_classes(module: str) -> list[str]:
    """Names of the public classes of a module, at most 40; none if it can't be imported."""
    try:
        found = importlib.import_module(module)
    except ImportError:
        return []
    public = getattr(found, "__all__", None)
    names = public or [name for name in dir(found) if getattr(getattr(found, name), "__module__", "") == module]
    return [name for name in names if inspect.isclass(getattr(found, name, None))][:40]


def options_of(class_path: str) -> list[str]:
    """Names of the arguments of a class; none if it can't be imported."""
    module, _, name = class_path.rpartition(".")
    try:
        signature = inspect.signature(getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError, TypeError, ValueError):
        return []
    return list(signature.parameters)
