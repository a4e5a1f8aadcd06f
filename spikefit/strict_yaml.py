"""Reading of YAML files: UTF-8 text in which no key occurs twice in one mapping."""

from pathlib import Path
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def require_unique_keys(text: str) -> str:
    """Return ``text`` unless a mapping has a key twice; plain YAML keeps the last value and drops the others.

    Raises:
        yaml.YAMLError: for a key that occurs twice, with both lines, and for text that is no YAML.

    Example:
        >>> require_unique_keys("a: 1\\nb: 2")
        'a: 1\\nb: 2'
        >>> require_unique_keys("a: 1\\na: 2")
        Traceback (most recent call last):
        yaml.error.YAMLError: key 'a' occurs twice, in lines 1 and 2; expected each key once
    """
    pending, seen = [yaml.compose(text, Loader=_LOADER)], set()
    while pending:
        node = pending.pop()
        if id(node) in seen:  # an alias, which may lead back to its own anchor
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending += node.value
        elif isinstance(node, yaml.MappingNode):
            lines: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                pending += [key, value]
                if isinstance(key, yaml.ScalarNode):
                    name, line = (key.tag, key.value), key.start_mark.line + 1
                    if name in lines:
                        where = f"lines {lines[name]} and {line}" if line != lines[name] else f"line {line}"
                        raise yaml.YAMLError(f"key {key.value!r} occurs twice, in {where}; expected each key once")
                    lines[name] = line
    return text


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        OSError: if the file can't be read.
        UnicodeDecodeError: if it is not UTF-8.
        yaml.YAMLError: if it is no YAML, or a key occurs twice in a mapping.
    """
    return yaml.safe_load(require_unique_keys(path.read_text(encoding="utf-8")))
