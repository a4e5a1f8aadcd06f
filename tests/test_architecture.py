"""Architecture rules, checked on the source: import directions, places of third-party imports, length of files."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*ROOT.glob("spikefit/**/*.py"), *ROOT.glob("callbacks/*.py")])
# Each layer may import the layers below it, and a package itself.
LAYERS = [
    {"spikefit.cli.commands"},
    {"spikefit.api"},
    {"spikefit.cli"},
    {"callbacks", "spikefit.distillation"},
    {"spikefit.module", "spikefit.cli.doctor"},
    {"spikefit.energy_penalty_hooks", "spikefit.cli.installed"},
    {"spikefit.cuda_graphs", "spikefit.deploy", "spikefit.nan_guard"},
    {"spikefit.program", "spikefit.nir"},
    {"spikefit.prune", "spikefit.data"},
    {"spikefit.quantize"},
    {"spikefit.networks"},
    {"spikefit.hardware", "spikefit.neurons"},
    {"spikefit.program.ir"},
    {"spikefit.program.stored_weights"},
    {"spikefit.functional"},
]
# Where a program begins: they import what they start when it is called.
ENTRIES = ("spikefit", "spikefit.__main__", "spikefit.cli")
EVERYWHERE = {
    "spikefit.atomic",
    "spikefit.locations",
    "spikefit.errors",
    "spikefit.input_kind",
    "spikefit.seeding",
    "spikefit.losses",
    "spikefit.cli.errors",
    "spikefit.cli.moved",
    "spikefit.cli.run_directory",
    "spikefit.checkpoints",
    "spikefit.checkpoint_io",
    "spikefit.resume",
    "spikefit.finite",
    "spikefit.preflight",
    "spikefit.optim",
    "spikefit.strict_yaml",
}
# Parts of the LightningModule in files of their own.
LIGHTNING = ("spikefit.checkpoint_io", "spikefit.resume", "spikefit.nan_guard")
# Imported where they are used, never at the top of a module.
LAZY = {"tonic", "torchvision", "wandb", "sklearn", "h5py"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Names of modules that ``nodes`` import, and of what they import from these."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


# By module: its name, everything that it imports, and what it imports at the top.
MODULES = [
    (module_name(path), imported(ast.walk(tree)), imported(tree.body))
    for path in SOURCES
    for tree in [ast.parse(path.read_text())]
]


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def place(name: str) -> tuple[int, str] | None:
    """Position in LAYERS of the layer of ``name``, and its innermost package there."""
    found = [(i, package) for i, layer in enumerate(LAYERS) for package in layer if within(name, package)]
    return max(found, key=lambda entry: len(entry[1]), default=None)


def wrong_arrows(name: str, imports: set[str]) -> Iterator[str]:
    own = place(name)
    if name in ENTRIES:
        return
    if own is None:
        if not any(within(name, package) for package in EVERYWHERE):
            yield f"{name} has no place in LAYERS"
        return
    for other in sorted(imports):
        theirs = place(other)
        if theirs is not None and theirs[0] < own[0]:
            yield f"{name} imports {other}, which is above it"
        elif theirs is not None and theirs[0] == own[0] and theirs[1] != own[1]:
            yield f"{name} imports {other}, which is next to it"


def wrong_libraries(name: str, imports: set[str], eager: set[str]) -> Iterator[str]:
    roots = {other.split(".")[0] for other in imports}
    if "lightning" in roots and not name.startswith(
        ("spikefit.cli", "spikefit.api", "spikefit.module", "spikefit.data.datamodule", "callbacks", *LIGHTNING)
    ):
        yield f"{name} imports lightning"
    if "tonic" in roots and not within(name, "spikefit.data.events"):
        yield f"{name} imports tonic"
    for library in sorted({other.split(".")[0] for other in eager} & LAZY):
        yield f"{name} imports {library} at the top, not where it is used"


def refuse(offenders: Iterable[str]) -> None:
    """Fail with one offender per line."""
    found = sorted(offenders)
    assert not found, "\n".join(["", *found])


def test_there_is_something_to_check():
    names = {name for name, _, _ in MODULES}
    assert {"spikefit", "spikefit.functional.lif", "callbacks.base"} <= names
    assert all(any(within(name, package) for name in names) for layer in LAYERS for package in layer)


def test_arrows_point_down():
    refuse(line for name, imports, _ in MODULES for line in wrong_arrows(name, imports))


def test_imports_are_absolute():
    refuse(name for name, imports, _ in MODULES if any(other.startswith(".") for other in imports))


def test_libraries_are_imported_only_where_allowed():
    refuse(line for module in MODULES for line in wrong_libraries(*module))


def test_files_stay_short():
    lengths = {path: len(path.read_text().splitlines()) for path in [*SOURCES, *ROOT.glob("tests/**/*.py")]}
    refuse(f"{path.relative_to(ROOT)}: {lines} lines" for path, lines in lengths.items() if lines > 410)


def test_importing_spikefit_loads_nothing_heavy():
    heavy = ("torch", "tonic", "wandb", "lightning", "numpy")
    code = f"import sys, spikefit; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"


@pytest.mark.parametrize("command", ["chips", "chips loihi", "doctor", "--help", "deploy --help", "--version"])
def test_commands_that_compute_nothing_load_nothing_heavy(command):
    """Torch alone takes longer than such a command may."""
    heavy = ("torch", "tonic", "wandb", "lightning", "numpy", "jsonargparse", "matplotlib")
    code = (
        "import contextlib, io, sys; from spikefit.cli import main\n"
        f"with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main({command.split()})\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"


def test_the_command_line_does_not_import_data_libraries_or_wandb():
    """Lightning itself imports torchvision through torchmetrics; spikefit must not import the others."""
    code = (
        "import sys, spikefit.cli.lightning_cli; print([n for n in ('tonic', 'wandb', 'sklearn') if n in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"


def test_no_shipped_text_names_a_machine_or_a_registry():
    shipped = [*SOURCES, *ROOT.glob("configs/**/*.yaml"), *ROOT.glob("*.md"), ROOT / "pyproject.toml"]
    words = ("/work/", "/home/", "/root/", "pypi.org", "pythonhosted")
    refuse(f"{path}: {word}" for path in shipped for word in words if word in path.read_text())
