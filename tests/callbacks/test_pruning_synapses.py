"""SynapsePruning: remaining synapses, requirements, and restoration from a checkpoint."""

from functools import partial
from itertools import pairwise

import lightning.pytorch as pl
import pytest
import torch
from helpers.deployment_contexts import context
from helpers.planned_energy import PlannedEnergy
from helpers.tiny_fit import fit, module

from callbacks import CodebookReclustering, FSCPruning, SynapsePruning
from callbacks.schedule import Schedule
from spikefit.errors import ConfigurationError
from spikefit.module import SpikingClassifier
from spikefit.networks import ConvSNN
from spikefit.program.lower import lower
from spikefit.prune import Random, SynapseFisher, SynapseMagnitude, SynapseRandom, live_synapses
from spikefit.prune.budget import Budget
from spikefit.prune.synapse_mask import mask_of
from spikefit.quantize import Codebook

# 6 x 1 x 9, 8 x 6 x 9, 10 x 8 x 4, 2 x 10
WEIGHTS = {"conv1": 54, "conv2": 432, "fc1": 320, "readout": 20}
prunable = partial(module, prunable_synapses=True)


def left(model):
    return {name: int(mask_of(layer).live.sum()) for name, layer in model.network.named_synapses()}


@pytest.mark.parametrize("quantizer", [None, Codebook])
@pytest.mark.parametrize("score", [SynapseFisher(2), SynapseMagnitude(), SynapseRandom(1)])
def test_the_fraction_is_reached_and_the_dead_stay_dead(tmp_path, score, quantizer):
    masks = []

    class Look(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            layers = dict(pl_module.network.named_synapses())
            masks.append({name: mask_of(layer).live.clone() for name, layer in layers.items()})

    pruning = SynapsePruning(fraction=0.7, schedule=Schedule(1, 2), growth="linear", score=score)
    _, model = fit(tmp_path, [CodebookReclustering(Schedule(1)), pruning, Look()], prunable(quantizer))
    total = sum(WEIGHTS.values())
    counts = [sum(int(mask.sum()) for mask in found.values()) for found in masks]
    assert counts == [total, total - round(total * 0.35), total - round(total * 0.7), total - round(total * 0.7)]
    for earlier, later in pairwise(masks):
        assert all((later[name] <= mask).all() for name, mask in earlier.items())
    for name, layer in model.network.named_synapses():
        assert not layer.weight[~masks[-1][name]].any()


def test_the_weights_of_least_magnitude_go(tmp_path):
    model = prunable(None)
    weights = {name: layer.weight.detach().abs().clone() for name, layer in model.network.named_synapses()}
    fit(tmp_path, [SynapsePruning(0.5, Schedule(0, 0), score=SynapseMagnitude(), layer_min=0)], model, epochs=1)
    median = torch.cat([weight.flatten() for weight in weights.values()]).sort().values[413]
    for name, layer in model.network.named_synapses():
        assert torch.equal(mask_of(layer).live, weights[name] >= median)


def test_every_layer_keeps_its_least_and_says_so(tmp_path):
    with pytest.warns(UserWarning, match=r"layer_min=0\.25"):
        _, model = fit(tmp_path, [SynapsePruning(0.9, Schedule(0, 0), layer_min=0.25)], prunable(), epochs=1)
    assert left(model) == {"conv1": 14, "conv2": 108, "fc1": 80, "readout": 5}


def test_only_the_named_layers_are_pruned(tmp_path):
    _, model = fit(tmp_path, [SynapsePruning(0.5, Schedule(0, 0), layers=["conv*", "fc1"])], prunable(), epochs=1)
    counts = left(model)
    assert counts.pop("readout") == 20
    assert sum(counts.values()) == (54 + 432 + 320) / 2


def test_synapses_of_dead_units_count_as_gone(tmp_path):
    """Both callbacks in one run: half of all synapses are left to living units or none."""
    units = FSCPruning(fraction=0.25, schedule=Schedule(0, 0), score=Random(2))
    _, model = fit(tmp_path, [units, SynapsePruning(0.5, Schedule(0, 0), score=SynapseRandom(1))], prunable(), epochs=1)
    live = {name: live_synapses(model.network, name) for name in WEIGHTS}
    assert sum(int(mask.sum()) for mask in live.values()) == 413
    assert {name: int(mask.sum()) for name, mask in live.items()} == left(model)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"fraction": 1.0}, "fraction: got 1"),
        ({"layer_min": 1.5}, "layer_min: got 1.5"),
        ({"budget": Budget(neurons=9)}, r"budget\.neurons: pruning synapses does not remove neurons"),
        ({"fraction": 0.2, "budget": Budget(synapses=9)}, "expected one of fraction and budget"),
    ],
)
def test_a_bad_option_is_named(options, named):
    with pytest.raises(ConfigurationError, match=named):
        SynapsePruning(**options)


def test_a_network_without_masks_is_refused_before_training(tmp_path):
    with pytest.raises(ConfigurationError, match=r"layer conv1 .*model\.init_args\.prunable_synapses: true"):
        fit(tmp_path, [SynapsePruning(schedule=Schedule(1, 2))])
    with pytest.raises(
        ConfigurationError, match="layers: 'dense' matches no layer, expected conv1, conv2, fc1, readout"
    ):
        fit(tmp_path, [SynapsePruning(schedule=Schedule(1, 2), layers=["dense"])], prunable())


def test_a_budget_of_synapses_is_met_by_the_fewest(tmp_path):
    """Counted by lowering, at all places of the map, where one weight stands for 256 synapses at most."""
    sizes = []

    class Look(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            program = lower(pl_module.network, context(4))
            sizes.append(sum(program.synapses(projection) for projection in program.projections))

    pruning = SynapsePruning(budget=Budget(synapses=5000), schedule=Schedule(1, 2), growth="linear")
    fit(tmp_path, [pruning, Look()], prunable(None))
    halfway = (sizes[0] + 5000) / 2
    assert halfway - 256 < sizes[1] <= halfway
    assert 5000 - 256 < sizes[2] <= 5000
    assert sizes[3] == sizes[2]


def test_a_budget_of_energy_is_met_at_the_measured_rates(tmp_path):
    """The rates of all training data, which is what the callback measures on, are held while synapses go."""
    plan = PlannedEnergy()
    # Updates alone take 1.7e-7 J: 524 neurons, 4 steps.
    pruning = SynapsePruning(budget=Budget(energy_j=2e-7), schedule=Schedule(1, 2), growth="linear")
    fit(tmp_path, [plan.before, pruning, plan.after], prunable(None), epochs=5)
    sizes = plan.sizes
    assert sizes[0][0] == sizes[0][1] > 2.5e-7
    assert pruning.first_size == pytest.approx(sizes[1][0])
    halfway = (sizes[1][0] + 2e-7) / 2
    assert halfway - 1e-8 < sizes[1][1] <= halfway * (1 + 1e-8)  # one weight is a few nJ
    for before, after in sizes[2:]:
        assert after == before if before <= 2e-7 else 1.9e-7 < after <= 2e-7 * (1 + 1e-8)


def test_a_budget_that_the_rest_exceeds_is_refused_at_the_event(tmp_path):
    pruning = SynapsePruning(budget=Budget(energy_j=1e-7), schedule=Schedule(1, 1))
    with pytest.raises(ConfigurationError, match=r"energy_j=1e-07 can't be met: each layer keeps layer_min=0.01"):
        fit(tmp_path, [pruning], prunable())


def test_a_checkpoint_brings_the_masks_back(tmp_path):
    trainer, model = fit(tmp_path, [SynapsePruning(0.6, Schedule(0, 0))], prunable(), epochs=1)
    trainer.save_checkpoint(tmp_path / "pruned.ckpt")

    def network(shape, classes):
        return ConvSNN(shape, classes, (6, 8), (10,))

    loaded = SpikingClassifier.load_from_checkpoint(tmp_path / "pruned.ckpt", network=network, quantizer=Codebook)
    assert left(loaded) == left(model)
    for (_, layer), (_, other) in zip(model.network.named_synapses(), loaded.network.named_synapses(), strict=True):
        assert torch.equal(layer.weight, other.weight)
