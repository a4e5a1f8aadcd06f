"""A NIR network whose channels have different thresholds, through every compressing callback."""

from functools import partial

import pytest
import torch
from helpers import interop_cases as cases
from helpers.deployment_contexts import context
from helpers.tiny_fit import TinyData, fit

from callbacks import ChipEmulation, CodebookReclustering, FSCPruning, NormCalibration
from callbacks.schedule import Schedule
from spikefit.deploy.deployment import Deployment
from spikefit.module import SpikingClassifier
from spikefit.networks import FixedNorm
from spikefit.nir import FromNIR
from spikefit.nir.write import to_nir
from spikefit.program.lower import lower
from spikefit.program.parity import compare
from spikefit.quantize import Codebook

pytest.importorskip("nir", reason="nir is not installed")


def imported(quantizer=None):
    """The digits network, read back from its graph."""
    graph = to_nir(lower(cases.trained("conv lif"), context(cases.STEPS, True)))
    return SpikingClassifier(partial(FromNIR, path=graph), cases.SHAPE, cases.CLASSES, quantizer, hardware="loihi")


def test_it_tells_digits_as_well_as_before_and_learns_on():
    model = imported()
    before = cases.accuracy(cases.trained("conv lif"))
    assert cases.accuracy(model.network.eval()) == pytest.approx(before, abs=0.005)
    norm = model.network.block("conv1").norm
    assert isinstance(norm, FixedNorm)
    gains = norm.weight.detach().clone()
    cases.train(model.network, epochs=2, rate=1e-3)
    assert cases.accuracy(model.network) > before - 0.02
    assert not torch.equal(norm.weight, gains)


def test_it_trains_with_the_integers_of_a_chip(tmp_path):
    """Thresholds of its own for each channel survive: the program on the chip fires as the network does."""
    model = imported(partial(Codebook, levels=4, bits=8))
    fit(tmp_path, [CodebookReclustering(Schedule(0)), ChipEmulation(Schedule(1))], model, epochs=2)
    network, data = model.network.eval(), TinyData()
    x, _ = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    program = lower(network, context(len(x), target="loihi"), "target")
    result = compare(network, program, x, tolerance=None)
    assert result.mismatches + result.ties == 0
    assert result.compared > 1000


@pytest.mark.parametrize("metric", ["weights", "currents"])
def test_it_is_compressed_and_deployed(tmp_path, metric):
    model = imported(partial(Codebook, levels=4, bits=8))
    callbacks = [
        CodebookReclustering(Schedule(1), metric=metric, batches=2),
        FSCPruning(fraction=0.3, schedule=Schedule(1, 2)),
        NormCalibration(2),
    ]
    fit(tmp_path, callbacks, model, epochs=3)
    network, data = model.network.eval(), TinyData()
    for name in ("conv1", "conv2", "fc1"):
        norm = network.block(name).norm
        assert isinstance(norm, FixedNorm)
        assert (norm.running_mean == 0).all()
        rescaled = bool((norm.running_var != 1).any())
        assert rescaled == (metric == "currents"), "what a fit rescaled is kept when norms are measured"
    x, y = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    deployment = Deployment(network, context(len(x), target="loihi"))
    with torch.no_grad():
        deployment.update(x, y, network.logits(network(x)))
    report = deployment.report()
    assert report.parity.mismatches == 0
    assert report.unique_weights_max <= 4
    assert report.units_pruned_fraction == pytest.approx(0.3, abs=0.1)
