"""The house rules, read off the source: arrows point down, libraries stay in their rooms, files stay short."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*ROOT.glob("spikefit/**/*.py"), *ROOT.glob("callbacks/*.py")])
# Each may import the ones below it (and its own).
LAYERS = [
    {"spikefit.cli"},
    {"callbacks", "spikefit.distillation"},
    {"spikefit.module", "spikefit.doctor"},
    {"spikefit.captured"},
    {"spikefit.deploy"},
    {"spikefit.prune", "spikefit.data"},
    {"spikefit.quantize"},
    {"spikefit.networks"},
    {"spikefit.hardware", "spikefit.neurons"},
    {"spikefit.functional"},
]
EVERYWHERE = {
    "spikefit.errors",
    "spikefit.inputs",
    "spikefit.seeding",
    "spikefit.losses",
    "spikefit.cli_errors",
    "spikefit.run_directory",
    "spikefit.checkpoints",
    "spikefit.preflight",
    "spikefit.schedules",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def level(name: str) -> int | None:
    for position, rooms in enumerate(LAYERS):
        if any(name == room or name.startswith(f"{room}.") for room in rooms):
            return position
    return None


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_arrows_point_down(path):
    own = level(module_name(path))
    if own is None:
        assert module_name(path) in EVERYWHERE | {"spikefit"}, "a new module needs a place in LAYERS"
        return
    for name in imports(path):
        other = level(name)
        if other is None or other > own:
            continue
        room = next(
            room for room in LAYERS[own] if module_name(path) == room or module_name(path).startswith(f"{room}.")
        )
        assert other == own, f"{module_name(path)} imports {name}, which is above it"
        assert name == room or name.startswith(f"{room}."), f"{module_name(path)} imports {name}, which is beside it"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_libraries_stay_in_their_rooms(path):
    name = module_name(path)
    roots = {imported.split(".")[0] for imported in imports(path)}
    if "lightning" in roots:
        assert name.startswith(("spikefit.cli", "spikefit.module", "spikefit.data.datamodule", "callbacks"))
    if "tonic" in roots:
        assert name == "spikefit.data.events" or name.startswith("spikefit.data.events_")
    top = ast.parse(path.read_text()).body
    eager = {alias.name.split(".")[0] for node in top if isinstance(node, ast.Import) for alias in node.names} | {
        (node.module or "").split(".")[0] for node in top if isinstance(node, ast.ImportFrom)
    }
    assert not eager & {"tonic", "torchvision", "wandb", "sklearn", "h5py"}, (
        "imported where they are used, not at the top"
    )


@pytest.mark.parametrize("path", [*SOURCES, *sorted(ROOT.glob("tests/**/*.py"))], ids=lambda path: path.name)
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 410


def test_importing_spikefit_loads_nothing_heavy():
    heavy = ("torch", "tonic", "wandb", "lightning", "numpy")
    code = f"import sys, spikefit; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"


def test_the_command_line_does_not_import_data_libraries_or_wandb():
    """Lightning itself imports torchvision through torchmetrics; the others are ours to keep away."""
    code = "import sys, spikefit.cli; print([n for n in ('tonic', 'wandb', 'sklearn') if n in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"


def test_no_shipped_text_names_a_machine_or_a_registry():
    for path in [*SOURCES, *ROOT.glob("configs/**/*.yaml"), ROOT / "README.md", ROOT / "pyproject.toml"]:
        text = path.read_text()
        for words in ("/work/", "/home/", "/root/", "pypi.org", "pythonhosted"):
            assert words not in text, f"{path}: {words}"
