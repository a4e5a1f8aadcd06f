"""Print the first line of every public docstring as one list, for proofreading.

    python -m scripts.docstrings spikefit callbacks

Each line has the file, the name (none for a module) and the first line of the docstring.
"""

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path

Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def first_lines(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield name and first docstring line of a module (named ``""``) and its public classes, methods and functions."""
    yield "", (ast.get_docstring(tree) or "").partition("\n")[0]
    stack: list[tuple[str, ast.stmt]] = [("", node) for node in reversed(tree.body)]
    while stack:
        prefix, node = stack.pop()
        if not isinstance(node, Documented) or node.name.startswith("_"):
            continue
        yield prefix + node.name, (ast.get_docstring(node) or "").partition("\n")[0]
        if isinstance(node, ast.ClassDef):
            stack += [(f"{prefix}{node.name}.", child) for child in reversed(node.body)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+", help="files, or folders with Python files")
    paths = parser.parse_args().paths
    for path in paths:
        if not path.exists():
            parser.error(f"no file or folder {path}")
    for path in paths:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            for name, line in first_lines(ast.parse(file.read_text())):
                print(f"{file}: {name}: {line}" if name else f"{file}: {line}")


if __name__ == "__main__":
    main()
