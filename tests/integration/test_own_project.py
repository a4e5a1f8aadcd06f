"""examples/own_project: every part is short, all of them are trained and deployed, and reload in another process."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from helpers.custom_neurons import forgotten

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "examples" / "own_project"
QUICK = ("--trainer.enable_progress_bar=false", "--trainer.max_epochs=3")


@pytest.fixture
def project(run, tmp_path, monkeypatch):
    """A copy of the folder with its data, as working directory; its modules and neurons are forgotten afterwards."""
    folder = tmp_path / "examples" / "own_project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__", "runs", "recordings", "*.npz"))
    for name in [name for name in sys.modules if name.startswith("own_")]:  # of another project
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    with forgotten():
        yield folder
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def test_every_part_is_short_and_says_what_it_is():
    files = sorted(path for path in PROJECT.iterdir() if path.suffix in (".py", ".yaml"))
    assert len(files) >= 10
    for path in files:
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        assert len(lines) < 35 if path.name == "config.yaml" else len(lines) < 30, path
        assert lines[0].startswith(('"""', "# ")), path


def test_the_readme_names_every_part():
    text = (PROJECT / "README.md").read_text()
    assert all(path.name in text for path in PROJECT.glob("*.*") if path.suffix in (".py", ".yaml"))


@pytest.mark.parametrize("name", ["config", "recordings"])
def test_all_parts_are_trained_and_deployed(run, project, name):
    """In three epochs instead of twelve: the schedules are moved to the first one."""
    runpy.run_path("make_data.py")
    text = Path("config.yaml").read_text()
    for last, earlier in ((5, 0), (6, 1), (7, 2)):
        assert f"stop: {last}}}" in text
        text = text.replace(f"stop: {last}}}", f"stop: {earlier}}}").replace(f"start: {last}", f"start: {earlier}")
    Path("config.yaml").write_text(text)
    status, printed = run("fit", "--config", f"{name}.yaml", *QUICK)
    assert status == 0, printed
    (folder,) = Path("runs").glob("own_*/version_0")
    stored = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert stored["spikefit"]["quantizers"] == {"readout": {"class": "own_quantizer.PowersOfTwo"}}
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["model"]["init_args"]["layer_quantizers"] == {"readout": None}
    report = json.loads((folder / "deployment" / "report.json").read_text())
    assert report["target"] == "own_chip"
    assert report["fits"]
    assert report["parity"]["mismatches"] == 0
    assert report["samples"] == 20
    assert report["units_alive"] == 6
    before = report["accuracy_deployed"]
    if name == "config":
        for module in [module for module in sys.modules if module.startswith("own_")]:
            del sys.modules[module]
        import spikefit

        assert spikefit.deploy(folder).accuracy_deployed == before


@pytest.mark.parametrize("target", ["own_chip.yaml", "generic"])
def test_the_check_knows_the_own_neuron(run, project, target):
    status, printed = run("check", "--config", "config.yaml", "--hardware", target)
    assert status in (0, 1)
    assert ("floor_if" in printed or "FloorIF" in printed) == (target == "generic"), printed


def test_the_neuron_s_step_repeats_its_class(project):
    import own_neuron

    from spikefit.functional.neuron_models import StepConstants

    torch.manual_seed(0)
    neuron, current = own_neuron.FloorIF(3), torch.randn(20, 5, 3)
    constants = StepConstants(torch.tensor(1.0), torch.tensor(0.0), own={"floor": torch.tensor(neuron.floor)})
    state, spikes = torch.zeros(5, 3), []
    for arriving in current:
        stepped = own_neuron.step(state, arriving, constants)
        state = stepped.state
        spikes.append(stepped.spikes)
    assert torch.equal(torch.stack(spikes).float(), neuron(current))
