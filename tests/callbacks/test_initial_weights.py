"""InitialWeights: runs that start from the weights of another run."""

from functools import partial
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from helpers.tiny_fit import fit, module

from callbacks import CodebookReclustering, InitialWeights, PostTrainingQuantization
from spikefit.errors import CheckpointError
from spikefit.module import SpikingClassifier
from spikefit.networks import ConvSNN
from spikefit.preflight import Preflight
from spikefit.prune.groups import live_synapses
from spikefit.quantize import Codebook, PostTraining, Ternary, Uniform
from spikefit.quantize.base import latent_weight

START = SimpleNamespace(ckpt_path=None, callbacks=[], global_step=0)


def before_training(model):
    return Preflight(model, None, "fit", START, False)


def trained(quantizer, seed=3, **options):
    """A network whose every tensor differs from a fresh one's."""
    model = module(quantizer, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.network.state_dict().values():
            if tensor.is_floating_point() and tensor.dim():
                tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.3)
    return model


def save(model, tmp_path):
    path = tmp_path / "start.ckpt"
    torch.save({"state_dict": model.state_dict()}, path)
    return str(path)


def start(model, path, trainer=START, **options):
    callback = InitialWeights(path, **options)
    callback.on_fit_start(trainer, model)
    return callback


def shared(model):
    """What a network has whatever its quantizers: latent weights by layer, and the tensors of norms and neurons."""
    weights = {name: latent_weight(layer) for name, layer in model.network.named_synapses()}
    others = {name: t for name, t in model.network.state_dict().items() if ".norm." in name or ".neuron." in name}
    return {name: tensor.clone() for name, tensor in {**weights, **others}.items()}


@pytest.mark.parametrize("source", [None, Codebook, Uniform])
@pytest.mark.parametrize("target", [None, Codebook, Uniform])
def test_weights_norms_and_masks_arrive_whatever_the_quantizers(tmp_path, source, target):
    other = trained(source)
    other.network.block("conv1").neuron.alive[2] = False
    model = module(target)
    before = shared(model)
    start(model, save(other, tmp_path))
    after, expected = shared(model), shared(other)
    assert after.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(after[name], tensor), name
    assert any(not torch.equal(after[name], before[name]) for name in after)
    assert not model.network.block("conv1").neuron.alive[2]


def test_quantizers_are_fitted_to_the_live_weights_that_came(tmp_path):
    other = trained(None)
    other.network.block("conv1").neuron.alive[:3] = False
    model = module(Codebook)
    start(model, save(other, tmp_path))
    for name, layer, quantizer in model.quantized_layers():
        weight = latent_weight(layer).detach()
        fresh = Codebook(weight)
        fresh.refit(weight, live_synapses(other.network, name))
        assert torch.equal(quantizer.codebook, fresh.codebook)
        assert torch.equal(quantizer.scale, fresh.scale)
    first = latent_weight(model.network.block("conv1").synapses).detach()
    assert not torch.equal(next(model.quantized_layers())[2].codebook, Codebook(first).codebook), "the dead had no say"


def test_a_mask_of_single_synapses_comes_along(tmp_path):
    other = trained(Codebook, prunable_synapses=True)
    other.network.block("conv2").synapses.parametrizations.weight[1].live[0, 1] = False
    path = save(other, tmp_path)
    model = module(Uniform, prunable_synapses=True)
    start(model, path)
    assert not model.network.block("conv2").synapses.parametrizations.weight[1].live[0, 1].any()
    unmasked = module(None, prunable_synapses=True)
    start(unmasked, save(trained(None), tmp_path))
    assert unmasked.network.block("conv2").synapses.parametrizations.weight[0].live.all()
    start(module(None), save(trained(None), tmp_path))
    with pytest.raises(CheckpointError, match="live: only in the checkpoint"):
        start(module(None), save(other, tmp_path))


def test_a_resumed_run_keeps_its_own_weights(tmp_path):
    path = save(trained(None), tmp_path)
    model = module(None)
    before = shared(model)
    callback = start(model, path, trainer=SimpleNamespace(ckpt_path="last.ckpt"))
    callback.on_test_start(START, model)  # the test that follows it
    assert all(torch.equal(before[name], tensor) for name, tensor in shared(model).items())


def test_training_starts_from_the_copy_and_a_later_test_keeps_the_trained_weights(tmp_path):
    """With a rate of zero, training leaves the weights that came; then with a real one, a test does not undo it."""
    path = save(trained(None), tmp_path)
    still = module(None, optimizer=partial(torch.optim.SGD, lr=0.0))
    _, model = fit(tmp_path, [InitialWeights(path)], still, epochs=1)
    expected = trained(None)
    for name, layer in model.network.named_synapses():
        assert torch.equal(layer.weight, dict(expected.network.named_synapses())[name].weight)
    callback = InitialWeights(path)
    _, model = fit(tmp_path, [callback], module(None), epochs=1)
    after = shared(model)
    callback.on_test_start(START, model)
    assert all(torch.equal(after[name], tensor) for name, tensor in shared(model).items())


def test_a_test_alone_starts_from_the_copy(tmp_path):
    other = trained(None)
    model = module(None)
    InitialWeights(save(other, tmp_path)).on_test_start(START, model)
    assert torch.equal(model.network.block("fc1").synapses.weight, other.network.block("fc1").synapses.weight)


@pytest.mark.parametrize("order", [1, -1])
def test_quantization_after_training_fits_what_came_in_either_order_of_callbacks(tmp_path, order):
    other = trained(None)
    model = module(partial(PostTraining, method="kmeans", levels=3))
    for callback in [InitialWeights(save(other, tmp_path)), PostTrainingQuantization()][::order]:
        callback.on_test_start(START, model)
    for name, layer, quantizer in model.quantized_layers():
        weight = latent_weight(layer).detach()
        fresh = PostTraining(weight, method="kmeans", levels=3)
        fresh.refit(weight)
        assert torch.equal(layer.weight, fresh.quantize(weight)), name
        assert quantizer.strength == 1


@pytest.mark.parametrize("order", [1, -1])
def test_a_ramp_starts_from_float_weights_in_either_order_of_callbacks(tmp_path, order):
    path, strengths = save(trained(Codebook), tmp_path), []

    class Look(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            strengths.append({float(quantizer.strength) for _, _, quantizer in pl_module.quantized_layers()})

    callbacks = [InitialWeights(path), CodebookReclustering(ramp=4.0), Look()][::order]
    fit(tmp_path, callbacks, module(Codebook), epochs=4)
    assert strengths == [{0.25}, {0.5}, {0.75}, {1.0}]


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint", b"PK\x03\x04 cut off"])
def test_a_missing_or_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "bad.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"InitialWeights.checkpoint: .*bad\.ckpt"):
        InitialWeights(str(path)).preflight(before_training(module(None)))


def test_another_network_is_refused_with_its_first_differences(tmp_path):
    torch.manual_seed(0)
    wider = SpikingClassifier(lambda shape, classes: ConvSNN(shape, classes, (7, 9), (10,)), (1, 8, 8), 2)
    with pytest.raises(CheckpointError) as raised:
        InitialWeights(save(wider, tmp_path)).preflight(before_training(module(None)))
    lines = str(raised.value).splitlines()
    assert "blocks.conv1.synapses.weight: (7, 1, 3, 3) in the checkpoint, (6, 1, 3, 3) in the network" in lines[1]
    assert len(lines) == 10
    assert lines[-1].endswith("more")


def test_a_quantizer_that_remembers_what_is_in_use_is_no_part_of_the_network(tmp_path):
    """A float network starts from a ternary one, which keeps a mask of the synapses that count."""
    trainer, _ = fit(tmp_path, [], module(Ternary), epochs=1)
    trainer.save_checkpoint(tmp_path / "ternary.ckpt")
    start = InitialWeights(str(tmp_path / "ternary.ckpt"))
    start.preflight(before_training(module(None)))
    start.preflight(before_training(module(Ternary)))
