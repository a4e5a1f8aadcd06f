"""The line of a configuration file that sets an option."""

import yaml


def line_of(text: str, option: str, whole: bool = False) -> int | None:
    """Line of the key that sets ``option``, or of the last of its parents that the file has, counted from 1.

    Args:
        text: YAML with a mapping.
        option: dotted name; ``init_args`` may be missing in the file, and keys may end with ``+``.
        whole: whether the file must have the key itself.

    Returns:
        None if the file has not even the first key. In a list, the entry that has the key, if it is the only one.

    Example:
        >>> line_of("trainer:\\n  max_epochs: 3\\n", "trainer.max_epochs")
        2
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return None
    depth, line = _line(node, option.split("."))
    return None if whole and depth < len(option.split(".")) else line


def _line(node: yaml.Node | None, path: list[str]) -> tuple[int, int | None]:
    """How many parts of ``path`` were found below ``node``, and the line of the last of them."""
    if not path:
        return 0, None
    if isinstance(node, yaml.SequenceNode):
        found = sorted((_line(entry, path) for entry in node.value), key=lambda one: -one[0])
        best = [one for one in found if one[0] == found[0][0]]
        return best[0] if len(best) == 1 else (0, None)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value.rstrip("+") == path[0]:
                depth, line = _line(value, path[1:])
                return depth + 1, line or key.start_mark.line + 1
        if path[0] == "init_args":
            return _line(node, path[1:])
    return 0, None
