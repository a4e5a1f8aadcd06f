"""FitToHardware with quantizers of a module outside of the project: kept, chosen as replacement, stored, refused."""

from pathlib import Path

import pytest
import torch
from helpers.compression_cases import SMALL_CHIP
from helpers.tiny_fit import fit, module

from callbacks import CodebookReclustering, FitToHardware
from callbacks.schedule import Schedule
from spikefit.deploy.fitting import findings_on, suited_quantizers
from spikefit.errors import ConfigurationError
from spikefit.hardware.target import HardwareTarget
from spikefit.module import SpikingClassifier
from spikefit.networks import MLP, ConvSNN
from spikefit.quantize import Codebook, Quantizer, Ternary, Uniform
from spikefit.quantize.base import attach
from spikefit.quantize.described import described

SIGNS = '''
import torch

from spikefit.quantize.base import IntegerWeights, on_grid
from spikefit.quantize.weight_derived import WeightDerived


class Signs(WeightDerived):
    """-a or a, where a is the mean magnitude."""

    levels = 2

    def __init__(self, weight, factor=1.0):
        super().__init__(weight)
        self.factor = factor
        self.register_buffer("size", torch.ones(()))
        self.refit(weight)

    @classmethod
    def options_for(cls, levels, bits):
        return {"factor": 0.5}

    def follow(self, weight):
        self.size.copy_(self.factor * weight.abs().mean())

    def nearest(self, weight):
        return torch.where(weight < 0, -self.size, self.size)

    def integers(self, weight):
        scale = self.size.double().reshape([1] * weight.dim())
        return IntegerWeights(on_grid(torch.where(weight < 0, -1, 1), -1, 1, 2), scale, 2)
'''


@pytest.fixture
def signs(tmp_path, monkeypatch):
    """The class, in a module of its own."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "own_signs.py").write_text(SIGNS)
    monkeypatch.syspath_prepend(folder)
    import sys

    monkeypatch.delitem(sys.modules, "own_signs", raising=False)
    import own_signs

    return own_signs.Signs


def network(shape, classes):
    return ConvSNN(shape, classes, (4,), (8,))


def quantised(kind, *options):
    net = MLP((16,), 3, hidden=(8,))
    if kind is not None:
        for _, layer in net.named_synapses():
            attach(layer, kind(layer.weight.detach(), *options))
    return net


def test_an_own_quantizer_replaces_what_the_chip_lacks_and_survives_a_checkpoint(tmp_path, signs):
    torch.manual_seed(0)
    model = SpikingClassifier(network, (1, 8, 8), 2, hardware=SMALL_CHIP)
    callbacks = [FitToHardware(Schedule(1, 2), quantizer=signs), CodebookReclustering(Schedule(1))]
    trainer, model = fit(tmp_path, callbacks, model)
    assert {type(quantizer) for _, _, quantizer in model.quantized_layers()} == {signs}
    assert {quantizer.factor for _, _, quantizer in model.quantized_layers()} == {0.5}
    assert findings_on(model.network, model.context) == []
    trainer.save_checkpoint(tmp_path / "fitted.ckpt")
    again = SpikingClassifier.load_from_checkpoint(tmp_path / "fitted.ckpt", network=network, weights_only=True)
    x = torch.rand(4, 2, 1, 8, 8)
    assert torch.equal(again.eval()(x), model.eval()(x))


def test_an_own_quantizer_that_the_chip_can_store_is_kept(signs):
    for target in ("loihi", "truenorth", SMALL_CHIP):
        assert suited_quantizers(quantised(signs), HardwareTarget.load(target)) == {}


CASES = [(Ternary, (), True), (Uniform, (2,), True), (Uniform, (3,), False)]


@pytest.mark.parametrize(("kind", "options", "kept"), CASES)
def test_a_quantizer_is_kept_by_its_number_of_values(kind, options, kept):
    """The chip has four values, and each of these three at most 4, 4 and 8."""
    found = suited_quantizers(quantised(kind, *options), HardwareTarget.load(SMALL_CHIP))
    assert (found == {}) == kept


@pytest.mark.parametrize(("kind", "expected"), [(Codebook, {"levels": 4, "bits": 8}), (Uniform, {"bits": 2})])
def test_a_shipped_class_may_be_the_replacement(kind, expected):
    found = suited_quantizers(quantised(None), HardwareTarget.load(SMALL_CHIP), kind)
    assert found == {name: {"class": kind.__name__, **expected} for name in ("fc1", "readout")}


def test_too_many_values_or_bits_name_the_class_the_layer_and_what_the_chip_stores(signs, monkeypatch):
    monkeypatch.setattr(signs, "levels", None)
    monkeypatch.setattr(signs, "integers", lambda self, weight: Uniform(weight, 8).integers(weight))
    with pytest.raises(ConfigurationError, match=r"got Signs, .* layer fc1 up to 256 values.*stores .*4 values"):
        suited_quantizers(quantised(None), HardwareTarget.load(SMALL_CHIP), signs)


def test_a_class_that_no_checkpoint_could_name_is_refused_when_it_is_given():
    class Local(Ternary):
        pass

    with pytest.raises(ConfigurationError, match=r"quantizer: got .*Local, which can't be imported by this path"):
        FitToHardware(quantizer=Local)
    with pytest.raises(ConfigurationError, match=r"quantizer: got <class 'dict'>, expected a subclass of"):
        FitToHardware(quantizer=dict)


@pytest.mark.parametrize("name", ["Missing", "nowhere.Missing", "pathlib.Path"])
def test_a_checkpoint_whose_quantizer_is_gone_names_it(name):
    with pytest.raises(ConfigurationError, match=rf"quantizer: got '{name}', expected .* in the working directory"):
        module().replace_quantizers({"fc1": {"class": name}})


def test_options_that_the_class_refuses_are_named(signs):
    assert described(signs, {}) == {"class": "own_signs.Signs"}
    with pytest.raises(ConfigurationError, match=r"own_signs\.Signs refuses \{'colour': 1\}"):
        module().replace_quantizers({"fc1": {"class": "own_signs.Signs", "colour": 1}})


def test_the_option_is_a_class_path_on_the_command_line(signs):
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(FitToHardware, "fit")
    built = parser.instantiate_classes(parser.parse_args(["--fit.quantizer=own_signs.Signs"])).fit
    assert built.quantizer is signs
    assert issubclass(built.quantizer, Quantizer)
    assert Path(SMALL_CHIP).exists()
