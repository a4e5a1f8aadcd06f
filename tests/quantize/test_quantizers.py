"""A common harness for all quantizers, and the mathematics of each one."""

import copy
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spikefit.errors import ConfigurationError
from spikefit.functional.kmeans import kmeans_1d
from spikefit.quantize import AxonCodebook, Codebook, PostTraining, RescaledUniform, Ternary, Uniform
from spikefit.quantize.base import attach, exact_weight, latent_weight, quantizer_of, touch


def switched_on(factory):
    """Switch on a quantizer that starts at strength 0, as the callback does."""

    def make(w):
        quantizer = factory(w)
        quantizer.strength = 1
        return quantizer

    return make


QUANTIZERS = {
    "codebook4": (Codebook, 4),
    "codebook2": (partial(Codebook, levels=2, bits=2), 2),
    "codebook16": (partial(Codebook, levels=15, bits=4), 15),
    "channel": (partial(Codebook, scope="channel"), 4),
    "zero_free": (partial(Codebook, levels=4, zero="free"), 5),
    "zero_none": (partial(Codebook, levels=4, zero="none"), 4),
    "zero_kept": (partial(Codebook, levels=4, zero="kept"), 4),
    "channel_zero_kept": (partial(Codebook, levels=3, bits=2, scope="channel", zero="kept"), 3),
    "channel_zero_free": (partial(Codebook, levels=2, bits=2, scope="channel", zero="free"), 3),
    "lsq2": (partial(Uniform, bits=2), 4),
    "lsq8": (partial(Uniform, bits=8), 256),
    "ternary": (Ternary, 3),
    "rescaled2_channel": (RescaledUniform, 4),
    "rescaled8_channel": (partial(RescaledUniform, bits=8, coefficient="max"), 256),
    "rescaled4": (partial(RescaledUniform, bits=4, scope="layer"), 16),
    "kmeans_after": (switched_on(PostTraining), 4),
    "kmeans_after_full": (switched_on(partial(PostTraining, levels=None, bits=2)), 3),
    "uniform_after": (switched_on(partial(PostTraining, method="uniform")), 4),
    "uniform_after_full": (switched_on(partial(PostTraining, method="uniform", levels=None, bits=2)), 4),
    "axon_by_channel": (AxonCodebook, 5),
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
    exact = quantizer.double()(w.double())
    stored = quantizer.integers(w.double())
    torch.testing.assert_close(stored.integer * stored.scale, exact, rtol=1e-12, atol=0)
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
        if not parameter.requires_grad:
            continue
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


def test_at_strength_zero_it_is_the_identity(case):
    quantizer, w, _, _ = case
    quantizer.strength = 0
    assert quantizer(w) is w


def test_between_float_and_quantised_weights_the_gradient_is_that_of_the_mixture(case):
    quantizer, w, _, _ = case
    quantizer.eval()
    quantizer.strength = 0.25
    w = w.clone().requires_grad_()
    used = quantizer(w)
    torch.testing.assert_close(used, 0.75 * w + 0.25 * quantizer.quantize(w))
    upstream = torch.randn_like(used)
    (through,) = torch.autograd.grad(quantizer.quantize(w), w, upstream)
    (found,) = torch.autograd.grad(used, w, upstream)
    torch.testing.assert_close(found, 0.75 * upstream + 0.25 * through)


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


@pytest.mark.parametrize("name", QUANTIZERS)
@given(
    values=st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=10),
    constant=st.booleans(),
    training=st.booleans(),
)
@settings(max_examples=40)
def test_any_weights_give_few_finite_values_on_the_grid(name, values, constant, training):
    """One weight, constant weights, zeros, tiny ones: never NaN, never a value off the integer grid."""
    factory, most = QUANTIZERS[name]
    w = torch.tensor(values[:1] * len(values) if constant else values, dtype=torch.float64).view(1, -1)
    quantizer = factory(w).train(training)
    latent = w.clone().requires_grad_()
    quantised = quantizer(latent)
    quantised.sum().backward()
    stored = quantizer.integers(w)
    assert quantised.isfinite().all()
    assert latent.grad.isfinite().all()
    assert len(quantised.unique()) <= most
    torch.testing.assert_close(stored.integer * stored.scale, quantised.detach(), rtol=1e-12, atol=0)
    assert stored.integer.abs().max() <= 2 ** (stored.bits - 1)
    assert torch.equal(quantizer(w), quantised)


@given(
    values=st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=4, max_size=12),
    levels=st.integers(2, 12),
    zero=st.sampled_from(["counted", "kept", "free", "none"]),
    bits=st.sampled_from([4, 8]),
)
@settings(max_examples=150)
def test_a_codebook_survives_any_weights(values, levels, zero, bits):
    """Constant weights, zeros alone, and more levels than distinct weights."""
    w = torch.tensor(values).view(-1, 1)
    quantizer = Codebook(w, levels=levels, bits=bits, zero=zero)
    quantised = quantizer(w)
    assert quantised.isfinite().all()
    assert len(quantised.unique()) <= levels + (zero == "free")
    if zero == "none":
        assert (quantised != 0).all()
    if zero in ("free", "kept") and len(set(values)) <= levels and 0.0 in values:
        assert (quantised[w == 0] == 0).all()


def test_reclustering_keeps_a_zero():
    """One of the values is 0 before and after, and most weights of a normal distribution take it or a neighbour."""
    w = weight(shape=(40, 60))
    quantizer = Codebook(w, levels=4, bits=8, zero="kept")
    for _ in range(2):
        assert quantizer.codebook.shape == (1, 3)
        assert (quantizer.values() == 0).sum() == 1
        assert 0.3 < (quantizer(w) == 0).float().mean() < 0.7
        with torch.no_grad():
            quantizer.codebook += 0.02
        quantizer.recluster(w)
    assert quantizer.integers(w).integer.unique().numel() == 4


def test_a_codebook_starts_at_the_k_means_optimum():
    """Four tight clusters on a grid of 4 bits: the centres 7, 3, -1, -5 times a step are found exactly."""
    centres = torch.tensor([7.0, 3.0, -1.0, -5.0]) * 0.01
    w = (centres.repeat(50, 1) + torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * 1e-5).t()
    quantizer = Codebook(w, levels=4, bits=4)
    assert sorted(quantizer.integers(w).integer.unique().tolist()) == [-5, -1, 3, 7]
    assert torch.equal(quantizer.codebook.sort().values[0], kmeans_1d(w, 4)[0])
    torch.testing.assert_close(quantizer(w)[:, 0], centres, atol=1e-5, rtol=0)


def test_gradients_of_a_codebook_are_the_written_ones_on_the_unsorted_parameter():
    """dL/dc_m sums dL/dW_hat over the weights assigned to m; nothing for a value beyond the
    grid, which can't move; dL/dW = dL/dW_hat."""
    w = weight(shape=(4, 25)).requires_grad_()
    quantizer = Codebook(w.detach(), levels=4, bits=4)
    scale = quantizer.scale.item()
    integers = torch.tensor([3.0, -5.0, 9.0, 0.0])  # out of order, and 9 is clipped to 7
    quantizer.codebook.data = (integers * scale)[None]
    upstream = torch.randn(w.shape, generator=torch.Generator().manual_seed(1))
    quantised = quantizer(w)
    quantised.backward(upstream)
    values = integers.clamp(-7, 7) * scale
    nearest = (w.detach().flatten()[:, None] - values).abs().argmin(1)
    torch.testing.assert_close(quantised.detach().flatten(), values[nearest])
    sums = torch.zeros(4).index_add(0, nearest, upstream.flatten())
    assert (sums.abs() > 0.1).all()
    torch.testing.assert_close(quantizer.codebook.grad[0], sums * torch.tensor([1, 1, 0, 1]))
    assert torch.equal(w.grad, upstream)


def test_codebook_values_around_zero_by_hand():
    """`counted` rounds to 0; `none` sends what would be 0 to the nearer of -1 and 1; `free` adds a 0."""
    codebook = torch.tensor([[-0.3, 0.45, 0.7, 2.6]])
    expected = {"counted": [0, 0, 1, 3], "none": [-1, 1, 1, 3], "free": [-1, 0, 1, 1, 3]}
    for zero, values in expected.items():
        quantizer = Codebook(weight(), levels=4, bits=4, zero=zero)
        quantizer.codebook.data, quantizer.scale = codebook.clone(), torch.ones(1, 1)
        assert quantizer.values().tolist() == [values], zero


def test_a_channel_codebook_belongs_to_its_output():
    """Rows that differ by a factor have codebooks that differ by it; one row is a layer codebook of that row."""
    row = weight(shape=(1, 40))
    w = torch.cat([row, 10 * row, -row])
    quantised = Codebook(w, scope="channel")(w)
    torch.testing.assert_close(quantised[1], 10 * quantised[0])
    torch.testing.assert_close(quantised[2], -quantised[0])
    assert torch.equal(quantised[0], Codebook(row)(row)[0])


def test_the_scale_of_a_codebook_is_no_worse_than_its_largest_value_on_the_largest_integer():
    for seed in range(10):
        w = weight(seed, (1, 200)).double() ** 3
        quantizer = Codebook(w, levels=6, bits=4)
        centroids, counts = kmeans_1d(w, 6)
        largest = centroids.abs().max() / 7
        error = [
            ((centroids / s).round() * s - centroids).square() @ counts.double() for s in (quantizer.scale, largest)
        ]
        assert error[0] <= error[1] * (1 + 1e-6)
        assert (centroids.abs() / quantizer.scale).max() <= 7.5


def test_a_codebook_without_live_weights_stays():
    w = weight()
    quantizer = Codebook(w, scope="channel")
    before = quantizer.state_dict()["codebook"].clone()
    live = torch.ones_like(w, dtype=torch.bool)
    live[2] = False
    quantizer.recluster(5 * w, live)
    changed = (quantizer.codebook != before).any(dim=1)
    assert changed.tolist() == [True, True, False, True, True, True]


@pytest.mark.parametrize(("bits", "lowest", "highest"), [(2, -2, 1), (3, -4, 3)])
def test_the_step_of_lsq_has_the_gradient_of_the_paper(bits, lowest, highest):
    """dw/ds is -w/s + round(w/s) inside, the border outside; times 1 / sqrt(N * highest) (arXiv 1902.08153)."""
    w = torch.tensor([[-3.0, -0.4, 0.3, 0.9, 5.0]])
    quantizer = Uniform(w, bits=bits)
    quantizer.step.data.fill_(0.5)
    quantizer(w).sum().backward()
    ratio = w / 0.5
    inside = (ratio > lowest) & (ratio < highest)
    border = ratio.clamp(lowest, highest)
    expected = torch.where(inside, ratio.round() - ratio, border).sum() / (5 * highest) ** 0.5
    torch.testing.assert_close(quantizer.step.grad, expected)


def test_a_step_of_lsq_that_was_trained_below_zero_is_its_magnitude():
    """The grid -2, -1, 0, 1 is not mirrored, and the gradient points away from zero on the other side."""
    w, results = torch.tensor([[-1.5, -0.4, 0.3, 1.5]]), []
    for sign in (1, -1):
        quantizer = Uniform(w, bits=2)
        quantizer.step.data.fill_(0.5 * sign)
        quantised = quantizer(w)
        quantised.sum().backward()
        assert quantised.tolist() == [[-1.0, -0.5, 0.5, 0.5]]
        assert quantizer.integers(w).integer.tolist() == [[-2, -1, 1, 1]]
        results.append(quantizer.step.grad.item())
    assert results[0] == -results[1] != 0


def test_ternary_by_hand():
    """Mean magnitude 1, border 0.7: 2 and -1.5 survive with amplitude 1.75."""
    w = torch.tensor([[2.0, -1.5, 0.3, -0.2]])
    assert Ternary(w)(w).tolist() == [[1.75, -1.75, 0.0, 0.0]]


def test_a_weight_on_the_border_of_ternary_is_zero():
    """Mean magnitude 1, border 1: only 2 lies beyond it."""
    w = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    quantizer = Ternary(w, threshold=1.0)
    assert quantizer(w).tolist() == [[2.0, 0.0, 0.0, 0.0]]
    assert quantizer.integers(w).integer.tolist() == [[1, 0, 0, 0]]


def test_ternary_follows_the_weights_in_training_and_rests_in_evaluation():
    """Doubled weights: in evaluation the old border 0.7 and amplitude 1.75, in training 1.4 and 3.5."""
    w = torch.tensor([[2.0, -1.5, 0.3, -0.5]])
    quantizer = Ternary(torch.tensor([[2.0, -1.5, 0.3, -0.2]])).eval()
    assert quantizer(2 * w).tolist() == [[1.75, -1.75, 0.0, -1.75]]
    assert quantizer.train()(2 * w).tolist() == [[3.5, -3.5, 0.0, 0.0]]
    assert quantizer.eval()(2 * w).tolist() == [[3.5, -3.5, 0.0, 0.0]]


def test_lsq_starts_at_the_step_of_the_paper():
    """2 * mean|w| / sqrt(7) with 4 bits: mean 1, so 0.7559; 1 is the integer 1, 2.5 is 3, -100 is clipped to -8."""
    quantizer = Uniform(torch.tensor([[0.5, -1.5]]), bits=4)
    assert quantizer.step.item() == pytest.approx(2 / 7**0.5)
    assert quantizer.integers(torch.tensor([[1.0, 2.5, -100.0, 100.0]])).integer.tolist() == [[1, 3, -8, 7]]


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
        (partial(RescaledUniform, bits=3), "bits"),
        (partial(RescaledUniform, coefficient="median"), "coefficient"),
        (partial(RescaledUniform, scope="core"), "scope"),
        (partial(PostTraining, method="lloyd"), "method"),
        (partial(PostTraining, bits=3), "bits"),
        (partial(PostTraining, levels=16), "levels.*at most 15"),
        (partial(PostTraining, method="uniform", levels=17), "levels.*got 17.*from 2 to 16"),
    ],
)
def test_a_bad_option_is_named(make, named):
    with pytest.raises(ConfigurationError, match=named):
        make(weight())


@pytest.mark.parametrize("silent", [slice(2, 3), slice(None)], ids=["one output", "all outputs"])
@pytest.mark.parametrize("name", QUANTIZERS)
def test_exact_weights_are_the_integers_times_the_scale(name, silent):
    """Also where all weights are 0; the scale of a ternary layer is 0 then."""
    layer = nn.Linear(4, 6, bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight(shape=(6, 4)))
        layer.weight[silent] = 0
    attach(layer, QUANTIZERS[name][0](layer.weight.detach().clone()))
    quantizer = quantizer_of(layer)
    assert quantizer is not None
    found = quantizer.integers(latent_weight(layer).detach())
    assert torch.equal(exact_weight(layer), found.integer.double() * found.scale)
