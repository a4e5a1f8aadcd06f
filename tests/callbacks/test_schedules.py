"""Schedules of callbacks, their effects, and their states in a checkpoint."""

import lightning.pytorch as pl
import pytest
import torch
from helpers.tiny_fit import fit, module

from callbacks import CodebookReclustering, CompressedCheckpoint, FSCPruning, ScheduledCallback, SpikeMonitor
from callbacks.checkpoint import compression_settled
from callbacks.schedule import Schedule
from spikefit.errors import ConfigurationError
from spikefit.prune import Magnitude, Random, alive_units, unit_groups
from spikefit.quantize import Uniform


class Recorder(ScheduledCallback):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.acted = []

    def act(self, trainer, module, position):
        self.acted.append(position)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"start": 1, "stop": None, "every": 2}, [1, 3, 5]),
        ({"start": 0, "stop": 3}, [0, 1, 2, 3]),
        ({"start": 2, "stop": 2}, [2]),
        ({"start": 3, "stop": None, "every": 8, "interval": "step"}, [3, 11, 19]),
    ],
)
def test_a_schedule_acts_at_its_positions(tmp_path, options, expected):
    """6 epochs of 4 batches are 24 steps."""
    recorder = Recorder(Schedule(**options))
    fit(tmp_path, [recorder], epochs=6)
    assert recorder.acted == expected


def test_a_step_schedule_acts_once_under_gradient_accumulation(tmp_path):
    recorder = Recorder(Schedule(1, interval="step"))
    fit(tmp_path, [recorder], epochs=2, accumulate_grad_batches=2)
    assert recorder.acted == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"start": -1, "stop": None}, "start"),
        ({"start": 3, "stop": 2}, "stop"),
        ({"start": 0, "stop": 1, "every": 0}, "every"),
        ({"start": 0, "stop": 1, "interval": "hour"}, "interval"),
    ],
)
def test_a_bad_schedule_is_named(options, named):
    with pytest.raises(ConfigurationError, match=named):
        Schedule(**options)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"fraction": 1.0}, "fraction"), ({"units": ["synapse"]}, "units"), ({"min_units": 0}, "min_units")],
)
def test_a_bad_pruning_option_is_named(options, named):
    with pytest.raises(ConfigurationError, match=named):
        FSCPruning(**options)


def test_two_callbacks_keep_their_own_state():
    assert FSCPruning(schedule=Schedule(1, 5)).state_key != FSCPruning(schedule=Schedule(2, 5)).state_key
    assert FSCPruning(name="a").state_key != FSCPruning(name="b").state_key
    assert CodebookReclustering(Schedule(1)).state_key != FSCPruning(schedule=Schedule(1, 5)).state_key


def test_warm_up_is_float_and_quantization_follows(tmp_path):
    seen = {}

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            layer = pl_module.network.block("conv2").synapses
            seen[trainer.current_epoch] = len(torch.unique(layer.weight))

    fit(tmp_path, [CodebookReclustering(Schedule(2)), Look()])
    assert seen[0] > 100
    assert seen[1] > 100
    assert seen[2] <= 4
    assert seen[3] <= 4


@pytest.mark.parametrize(
    ("options", "expected", "settled"),
    [
        (
            {"schedule": Schedule(1), "ramp": 1.5},
            [0] * 4 + [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1],
            [False, False, True],
        ),
        ({"schedule": Schedule(1), "ramp": 2}, [0] * 4 + [n / 8 for n in range(1, 9)], [False, False, True]),
        (
            {"schedule": Schedule(2, interval="step"), "ramp": 4},
            [0, 0, 1 / 4, 2 / 4, 3 / 4] + [1] * 7,
            [False, True, True],
        ),
    ],
)
def test_a_ramp_leads_from_float_to_quantised_weights(tmp_path, options, expected, settled):
    """3 epochs of 4 batches. Evaluation at the end of an epoch counts as settled only at full strength."""
    model = module()
    _, layer, quantizer = next(model.quantized_layers())
    strengths, found, distinct = [], [], []

    class Look(pl.Callback):
        def on_train_batch_end(self, *_):
            strengths.append(float(quantizer.strength))

        def on_validation_epoch_end(self, trainer, pl_module):
            if not trainer.sanity_checking:
                found.append(compression_settled(trainer))
                distinct.append(len(torch.unique(layer.weight)) <= 4)

    fit(tmp_path, [CodebookReclustering(**options), Look()], model, epochs=3)
    assert strengths == pytest.approx(expected)
    assert found == settled
    assert distinct == settled


def test_a_bad_ramp_is_named():
    with pytest.raises(ConfigurationError, match="ramp: got -1"):
        CodebookReclustering(ramp=-1)


def test_without_a_callback_the_quantizer_is_on_from_the_start(tmp_path):
    _, model = fit(tmp_path, [], epochs=1)
    for _, layer, _ in model.quantized_layers():
        assert len(torch.unique(layer.weight)) <= 4


def test_reclustering_ignores_the_weights_of_dead_units(tmp_path):
    """The codebook equals the exact k-means of the living weights alone."""
    model = module()
    group = unit_groups(model.network)[1]
    alive_units(model.network, group)[:4] = False
    layers = {name: (layer, quantizer) for name, layer, quantizer in model.quantized_layers()}
    layer, quantizer = layers["conv2"]
    latent = layer.parametrizations.weight.original
    latent.data[:4] = 100.0
    fit(tmp_path, [CodebookReclustering(Schedule(0, 0))], model, epochs=1, limit_train_batches=1)
    assert quantizer.codebook.abs().max() < 1


def test_lsq_is_fitted_when_it_is_switched_on_and_not_again(tmp_path):
    model = module(Uniform)
    _, _, quantizer = next(model.quantized_layers())
    steps = []

    class Look(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            steps.append(float(quantizer.step))

    fit(tmp_path, [CodebookReclustering(Schedule(1)), Look()], model)
    assert steps[0] != steps[1]
    # From then on the optimizer moves it, by little.
    assert abs(steps[2] - steps[1]) < 0.2 * steps[1]
    assert steps[2] != steps[1]


@pytest.mark.parametrize("score", [None, Magnitude(), Random(3)])
def test_pruning_reaches_its_fraction_and_the_dead_stay_silent(tmp_path, score):
    pruning = FSCPruning(fraction=0.5, schedule=Schedule(0, 2), score=score)
    _, model = fit(tmp_path, [pruning])
    groups = unit_groups(model.network)
    alive = sum(int(alive_units(model.network, group).sum()) for group in groups)
    assert alive == 12  # of 6 + 8 + 10
    x = (torch.rand(4, 3, 1, 8, 8) < 0.5).float()
    conv = model.network.block("conv1")
    spikes = conv.neuron(conv.current(x))
    assert spikes[:, :, ~conv.neuron.alive].sum() == 0


def test_only_the_chosen_kind_of_unit_is_pruned(tmp_path):
    _, model = fit(tmp_path, [FSCPruning(fraction=0.5, schedule=Schedule(0, 0), units=["neuron"])], epochs=1)
    left = {group.name: int(alive_units(model.network, group).sum()) for group in unit_groups(model.network)}
    assert left == {"conv1": 6, "conv2": 8, "fc1": 5}


def test_min_units_wins_over_the_fraction_and_says_so(tmp_path):
    with pytest.warns(UserWarning, match="min_units=6"):
        _, model = fit(tmp_path, [FSCPruning(fraction=0.9, schedule=Schedule(0, 0), min_units=6)], epochs=1)
    assert [int(alive_units(model.network, group).sum()) for group in unit_groups(model.network)] == [6, 6, 6]


def test_a_schedule_after_the_end_of_training_is_refused(tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"FSCPruning.schedule.stop: got 5, .* training has 2 epochs, .* at most 1"
    ):
        fit(tmp_path, [FSCPruning(schedule=Schedule(1, 5))], epochs=2)


def test_scoring_leaves_modes_and_random_state_alone(tmp_path):
    states = []

    class Before(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            states.append((torch.get_rng_state(), [child.training for child in pl_module.modules()]))

    fit(tmp_path, [Before(), FSCPruning(schedule=Schedule(0, 0)), Before()], epochs=1)
    assert torch.equal(states[0][0], states[1][0])
    assert states[0][1] == states[1][1]


def test_the_best_checkpoint_is_a_compressed_one(tmp_path):
    checkpoint = CompressedCheckpoint(tmp_path, filename="best", monitor="val/accuracy", mode="max")
    trainer, _ = fit(
        tmp_path,
        [CodebookReclustering(Schedule(1)), FSCPruning(fraction=0.3, schedule=Schedule(1, 2)), checkpoint],
        epochs=4,
    )
    saved = torch.load(checkpoint.best_model_path, weights_only=True)
    assert saved["epoch"] >= 2
    assert compression_settled(trainer)
    alive = [value for name, value in saved["state_dict"].items() if name.endswith("neuron.alive")]
    assert sum(int(mask.sum()) for mask in alive) == 17  # 24 - round(24 * 0.3)


def test_spike_monitor_logs_the_rate_of_every_layer(tmp_path):
    model = module()
    with torch.no_grad():
        for _, block in model.network.named_blocks():
            if block.norm is not None:
                block.norm.bias.fill_(5.0)  # fires at every step
    trainer, _ = fit(tmp_path, [SpikeMonitor()], model, epochs=1, limit_train_batches=1)
    rates = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("spikes/")}
    assert set(rates) == {"spikes/conv1", "spikes/conv2", "spikes/fc1"}
    assert all(rate == pytest.approx(1.0) for rate in rates.values())
