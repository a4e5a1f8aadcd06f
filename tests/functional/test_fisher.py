"""Gate scores compared with real gates, one sample at a time; random vectors compared with their covariance."""

import pytest
import torch
from torch import nn

from spikefit.functional import fisher
from spikefit.functional.fisher import (
    conv_weight_fisher,
    dense_weight_fisher,
    drawn_pullbacks,
    exact_pullbacks,
    fisher_sum,
    sketched_pullbacks,
    spike_contribution,
)


def test_score_is_the_mean_squared_gradient_of_real_gates():
    torch.manual_seed(0)
    spikes = (torch.rand(3, 5, 4, 2, 2) < 0.5).double()
    labels = torch.randint(0, 3, (5,))
    layer = nn.Linear(16, 3).double()

    def losses(s):
        logits = layer(s.flatten(2)).mean(0)
        return nn.functional.cross_entropy(logits, labels, reduction="none")

    squares = torch.zeros(4, dtype=torch.float64)
    gradients = []
    for sample in range(5):
        gate = torch.ones(4, dtype=torch.float64, requires_grad=True)
        losses(spikes * gate.view(1, 1, -1, 1, 1))[sample].backward()
        gradients.append(gate.grad)
        squares += gate.grad.square()
    s = spikes.clone().requires_grad_()
    losses(s).sum().backward()
    contribution = spike_contribution(spikes, s.grad)
    torch.testing.assert_close(contribution, torch.stack(gradients))
    torch.testing.assert_close(fisher_sum(contribution), squares / 2)


def test_the_square_comes_before_the_sum_over_samples():
    contribution = torch.tensor([[1.0], [-1.0]])
    assert fisher_sum(contribution).tolist() == [1.0]


def covariance(p):
    return torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)


def outer_products(vectors):
    return torch.einsum("vbc,vbd->bcd", vectors, vectors)


@pytest.fixture
def logits():
    return torch.tensor([[0.0, 1.0, -1.0], [4.0, 0.0, -2.0]], dtype=torch.float64)


def test_exact_pullbacks_make_the_covariance_of_the_labels(logits):
    torch.testing.assert_close(outer_products(exact_pullbacks(logits)), covariance(logits.softmax(1)))


@pytest.mark.parametrize("pullbacks", [sketched_pullbacks, drawn_pullbacks])
def test_random_pullbacks_make_it_in_the_mean(logits, pullbacks):
    found = outer_products(pullbacks(logits, 40_000, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(found, covariance(logits.softmax(1)), rtol=0, atol=0.01)


def test_sketches_vary_less_than_drawn_labels_where_the_network_is_sure():
    sure = torch.tensor([[6.0, 0.0, -1.0]])
    spread = {}
    for pullbacks in (sketched_pullbacks, drawn_pullbacks):
        vectors = pullbacks(sure, 2000, torch.Generator().manual_seed(0)) * 2000**0.5
        spread[pullbacks] = float((vectors[:, 0, 0] - vectors[:, 0, 1]).square().std())
    assert spread[sketched_pullbacks] < spread[drawn_pullbacks] / 5


def test_drawn_pullbacks_are_gradients_of_the_cross_entropy_with_some_label(logits):
    vectors = drawn_pullbacks(logits, 8, torch.Generator().manual_seed(0)) * 8**0.5
    x = logits.clone().requires_grad_()
    gradients = []
    for label in range(3):
        loss = nn.functional.cross_entropy(x, torch.full((2,), label), reduction="sum")
        gradients.append(torch.autograd.grad(loss, x)[0])
    distance = (vectors.unsqueeze(1) - torch.stack(gradients)).abs().amax(dim=3)  # [draws, labels, B]
    assert (distance.amin(dim=1) < 1e-12).all()
    assert len(distance.argmin(dim=1).unique()) > 1


@pytest.mark.parametrize("pullbacks", [sketched_pullbacks, drawn_pullbacks])
def test_random_pullbacks_depend_on_their_generator_alone(logits, pullbacks):
    state = torch.get_rng_state()
    first, again, other = (pullbacks(logits, 4, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("pool", [nn.functional.avg_pool2d, nn.functional.max_pool2d])
def test_contributions_are_the_same_after_a_pooling(pool):
    """5 x 5 maps with windows of 2: neurons outside every window contribute nothing in either case."""
    torch.manual_seed(0)
    spikes = (torch.rand(6, 4, 5, 5, dtype=torch.float64) < 0.4).double().requires_grad_()
    pooled = pool(spikes, 2)
    head = torch.randn_like(pooled)
    by_spikes, by_pooled = torch.autograd.grad((head * pooled.square()).sum(), [spikes, pooled])
    shape = (2, 3, 4)
    torch.testing.assert_close(
        spike_contribution(spikes.unflatten(0, shape[:2]), by_spikes.unflatten(0, shape[:2])),
        spike_contribution(pooled.unflatten(0, shape[:2]), by_pooled.unflatten(0, shape[:2])),
    )


def half_squares_one_by_one(layer, inputs, head, samples):
    """Reference: a backward pass for each sample alone."""
    total = torch.zeros_like(layer.weight)
    by_sample = inputs.unflatten(0, (-1, samples)), head.unflatten(0, (-1, samples))
    for sample in range(samples):
        x, g = (tensor[:, sample] for tensor in by_sample)
        total += torch.autograd.grad((layer(x) * g).sum(), layer.weight)[0].square() / 2
    return total


@pytest.mark.parametrize("chunk", [1, 2**24])
def test_weight_fisher_of_a_linear_layer_against_one_sample_at_a_time(monkeypatch, chunk):
    monkeypatch.setattr(fisher, "_CHUNK", chunk)
    torch.manual_seed(0)
    layer = nn.Linear(4, 3, dtype=torch.float64)
    x, g = torch.randn(2 * 5, 4, dtype=torch.float64), torch.randn(2 * 5, 3, dtype=torch.float64)
    torch.testing.assert_close(dense_weight_fisher(x, g, 5), half_squares_one_by_one(layer, x, g, 5))


@pytest.mark.parametrize("chunk", [1, 2**24])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)},
        {"kernel_size": 3, "padding": 1, "groups": 2},
        {"kernel_size": 1, "stride": 2},
    ],
    ids=str,
)
def test_weight_fisher_of_a_convolution_against_one_sample_at_a_time(monkeypatch, chunk, options):
    monkeypatch.setattr(fisher, "_CHUNK", chunk)
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, bias=False, dtype=torch.float64, **options)
    x = torch.randn(2 * 3, 4, 6, 5, dtype=torch.float64)
    g = torch.randn_like(layer(x))
    found = conv_weight_fisher(x, g, 3, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
    torch.testing.assert_close(found, half_squares_one_by_one(layer, x, g, 3))
