"""The residual network compared with an explicit forward pass."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from spikefit.errors import ConfigurationError
from spikefit.networks import IdentitySkip, ResidualSNN


def test_the_forward_is_its_wiring_written_out(wake):
    """Every second convolution of a pair adds the output of the block before the pair, before its norm."""
    torch.manual_seed(0)
    network = ResidualSNN((2, 16, 16), 3, channels=(4, 6), depth=2, stem_pool=2).double()
    x = (torch.rand(3, 4, 2, 16, 16) < 0.5).double()
    wake(network, x)
    blocks = dict(network.named_blocks())

    def fire(block, current):
        return block.neuron(block.norm(current).unflatten(0, (3, 4)))

    def plain(block, s):
        return fire(block, nn.functional.conv2d(s.flatten(0, 1), block.synapses.weight, None, block.synapses.stride, 1))

    s = plain(blocks["stem"], x)
    s = nn.functional.avg_pool2d(s.flatten(0, 1), 2).unflatten(0, (3, 4))
    for stage, number in [(1, 1), (1, 2), (2, 1), (2, 2)]:
        first, second = blocks[f"stage{stage}_{number}a"], blocks[f"stage{stage}_{number}b"]
        inner = plain(first, s)
        current = nn.functional.conv2d(inner.flatten(0, 1), second.synapses.weight, padding=1)
        if (stage, number) == (2, 1):
            current = current + nn.functional.conv2d(s.flatten(0, 1), second.skip.weight, stride=2)
        else:
            current = current + second.skip.weight * s.flatten(0, 1)
        torch.testing.assert_close(second.current(inner, s).flatten(0, 1), second.norm(current))
        s = fire(second, current)
        assert s.any(), "a silent layer compares nothing"
    pooled = s.mean((3, 4))  # 4 x 4 pixels are left
    expected = pooled @ blocks["readout"].synapses.weight.t()
    torch.testing.assert_close(network(x), expected)
    parameters = list(network.parameters())
    written_out = torch.autograd.grad(expected.square().sum(), parameters)
    assert all(gradient.any() for gradient in written_out)
    for ours, gradient in zip(torch.autograd.grad(network(x).square().sum(), parameters), written_out, strict=True):
        torch.testing.assert_close(ours, gradient)


def test_shortcuts_are_identities_until_the_shape_changes():
    network = ResidualSNN((2, 16, 16), 3, channels=(4, 6, 6), depth=2)
    skips = {name: block.skip for name, block in network.named_blocks() if block.skip is not None}
    kinds = {name: type(skip) for name, skip in skips.items()}
    assert kinds == {
        "stage1_1b": IdentitySkip,
        "stage1_2b": IdentitySkip,
        "stage2_1b": nn.Conv2d,
        "stage2_2b": IdentitySkip,
        "stage3_1b": nn.Conv2d,  # as many channels as before, but half the map
        "stage3_2b": IdentitySkip,
    }
    assert [network.block(name).skip_from for name in skips] == [
        "stem",
        "stage1_1b",
        "stage1_2b",
        "stage2_1b",
        "stage2_2b",
        "stage3_1b",
    ]
    named = [name for name, _ in network.named_synapses()]
    assert [name for name in named if "." in name] == ["stage2_1b.skip", "stage3_1b.skip"]


def test_the_weight_of_a_shortcut_is_learned(wake):
    torch.manual_seed(0)
    network = ResidualSNN((1, 8, 8), 3, channels=(4,))
    x = (torch.rand(3, 4, 1, 8, 8) < 0.5).float()
    wake(network, x)
    network(x).square().sum().backward()
    assert network.block("stage1_1b").skip.weight.grad.abs() > 0


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1)])
def test_odd_and_tiny_maps(size):
    network = ResidualSNN((1, *size), 3, channels=(2, 3, 4)).eval()
    assert network(torch.rand(2, 3, 1, *size)).shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"depth": 0}, "depth"), ({"channels": ()}, "channels"), ({"stem_pool": 0}, "stem_pool"), ({"stem_pool": 9}, "")],
)
def test_a_bad_option_is_named(options, named):
    with pytest.raises(ConfigurationError, match=f"^{named}: got" if named else "block stem.*pool 9"):
        ResidualSNN((1, 8, 8), 3, **options)


def test_a_narrow_strided_shortcut_trains_without_breaking_the_process():
    """With channels last, torch 2.14.1 corrupts memory within a few hundred such steps; so in a separate process."""
    code = (
        "import torch; from spikefit.networks import ResidualSNN; torch.set_num_threads(1); torch.manual_seed(0)\n"
        "network = ResidualSNN((1, 8, 8), 3, channels=(4, 6)); x = torch.rand(2, 3, 1, 8, 8)\n"
        "for _ in range(600): network(x).sum().backward()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-500:]
