"""The fold synchronises with no device, copies nothing after the first call, and takes few operations."""

from functools import partial

import pytest
import torch
from helpers.deployment_contexts import context
from torch.utils._python_dispatch import TorchDispatchMode

from spikefit.networks import VGG
from spikefit.neurons import IF, LIF, LinearLeakIF
from spikefit.program.fold import fold
from spikefit.program.unit_vectors import Units
from spikefit.quantize import Codebook
from spikefit.quantize.base import Quantizer, attach


class Operations(TorchDispatchMode):
    """Counts what computes, and what is copied between devices; looking at a part of a tensor is neither."""

    def __init__(self):
        super().__init__()
        self.computed = self.copied = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        looks = any(of.alias_info is not None and not of.alias_info.is_write for of in func._schema.returns)
        tensors = [x for x in torch.utils._pytree.tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        devices = {x.device.type for x in tensors}
        self.computed += not looks and "empty" not in func.name() and devices == {"meta"}
        self.copied += len(devices) > 1
        return result


def on_meta(plan, neuron, monkeypatch):
    """A network of codebooks whose numbers nobody can read: on the meta device, that is an error."""
    network = VGG((3, 32, 32), 10, plan=plan, width=0.1, neuron=neuron)
    for _, layer in network.named_synapses():
        quantizer = Codebook(layer.weight.detach(), levels=4)
        quantizer.strength = 1
        attach(layer, quantizer)
    # What the quantizers do is not the fold's; whether they are on is asked of the host's memory alone.
    monkeypatch.setattr(Quantizer, "forward", lambda self, weight: weight + self.codebook.sum())
    return network.to("meta")


@pytest.mark.parametrize(
    ("chip", "neuron"), [("loihi", LIF), ("truenorth", LinearLeakIF), ("speck2f", partial(IF, reset="zero"))]
)
def test_a_step_reads_nothing_copies_nothing_and_needs_few_operations_a_layer(monkeypatch, chip, neuron):
    found = {}
    for plan in ("vgg9", "vgg16"):
        network = on_meta(plan, neuron, monkeypatch)
        fold(network, context(4, True, chip))
        with Operations() as seen:
            folded = fold(network, context(4, True, chip))
        assert seen.copied == 0
        assert all(block.bias.device.type == "meta" for block in folded.values())
        found[plan] = seen.computed, len(folded)
    (few, blocks), (many, more) = found["vgg9"], found["vgg16"]
    assert (many - few) / (more - blocks) <= 9
    assert few - 9 * blocks <= 140


def test_units_of_several_blocks_in_one_vector():
    units = Units((2, 1, 3), torch.device("cpu"))
    values = torch.tensor([1.0, 5.0, -2.0, 3.0, 9.0, 4.0], dtype=torch.float64)
    assert units.largest(values).tolist() == [5.0, -2.0, 9.0]
    assert units.spread(units.largest(values)).tolist() == [5.0, 5.0, -2.0, 9.0, 9.0, 9.0]
    assert units.joined([1.0, values[:1], torch.tensor(7.0)]).tolist() == [1.0, 1.0, 1.0, 7.0, 7.0, 7.0]
    assert units.chosen([True, False, True], values, -values).tolist() == [1.0, 5.0, 2.0, 3.0, 9.0, 4.0]
    kept = units.constants([1.0, 2.0, 3.0])
    assert kept.tolist() == [1.0, 1.0, 2.0, 3.0, 3.0, 3.0]
    assert units.constants([1.0, 2.0, 3.0]) is kept


def test_constants_made_without_gradients_serve_a_training_step():
    units = Units((1, 2), torch.device("cpu"))
    with torch.inference_mode():
        units.constants([0.125, 0.375])
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    (x * units.constants([0.125, 0.375])).sum().backward()
    assert x.grad.tolist() == [0.125, 0.375, 0.375]
