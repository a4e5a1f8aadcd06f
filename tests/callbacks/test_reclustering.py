"""CodebookReclustering: a schedule per layer, frozen assignments, and codebooks fitted to currents."""

import copy

import lightning.pytorch as pl
import pytest
import torch
from helpers.tiny_fit import TinyData, fit, module

from callbacks import CodebookMonitor, CodebookReclustering
from callbacks.schedule import Schedule
from spikefit.errors import ConfigurationError
from spikefit.quantize import Codebook, Uniform
from spikefit.quantize.base import latent_weight


class Assignments(pl.Callback):
    """The assignment of every layer and whether it is on, at the end of each epoch."""

    def __init__(self):
        self.index, self.on = [], []

    def on_train_epoch_end(self, trainer, pl_module):
        layers = list(pl_module.quantized_layers())
        self.index.append({name: q.assignment(latent_weight(layer)).clone() for name, layer, q in layers})
        self.on.append({name: bool(q.strength == 1) for name, _, q in layers})


def test_every_layer_has_a_schedule_of_its_own(tmp_path):
    seen = Assignments()
    callbacks = [CodebookReclustering(Schedule(1), layers=["conv1"])]
    callbacks.append(CodebookReclustering(Schedule(2), layers=["conv2", "fc*", "readout"]))
    fit(tmp_path, [*callbacks, seen], epochs=3)
    assert seen.on == [
        {"conv1": False, "conv2": False, "fc1": False, "readout": False},
        {"conv1": True, "conv2": False, "fc1": False, "readout": False},
        {"conv1": True, "conv2": True, "fc1": True, "readout": True},
    ]


def test_frozen_weights_keep_their_values_and_the_values_learn(tmp_path):
    seen, model = Assignments(), module(codebook_lr_factor=1.0)
    values = []

    class Values(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            values.append([q.codebook.detach().clone() for _, _, q in pl_module.quantized_layers()])

    fit(tmp_path, [CodebookReclustering(Schedule(0, 0), freeze=2), seen, Values()], model, epochs=4)
    for name in seen.index[0]:
        assert torch.equal(seen.index[2][name], seen.index[3][name]), name
    assert any(not torch.equal(seen.index[0][name], seen.index[1][name]) for name in seen.index[0])
    assert any(not torch.equal(a, b) for a, b in zip(values[2], values[3], strict=True))


def switched_off(model):
    """``model`` with its quantizers off."""
    for _, _, quantizer in model.quantized_layers():
        quantizer.strength = 0
    return model


@pytest.mark.parametrize("freeze", [None, 1])
def test_currents_keep_a_trained_network_where_nearest_values_do_not(tmp_path, freeze):
    """The float network's logits on the training data, against those right after quantization."""
    _, trained = fit(tmp_path, [], switched_off(module()), epochs=8)
    logits = {}

    class Stop(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.current_epoch == 1:
                return -1  # nothing is trained in the epoch that quantises
            return None

    x = TinyData().dataset.tensors[0].transpose(0, 1)
    for metric in ("float", "weights", "currents"):
        model = copy.deepcopy(trained)
        quantise = [] if metric == "float" else [CodebookReclustering(Schedule(1), metric=metric, freeze=freeze)]
        callbacks = [*quantise, Stop()]
        switched_off(model)
        model.optimizer_factory = lambda groups: torch.optim.SGD(groups, lr=0.0)
        fit(tmp_path, callbacks, model, epochs=2, limit_train_batches=1)
        with torch.no_grad():
            logits[metric] = model.eval()(x)
        if metric != "float":
            assert all(len(layer.weight.unique()) <= 4 for _, layer, _ in model.quantized_layers())
            assert all(bool(q.frozen) == (freeze == 1) for _, _, q in model.quantized_layers())
    error = {metric: (logits[metric] - logits["float"]).norm() for metric in ("weights", "currents")}
    assert error["currents"] < 0.9 * error["weights"]


@pytest.mark.parametrize(
    ("quantizer", "options", "named"),
    [
        (Uniform, {"metric": "currents"}, "metric: got 'currents', expected a Codebook on layer conv1; it has Uniform"),
        (Uniform, {"freeze": 2}, "freeze: got 2"),
        (Codebook, {"layers": ["conv9"]}, "layers: 'conv9' matches no quantised layer, expected conv1, conv2"),
    ],
)
def test_what_a_layer_can_not_do_is_refused_before_training(tmp_path, quantizer, options, named):
    with pytest.raises(ConfigurationError, match=named):
        fit(tmp_path, [CodebookReclustering(**options)], module(quantizer))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"metric": "nearest"}, "metric"),
        ({"batches": 0}, "batches"),
        ({"schedule": Schedule(3), "freeze": 2}, "freeze"),
        ({"schedule": Schedule(1), "ramp": 2, "freeze": 2}, "freeze"),
    ],
)
def test_a_bad_option_is_named(options, named):
    with pytest.raises(ConfigurationError, match=named):
        CodebookReclustering(**options)


def test_the_monitor_counts_flips_drift_and_dead_values(tmp_path):
    """Worked out anew from what the layers held at the end of each epoch."""
    seen, model = Assignments(), module()
    held, logged = [], []

    class Held(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            held.append({name: q.values().detach().clone() for name, _, q in pl_module.quantized_layers()})

        def on_train_epoch_start(self, trainer, pl_module):
            logged.append({k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("codebook/")})

    fit(tmp_path, [CodebookReclustering(Schedule(1)), CodebookMonitor(), seen, Held()], model, epochs=5)
    assert not logged[1], "codebooks that are off are not watched"
    assert {key.split("/")[1] for key in logged[2]} == {"dead"}
    for name in seen.index[0]:
        flips = (seen.index[3][name] != seen.index[2][name]).float().mean()
        drift = (held[3][name] - held[2][name]).norm() / held[3][name].norm()
        dead = held[3][name].shape[1] - len(seen.index[3][name].unique())
        assert logged[4][f"codebook/flips/{name}"] == pytest.approx(float(flips))
        assert logged[4][f"codebook/drift/{name}"] == pytest.approx(float(drift), abs=1e-6)
        assert logged[4][f"codebook/dead/{name}"] == dead
