"""Conditions for replaying a training pass; on a GPU, a replayed pass equals that of the network."""

import copy

import pytest
import torch
import torch.nn.functional as F

from spikefit.cuda_graphs import CapturedNetwork
from spikefit.input_kind import InputKind
from spikefit.networks import ConvSNN
from spikefit.networks.synops import SynopCounter
from spikefit.quantize import Codebook
from spikefit.quantize.base import attach, quantizer_of


class OnAnyDevice(CapturedNetwork):
    """Treats tensors on the CPU as tensors on a GPU."""

    def _possible(self, x):
        class Shown:
            is_cuda = True

        return super()._possible(Shown())


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = ConvSNN((1, 8, 8), 3, channels=(4,), hidden=(5,))
    for _, layer in made.named_synapses():
        attach(layer, Codebook(layer.weight.detach(), levels=4, bits=8))
    return made


@pytest.fixture
def recorded(monkeypatch):
    """Counts recordings, which are replaced: they change buffers and replay nothing."""
    calls = []

    def record(module, sample, allow_unused_input):
        calls.append(sample[0].shape)
        for _ in range(3):
            module(*sample)
        return module

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    return calls


def test_a_pass_is_recorded_once_it_has_stayed_the_same(network, recorded):
    captured, x = OnAnyDevice(network, patience=2), torch.rand(3, 2, 1, 8, 8)
    for expected in (0, 0, 1, 1):
        captured(x)
        assert len(recorded) == expected


def test_a_smaller_last_batch_has_a_recording_of_its_own(network, recorded):
    captured, whole, last = OnAnyDevice(network, patience=1), torch.rand(3, 4, 1, 8, 8), torch.rand(3, 2, 1, 8, 8)
    for _ in range(4):
        for x in (whole, whole, last):
            captured(x)
    assert recorded == [(3, 4, 1, 8, 8), (3, 2, 1, 8, 8)]


def test_a_copy_records_its_own(network, recorded):
    captured, x = OnAnyDevice(network, patience=0), torch.rand(3, 2, 1, 8, 8)
    captured(x)
    copy.deepcopy(captured)(x)
    assert len(recorded) == 2


def test_recording_leaves_the_statistics_as_they_are(network, recorded):
    other = copy.deepcopy(network)
    captured, x = OnAnyDevice(network, patience=0), torch.rand(3, 2, 1, 8, 8)
    assert torch.equal(captured(x), other(x))
    for (name, found), (_, expected) in zip(network.named_buffers(), other.named_buffers(), strict=True):
        assert torch.equal(found, expected), name


def change_strength(network):
    quantizer_of(network.block("conv1").synapses).strength = 0.5


def freeze_norm(network):
    network.block("conv1").norm.eval()


def replace_weight(network):
    network.block("conv1").norm.bias.data = network.block("conv1").norm.bias.data.clone()


def sharpen_surrogate(network):
    network.block("conv1").neuron.alpha = 4.0


def stop_learning(network):
    network.block("conv1").norm.bias.requires_grad_(False)


@pytest.mark.parametrize("change", [change_strength, freeze_norm, replace_weight, sharpen_surrogate, stop_learning])
def test_what_python_decides_is_recorded_anew(network, recorded, change):
    captured, x = OnAnyDevice(network, patience=1), torch.rand(3, 2, 1, 8, 8)
    for _ in range(2):
        captured(x)
    change(network)
    captured(x)
    assert len(recorded) == 1
    captured(x)
    assert len(recorded) == 2


def test_values_may_change_in_place(network, recorded):
    captured, x = OnAnyDevice(network, patience=0), torch.rand(3, 2, 1, 8, 8)
    captured(x)
    with torch.no_grad():
        network.block("conv1").neuron.alive[0] = False
        network.block("conv1").norm.weight.mul_(2)
    assert torch.equal(captured(x), network(x))
    assert len(recorded) == 1


def test_a_constant_input_is_recorded_as_one_frame(network, recorded):
    captured, frame = OnAnyDevice(network, patience=0), torch.rand(1, 2, 1, 8, 8)
    found = captured(frame.expand(3, -1, -1, -1, -1))
    assert recorded == [(1, 2, 1, 8, 8)]
    assert found.shape == (3, 2, 3)


def test_operations_are_counted_in_the_recording(network, recorded):
    captured, x = OnAnyDevice(network, patience=1), torch.rand(3, 2, 1, 8, 8)
    counter = SynopCounter(InputKind.GRADED)
    captured(x)
    captured(x)
    assert len(recorded) == 1
    for expected in (1, 2, 2):  # another counter is recorded anew
        output, counts = captured(x, counter)
        assert len(recorded) == expected
    assert torch.equal(counts, network(x, counter)[1])
    assert output.shape == (3, 2, 3)


def test_passes_that_are_watched_or_not_trained_run_as_ever(network, recorded):
    captured, x = OnAnyDevice(network, patience=0), torch.rand(3, 2, 1, 8, 8)
    handle = network.block("conv1").neuron.register_forward_hook(lambda *_: None)
    captured(x)
    handle.remove()
    with torch.no_grad():
        captured(x)
    network.eval()
    captured(x)
    assert recorded == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("counter", [None, SynopCounter(InputKind.GRADED, frozenset(["conv1", "fc1"]))])
@pytest.mark.parametrize("bf16", [False, True])
def test_a_replayed_step_is_that_of_the_network(network, bf16, counter):
    network, results = network.cuda(), []
    labels = torch.arange(4, device="cuda") % 3
    for run in (network, CapturedNetwork(copy.deepcopy(network), patience=1)):
        torch.manual_seed(1)
        trained = run if run is network else run.network
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
        for _ in range(5):
            x = torch.rand(3, 4, 1, 8, 8, device="cuda")
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
                output, counts = (run(x), None) if counter is None else run(x, counter)
            loss = F.cross_entropy(output.float().mean(0), labels)
            (loss if counts is None else loss + 1e-3 * counts.sum().float()).backward()
            optimizer.step()
        results.append({name: value.clone() for name, value in trained.state_dict().items()})
    for name, expected in results[0].items():
        torch.testing.assert_close(results[1][name], expected, rtol=1e-3, atol=1e-4, msg=name)
