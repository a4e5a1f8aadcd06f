"""The check before training, against that of FitToHardware and of deployment."""

import shutil
from pathlib import Path

import pytest
import torch

import spikefit
from spikefit.api.check import check_on
from spikefit.deploy.fitting import findings_on
from spikefit.errors import ConfigurationError, TargetError
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.module import SpikingClassifier
from spikefit.networks import MLP, ConvSNN
from spikefit.neurons import IF, LIF
from spikefit.quantize import Codebook

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
QUICKSTART = CONFIGS / "quickstart.yaml"


def module(network=None, quantizer=None, **options):
    torch.manual_seed(0)
    network = network or (lambda shape, classes: ConvSNN(shape, classes, (6, 8), (10,)))
    given = {"input_kind": "spikes", "time_steps": 4, **options}
    return SpikingClassifier(network, (1, 8, 8), 4, quantizer, **given)


def test_its_findings_are_those_of_lowering_check_and_placement():
    checked = module(quantizer=lambda weight: Codebook(weight, levels=4, bits=8))
    for name in ("loihi", "tianjic", "generic"):
        target = HardwareTarget.load(name)
        expected = findings_on(checked.network, DeploymentContext(target, 4, InputKind.SPIKES))
        found = spikefit.check(checked, name)
        assert sorted(map(str, found.findings)) == sorted(map(str, expected))
        assert found.fits == (not expected)


def test_a_network_that_will_have_biases_is_refused_before_training():
    """Norms have zero biases before training; one register of TrueNorth holds either a bias or a leak."""

    def network(shape, classes):
        from spikefit.neurons import LinearLeakIF

        return MLP(shape, classes, (8,), neuron=lambda units: LinearLeakIF(units), readout="spikes")

    found = spikefit.check(module(network), "truenorth")
    assert "bias and leak in one register" in [finding.limit for finding in found.findings]
    assert found.remedy.startswith("it needs another network: ")


def test_the_remedy_is_fit_to_hardware_where_that_helps():
    """Tianjic's cores have 256 inputs, so units must go; and FitToHardware narrows 32-bit weights to codebooks."""
    wide = module(lambda shape, classes: MLP(shape, classes, (300,), neuron=lambda units: LIF(units, reset="zero")))
    found = spikefit.check(wide, "tianjic")
    assert not found.fits
    assert (
        found.remedy
        == "the callback FitToHardware makes it fit: it replaces the quantizers of fc1, readout and prunes units"
    )
    assert str(found).splitlines()[0] == f"tianjic: does not fit; {found.remedy}"


def test_quantizers_are_replaced_on_a_copy():
    """TrueNorth's neurons have four values; the check tries other quantizers and leaves the network as it is."""

    def network(shape, classes):
        return MLP(shape, classes, (300,), neuron=lambda units: IF(units), norm="gain", readout="spikes")

    checked = module(network)
    before = {name: tensor.clone() for name, tensor in checked.state_dict().items()}
    found = check_on(checked, HardwareTarget.load("truenorth"), untrained=True)
    assert "replaces the quantizers of fc1, readout" in found.remedy
    assert before.keys() == checked.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in checked.state_dict().items())


def test_a_configuration_is_checked_without_data_runs_or_random_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    found = spikefit.check(QUICKSTART)
    assert torch.equal(torch.rand(1), expected)
    assert (found.chip, found.fits, found.neurons) == ("loihi", True, 24 * 64 + 48 * 16 + 64 + 10)
    assert not list(tmp_path.iterdir()), "no run was started"


def test_a_chip_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (CONFIGS / "hardware" / "loihi.yaml").read_text().replace("cores: {value: 128", "cores: {value: 2")
    Path("small.yaml").write_text(text)
    found = spikefit.check(QUICKSTART, "small.yaml")
    assert (found.chip, [finding.limit for finding in found.findings]) == ("small", ["cores"])


def test_mistakes_are_explained(tmp_path):
    with pytest.raises(TargetError, match=r"Did you mean loihi\?"):
        spikefit.check(module(), "lohi")
    with pytest.raises(ConfigurationError, match="no chip is named"):
        spikefit.check(module())
    broken = tmp_path / "broken.yaml"
    broken.write_text("include: nowhere.yaml")
    with pytest.raises(ConfigurationError, match=r"no file nowhere\.yaml"):
        spikefit.check(broken, "loihi")
    shutil.copy(QUICKSTART, broken)
    assert spikefit.check(broken, "loihi").fits, "what it includes is found among the shipped configurations"
    with pytest.raises(ConfigurationError, match=r"no file quickstat.*Did you mean quickstart\?"):
        spikefit.check("quickstat", "loihi")
    broken.write_text("trainer: {max_epoch: 3}")
    with pytest.raises(ConfigurationError, match="max_epoch"):
        spikefit.check(broken, "loihi")
