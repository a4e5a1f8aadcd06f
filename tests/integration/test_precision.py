"""Mixed precision, gradient checkpointing and compilation in a complete training run from YAML."""

from functools import partialmethod

import pytest
import torch
from helpers.tiny_fit import TinyDataWithTest, fit, module

from callbacks import ChipEmulation, CodebookReclustering, DeploymentSimulation, FSCPruning, NormCalibration
from callbacks.schedule import Schedule
from spikefit.errors import ConfigurationError


def accuracy(trainer):
    return float(trainer.callback_metrics["val/accuracy"])


def test_bf16_mixed_trains_a_codebook_in_float32(tmp_path):
    callbacks = [
        CodebookReclustering(Schedule(1)),
        FSCPruning(fraction=0.2, schedule=Schedule(2, 5)),
        NormCalibration(),
    ]
    seen = []
    model = module()
    layer = model.network.block("conv2").synapses
    layer.register_forward_hook(lambda layer, inputs, output: seen.append((layer.weight.dtype, output.dtype)))
    trainer, model = fit(tmp_path, callbacks, model, epochs=8, precision="bf16-mixed")
    assert (torch.float32, torch.bfloat16) in seen, "weights in float32, the convolution in bfloat16"
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    for _, layer, quantizer in model.quantized_layers():
        assert quantizer.values().dtype == torch.float32
        assert len(layer.weight.unique()) <= 4
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert accuracy(trainer) > 0.9


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_is_compressed_emulated_and_deployed(tmp_path, precision):
    simulation = DeploymentSimulation(parity_samples=40)
    callbacks = [
        CodebookReclustering(Schedule(1)),
        FSCPruning(fraction=0.2, schedule=Schedule(1, 1)),
        NormCalibration(),
        ChipEmulation(Schedule(2)),
        simulation,
    ]
    trainer, model = fit(tmp_path, callbacks, epochs=3, precision=precision)
    trainer.test(model, TinyDataWithTest(), verbose=False)
    report = simulation.report
    assert report.accuracy_deployed == report.accuracy_float > 0.6
    assert report.parity.mismatches == 0
    assert report.target_agreement.mismatches == 0
    assert report.unique_weights_max <= 4


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "16-true", "64"])
def test_other_precisions_are_refused(tmp_path, precision):
    with pytest.raises(ConfigurationError, match=r"trainer\.precision: got '.*', expected .* 'bf16-mixed', '16-mixed'"):
        fit(tmp_path, [], precision=precision)


@pytest.mark.parametrize("option", ["gradient_checkpointing", "compile"])
def test_how_a_network_runs_does_not_change_what_it_learns(tmp_path, option, monkeypatch):
    # torch.compile without its code generator, which would need a C++ compiler
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="eager"))
    trained = []
    for options in ({}, {option: True}):
        callbacks = [CodebookReclustering(Schedule(1)), FSCPruning(fraction=0.2, schedule=Schedule(1, 1))]
        _, model = fit(tmp_path, callbacks, module(**options), epochs=2)
        trained.append(model.state_dict())
    for name, tensor in trained[0].items():
        torch.testing.assert_close(trained[1][name], tensor, msg=name)
