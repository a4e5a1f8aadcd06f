"""One harness for every quantizer, and each one's own mathematics."""

import copy
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spikefit.errors import ConfigurationError
from spikefit.quantize import Codebook, Ternary, Uniform
from spikefit.quantize.base import attach, latent_weight, quantizer_of, touch

QUANTIZERS = {
    "codebook4": (Codebook, 4),
    "codebook2": (partial(Codebook, levels=2, bits=2), 2),
    "codebook16": (partial(Codebook, levels=15, bits=4), 15),
    "channel": (partial(Codebook, scope="channel"), 4),
    "zero_free": (partial(Codebook, levels=4, zero="free"), 5),
    "zero_none": (partial(Codebook, levels=4, zero="none"), 4),
    "channel_zero_free": (partial(Codebook, levels=2, bits=2, scope="channel", zero="free"), 3),
    "lsq2": (partial(Uniform, bits=2), 4),
    "lsq8": (partial(Uniform, bits=8), 256),
    "ternary": (Ternary, 3),
}


def weight(seed=0, shape=(6, 5, 3, 3)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.fixture(params=QUANTIZERS)
def case(request):
    factory, most = QUANTIZERS[request.param]
    w = weight()
    return factory(w), w, most, "channel" in request.param


def test_values_are_few_and_on_the_integer_grid(case):
    quantizer, w, most, by_channel = case
    quantised = quantizer(w)
    for row in quantised if by_channel else [quantised]:
        assert len(row.unique()) <= most
    stored = quantizer.integers(w)
    torch.testing.assert_close(stored.integer * stored.scale, quantised.double(), rtol=1e-6, atol=0)
    low, high = -(2 ** (stored.bits - 1)), 2 ** (stored.bits - 1) - 1
    assert stored.integer.min() >= low
    assert stored.integer.max() <= high
    assert stored.integer.dtype == torch.int64


def test_gradients_reach_weights_and_own_parameters(case):
    quantizer, w, _, _ = case
    w = w.requires_grad_()
    (quantizer(w) * torch.randn(w.shape)).sum().backward()
    assert (w.grad != 0).float().mean() > 0.5
    for name, parameter in quantizer.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).any(), name


def test_state_dict_and_copy_give_the_same_weights(case, request):
    quantizer, w, _, _ = case
    factory, _ = QUANTIZERS[request.node.callspec.params["case"]]
    other = factory(weight(seed=1))
    assert not torch.equal(other.eval()(w), quantizer.eval()(w))
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other(w), quantizer(w))
    assert torch.equal(copy.deepcopy(quantizer)(w), quantizer(w))


def test_float64_works(case):
    quantizer, w, most, by_channel = case
    quantised = quantizer.double()(w.double())
    assert quantised.dtype == torch.float64
    assert len((quantised[0] if by_channel else quantised).unique()) <= most


def test_inactive_is_the_identity(case):
    quantizer, w, _, _ = case
    quantizer.active.fill_(False)
    assert quantizer(w) is w


def test_refitting_twice_changes_nothing_and_refitting_follows_the_weights(case):
    quantizer, w, _, _ = case
    before = quantizer.eval()(w)
    quantizer.refit(w)
    assert torch.equal(quantizer(w), before)
    quantizer.refit(3 * w)
    torch.testing.assert_close(quantizer(3 * w), 3 * before, rtol=1e-4, atol=1e-6)


def test_dead_synapses_do_not_count(case):
    quantizer, w, _, _ = case
    live = torch.rand(w.shape, generator=torch.Generator().manual_seed(3)) < 0.7
    garbage = torch.where(live, w, torch.tensor(50.0))
    quantizer.eval().refit(garbage, live)
    error = (quantizer(garbage) - garbage)[live]
    assert error.abs().max() < 0.5


def test_attached_to_a_layer(case):
    quantizer, w, _, _ = case
    layer = nn.Conv2d(5, 6, 3, bias=False)
    layer.weight.data.copy_(w)
    attach(layer, quantizer)
    assert quantizer_of(layer) is quantizer
    assert torch.equal(latent_weight(layer), w)
    assert torch.equal(layer.weight, quantizer(w))
    assert quantizer_of(nn.Linear(2, 2)) is None


@given(
    values=st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=4, max_size=12),
    levels=st.integers(2, 12),
    zero=st.sampled_from(["counted", "free", "none"]),
    bits=st.sampled_from([4, 8]),
)
@settings(deadline=None, max_examples=150)
def test_a_codebook_survives_any_weights(values, levels, zero, bits):
    """Constant weights, zeros alone, and more levels than distinct weights."""
    w = torch.tensor(values).view(-1, 1)
    quantizer = Codebook(w, levels=levels, bits=bits, zero=zero)
    quantised = quantizer(w)
    assert quantised.isfinite().all()
    assert len(quantised.unique()) <= levels + (zero == "free")
    if zero == "none":
        assert (quantised != 0).all()
    if zero == "free" and len(set(values)) <= levels and 0.0 in values:
        assert (quantised[w == 0] == 0).all()


def test_a_codebook_starts_at_the_k_means_optimum():
    """Four tight clusters on a grid of 4 bits: the centres 7, 3, -1, -5 times a step are found exactly."""
    centres = torch.tensor([7.0, 3.0, -1.0, -5.0]) * 0.01
    w = (centres.repeat(50, 1) + torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * 1e-5).t()
    quantizer = Codebook(w, levels=4, bits=4)
    assert sorted(quantizer.integers(w).integer.unique().tolist()) == [-5, -1, 3, 7]
    torch.testing.assert_close(quantizer(w)[:, 0], centres, atol=1e-5, rtol=0)


def test_the_step_of_lsq_has_the_gradient_of_the_paper():
    """dw/ds is -w/s + round(w/s) inside, the border outside; times 1 / sqrt(N * highest) (arXiv 1902.08153)."""
    w = torch.tensor([[-3.0, -0.4, 0.3, 0.9, 5.0]])
    quantizer = Uniform(w, bits=2)
    quantizer.step.data.fill_(0.5)
    quantizer(w).sum().backward()
    ratio = w / 0.5
    inside = (ratio > -2) & (ratio < 1)
    expected = torch.where(inside, ratio.round() - ratio, ratio.clamp(-2, 1)).sum() / (5 * 1) ** 0.5
    torch.testing.assert_close(quantizer.step.grad, expected)


def test_ternary_by_hand():
    """Mean magnitude 1, border 0.7: 2 and -1.5 survive with amplitude 1.75."""
    w = torch.tensor([[2.0, -1.5, 0.3, -0.2]])
    assert Ternary(w)(w).tolist() == [[1.75, -1.75, 0.0, 0.0]]


def test_touch_gives_unused_parameters_a_gradient_of_zero():
    x, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    touch(x, unused).sum().backward()
    assert x.grad.tolist() == [1, 1]
    assert unused.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (partial(Codebook, levels=1), "levels.*got 1.*at least 2"),
        (partial(Codebook, levels=16, bits=4), "levels.*at most 15"),
        (partial(Codebook, levels=3, bits=2, zero="none"), "levels.*at most 2"),
        (partial(Codebook, bits=3), "bits"),
        (partial(Codebook, scope="network"), "scope"),
        (partial(Codebook, zero="no"), "zero"),
        (partial(Uniform, bits=1), "bits"),
        (partial(Ternary, threshold=0.0), "threshold"),
    ],
)
def test_a_bad_option_is_named(make, named):
    with pytest.raises(ConfigurationError, match=named):
        make(weight())
