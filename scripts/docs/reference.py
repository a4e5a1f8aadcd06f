"""The generated pages of the documentation: every public class, every command, and every figure of every chip."""

import argparse
import ast
import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.docs.results import markdown
from spikefit.api.chips import chips
from spikefit.cli import commands
from spikefit.cli.commands.chips import figure, summary
from spikefit.hardware.target import HardwareTarget

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Page:
    """A page of the reference.

    Attributes:
        title: heading.
        intro: text above the classes.
        modules: modules whose public names are listed, in this order.
    """

    title: str
    intro: str
    modules: tuple[str, ...]


OPTIONS = "The arguments of a class are the options that stand in `init_args` of its `class_path` in YAML."
PAGES = {
    "callbacks": Page("Callbacks", OPTIONS, ("callbacks",)),
    "networks": Page("Networks and neurons", OPTIONS, ("spikefit.networks", "spikefit.neurons", "spikefit.nir")),
    "quantizers": Page("Quantizers", OPTIONS, ("spikefit.quantize",)),
    "scores": Page("Scores and pruning", OPTIONS, ("spikefit.prune", "spikefit.deploy.unit_cost")),
    "data": Page(
        "Data",
        OPTIONS,
        (
            *("spikefit.data", "spikefit.data.images", "spikefit.data.events", "spikefit.data.events.framing"),
            *("spikefit.data.augment", "spikefit.input_kind"),
        ),
    ),
    "module": Page(
        "Module, losses, schedules",
        OPTIONS,
        ("spikefit.module", "spikefit.losses", "spikefit.distillation", "spikefit.optim"),
    ),
    "python": Page("Python", "The public functions of `spikefit`, and the report that they give.", ("spikefit",)),
}


def public_names(module: str) -> list[str]:
    """Dotted names of the public classes and functions of ``module``.

    They are those of ``__all__``, or without it all public classes that the module defines.
    """
    if module == "spikefit":  # its names are loaded lazily
        homes = ast.literal_eval(_assigned("spikefit", "_HOMES")) | {"deploy": "spikefit.api.deploy"}
        return [f"{home}.{name}" for name, home in sorted(homes.items(), key=lambda entry: entry[0].lower())]
    tree = _tree(module)
    listed = _assignment(tree, "__all__")
    if listed is not None:
        return [f"{module}.{name}" for name in sorted(ast.literal_eval(listed), key=str.lower)]
    return [f"{module}.{node.name}" for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_"]


def classes(page: Page) -> str:
    """A page of the reference, for mkdocstrings."""
    lines = [f"# {page.title}", page.intro]
    for module in page.modules:
        if len(page.modules) > 1:
            lines.append(f"**`{module}`**")
        lines += [f"::: {name}" for name in public_names(module)]
    return "\n\n".join(lines) + "\n"


def command_page() -> str:
    """The help of every command that does not train."""
    lines = [
        "# Command line",
        "`lightning` and `spikefit` are the same program. The options of `fit`, `validate`, `test` and `predict` are "
        "those of the classes in this reference, and of Lightning's `Trainer`; `spikefit fit --help` lists them.",
        f"```text\n{commands.overview()}\n```",
    ]
    for name in commands.COMMANDS:
        module = importlib.import_module(f"spikefit.cli.commands.{name}")
        parser = commands.Parser(
            prog=f"spikefit {name}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(parser)
        lines += [f"## spikefit {name}", f"```text\n{parser.format_help().rstrip()}\n```"]
    return "\n\n".join(lines) + "\n"


def chip_page() -> str:
    """All chips, and each figure with its source and confidence."""
    known = chips()
    lines = [
        "# Chips",
        "Generated from `configs/hardware`. No figure was measured on a chip by us. *Unknown* figures are those "
        "that nobody published; they are reported as unknown, never as zero. *Recalled* figures were written from "
        "memory and have not been verified. `spikefit chips NAME` prints the same table.",
        table([summary(chip) for chip in known]),
    ]
    for chip in known:
        lines += [f"## {chip.name}", f"{chip.description}.".replace("..", "."), table(list(_figures(chip)))]
    return "\n\n".join(lines) + "\n"


def table(rows: Sequence[dict[str, str]]) -> str:
    """A Markdown table of ``rows`` with the same keys.

    Example:
        >>> print(table([{"a": "1", "b": "x"}]))
        | a | b |
        |---|---|
        | 1 | x |
    """
    return markdown(list(rows[0]), ([cell.replace("|", "\\|") for cell in row.values()] for row in rows))


def pages() -> dict[str, str]:
    """The generated pages by path below ``docs``."""
    written = {f"reference/{name}.md": classes(page) for name, page in PAGES.items()}
    return written | {"reference/commands.md": command_page(), "reference/chips.md": chip_page()}


def _figures(chip: HardwareTarget) -> Iterator[dict[str, str]]:
    for name, value in chip.sourced_values():
        yield {key: f"`{cell}`" if key == "figure" else cell for key, cell in figure(name, value).items()}


def _tree(module: str) -> ast.Module:
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def _assignment(tree: ast.Module, name: str) -> ast.expr | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets):
            return node.value
    return None


def _assigned(module: str, name: str) -> ast.expr:
    value = _assignment(_tree(module), name)
    assert value is not None, f"{module} assigns no {name}"
    return value
