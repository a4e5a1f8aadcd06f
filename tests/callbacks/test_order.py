"""The order of callbacks in a list does not matter."""

import random
from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from helpers.tiny_fit import fit, module

from callbacks import (
    ChipEmulation,
    CodebookMonitor,
    CodebookReclustering,
    EpochTimer,
    FSCPruning,
    InitialWeights,
    NormCalibration,
    Schedule,
    SpikeMonitor,
    SynapsePruning,
)
from spikefit.preflight import in_order
from spikefit.prune import Magnitude, SynapseMagnitude, live_synapses
from spikefit.quantize import Codebook, RescaledUniform, Ternary


class Mine(pl.Callback):
    """A callback that knows nothing of places."""


def compressing(start):
    """Every kind of callback that changes the network, several of them at the same epochs."""
    return [
        InitialWeights(start),
        CodebookReclustering(Schedule(1)),
        FSCPruning(fraction=0.3, schedule=Schedule(1, 2), score=Magnitude()),
        SynapsePruning(0.5, Schedule(1, 2), score=SynapseMagnitude()),
        ChipEmulation(Schedule(2)),
        NormCalibration(2),
        CodebookMonitor(),
        SpikeMonitor(),
    ]


@pytest.mark.parametrize("quantizer", [Codebook, Ternary, partial(RescaledUniform, scope="layer")])
def test_every_order_gives_the_same_weights(tmp_path, quantizer):
    trainer, _ = fit(tmp_path, [], module(quantizer, prunable_synapses=True), epochs=1)
    start = tmp_path / "start.ckpt"
    trainer.save_checkpoint(start)
    trained = []
    for seed in range(4):
        callbacks = compressing(str(start))
        if seed > 0:
            random.Random(seed).shuffle(callbacks)
        trainer, model = fit(tmp_path, callbacks, module(quantizer, prunable_synapses=True), epochs=3)
        trained.append(model.state_dict())
    for other in trained[1:]:
        for name, tensor in trained[0].items():
            assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("quantizer", [Ternary, partial(RescaledUniform, scope="layer")])
@pytest.mark.parametrize("reclustering", [Schedule(0, 0), Schedule(0)])
def test_a_quantizer_that_follows_its_weights_knows_what_was_pruned(tmp_path, quantizer, reclustering):
    """Also where nothing is reclustered after the last pruning event."""
    pruning = [
        FSCPruning(fraction=0.3, schedule=Schedule(1, 2), score=Magnitude()),
        SynapsePruning(0.5, Schedule(1, 2), score=SynapseMagnitude()),
    ]
    model = module(quantizer, prunable_synapses=True)
    fit(tmp_path, [*pruning, CodebookReclustering(reclustering)], model, epochs=3)
    live = {name: live_synapses(model.network, name) for name, _, _ in model.quantized_layers()}
    assert sum(int(mask.sum()) for mask in live.values()) < 0.6 * sum(mask.numel() for mask in live.values())
    for name, _, quantizer_ in model.quantized_layers():
        assert torch.equal(quantizer_.in_use, live[name]), name


def test_others_keep_their_position_and_equal_places_their_order():
    first, second, last = Mine(), Mine(), Mine()
    one, two = CodebookReclustering(layers=["conv1"]), CodebookReclustering(layers=["fc1"])
    pruning, norms, timer = FSCPruning(), NormCalibration(), EpochTimer()
    given = [first, timer, norms, two, second, pruning, one, last]
    assert in_order(given) == [first, two, one, pruning, second, norms, timer, last]
    assert in_order(in_order(given)) == in_order(given)


def test_a_subclass_has_the_place_of_its_parent_or_its_own():
    class Early(NormCalibration):
        place = InitialWeights.place

    class Same(FSCPruning):
        pass

    early, same, codebooks = Early(), Same(), CodebookReclustering()
    assert in_order([same, codebooks, early]) == [early, codebooks, same]


def test_the_trainer_holds_them_in_order(tmp_path):
    pruning, codebooks = FSCPruning(schedule=Schedule(0, 0)), CodebookReclustering()
    trainer, _ = fit(tmp_path, [pruning, codebooks], epochs=1, limit_train_batches=1)
    assert trainer.callbacks.index(codebooks) < trainer.callbacks.index(pruning)
