"""Scores of synapses, compared with a computation for one sample at a time."""

import pytest
import torch
from helpers.small_batches import CLASSES, SAMPLES, batches, inputs

from spikefit.losses import CrossEntropy
from spikefit.networks import ConvSNN, ResidualSNN
from spikefit.prune import SynapseFisher, SynapseMagnitude, SynapseRandom, live_synapses
from spikefit.quantize import Codebook
from spikefit.quantize.base import attach, latent_weight

SCORES = [SynapseFisher(2), SynapseMagnitude(), SynapseRandom()]


@pytest.fixture
def small(wake):
    torch.manual_seed(0)
    return wake(ConvSNN((1, 8, 8), CLASSES, (3, 4), (5,)), inputs())


def reference(network, data, fisher):
    """Half the squares of weight times gradient, for each sample (and label) alone, by autograd.

    The straight-through gradient of a codebook hands the gradient of the used weight to the latent one as it is.
    """
    layers = dict(network.named_synapses())
    latent = [latent_weight(layer) for layer in layers.values()]
    totals = {name: torch.zeros_like(layer.weight) for name, layer in layers.items()}
    for x, y in data:
        for sample, own in enumerate(y.tolist()):
            logits = network.logits(network(x[:, sample : sample + 1]))
            p = logits.detach().softmax(1)[0]
            for label in [own] if fisher == "empirical" else range(CLASSES):
                loss = torch.nn.functional.cross_entropy(logits, torch.tensor([label]))
                gradients = torch.autograd.grad(loss, latent, retain_graph=True)
                for (name, layer), gradient in zip(layers.items(), gradients, strict=True):
                    weight = 1 if fisher == "empirical" else p[label]
                    totals[name] += weight * (layer.weight.detach() * gradient).square() / 2
    return totals


@pytest.mark.parametrize("fisher", ["empirical", "exact"])
@pytest.mark.parametrize("quantized", [False, True])
def test_fisher_is_the_mean_squared_gradient_of_a_gate_on_the_weight(small, fisher, quantized):
    if quantized:
        for _, layer in small.named_synapses():
            attach(layer, Codebook(layer.weight.detach(), levels=4))
    totals, samples = SynapseFisher(2, fisher).accumulate(small, batches(), CrossEntropy())
    assert samples == SAMPLES
    for name, expected in reference(small, batches(), fisher).items():
        torch.testing.assert_close(totals[name], expected, rtol=1e-4, atol=1e-9)
        assert (expected > 0).any()


def test_fisher_of_a_convolved_shortcut(wake):
    """Eight channels and more: below that, oneDNN's weight gradient of a strided 1x1 convolution may crash."""
    torch.manual_seed(0)
    network = wake(ResidualSNN((1, 8, 8), CLASSES, (8, 9)), inputs())
    totals, _ = SynapseFisher(2, "empirical").accumulate(network, batches(), CrossEntropy())
    expected = reference(network, batches(), "empirical")
    assert "stage2_1b.skip" in totals
    for name in totals:
        torch.testing.assert_close(totals[name], expected[name], rtol=1e-4, atol=1e-9)


def test_fisher_of_a_directly_coded_image_whose_first_layer_runs_once(small):
    """The same image in every step, in one frame of memory and in three."""
    image, y = inputs()[0], torch.arange(SAMPLES) % CLASSES
    still = [(image.expand(3, *image.shape), y)]
    copied = [(image.repeat(3, 1, 1, 1, 1), y)]
    once, _ = SynapseFisher(1).accumulate(small, still, CrossEntropy())
    thrice, _ = SynapseFisher(1).accumulate(small, copied, CrossEntropy())
    for name in once:
        torch.testing.assert_close(once[name], thrice[name])
    assert (once["conv1"] > 0).any()


def test_fisher_needs_no_trainable_parameter(small):
    scores, _ = SynapseFisher(2).accumulate(small, batches(), CrossEntropy())
    frozen, _ = SynapseFisher(2).accumulate(small.requires_grad_(False), batches(), CrossEntropy())
    assert all(torch.equal(frozen[name], score) for name, score in scores.items())
    assert not any(score.requires_grad for score in scores.values())


def test_magnitude_is_that_of_the_weight_that_the_layer_uses(small):
    layer = small.block("conv2").synapses
    attach(layer, Codebook(layer.weight.detach(), levels=4))
    scores, _ = SynapseMagnitude().accumulate(small, [], CrossEntropy())
    assert torch.equal(scores["conv2"], layer.weight.abs())
    assert len(scores["conv2"].unique()) <= 4


def test_random_is_seeded_and_leaves_the_global_state_alone(small):
    state = torch.get_rng_state()
    first, again, other = (SynapseRandom(seed).accumulate(small, [], CrossEntropy())[0] for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv2"], other["conv2"])


@pytest.mark.parametrize("score", SCORES, ids=lambda score: type(score).__name__)
def test_scores_have_the_weights_shapes_and_synapses_of_dead_units_score_zero(small, score):
    small.block("conv1").neuron.alive[0] = False
    small.block("conv2").neuron.alive[1] = False
    scores, _ = score.accumulate(small, batches(), CrossEntropy())
    assert {name: s.shape for name, s in scores.items()} == {n: x.weight.shape for n, x in small.named_synapses()}
    for name, values in scores.items():
        assert not values[~live_synapses(small, name)].any()
    assert not scores["conv2"][1].any()
    assert not scores["conv2"][:, 0].any()
    assert scores["conv2"][0, 1:].any()
