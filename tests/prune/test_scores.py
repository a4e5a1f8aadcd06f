"""Scores against gates that are really there; the choice of units against brute force."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefit.errors import ConfigurationError
from spikefit.losses import CrossEntropy
from spikefit.networks import ConvSNN, ResidualSNN
from spikefit.prune import FSC, FiringRate, Magnitude, Random, unit_groups
from spikefit.prune.groups import UnitGroup
from spikefit.prune.scores import select

STEPS, SAMPLES = 3, 6


def batches():
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(STEPS, SAMPLES, 1, 8, 8, generator=generator) < 0.5).float()
    y = torch.randint(0, 3, (SAMPLES,), generator=generator)
    return [(x[:, :4], y[:4]), (x[:, 4:], y[4:])]  # a last, smaller batch


@pytest.mark.parametrize("residual", [False, True])
def test_fsc_is_the_mean_squared_gradient_of_a_gate_on_all_members(wake, residual):
    """A gate multiplies the spikes of every block of its group; one sample at a time, by autograd."""
    torch.manual_seed(0)
    network = ResidualSNN((1, 8, 8), 3, (3, 4)) if residual else ConvSNN((1, 8, 8), 3, (3, 4), (5,))
    wake(network, torch.cat([x for x, _ in batches()], dim=1))
    totals, samples = FSC(2).accumulate(network, batches(), CrossEntropy())
    assert samples == SAMPLES
    for group in unit_groups(network):
        expected = torch.zeros(group.units)
        for x, y in batches():
            for sample in range(len(y)):
                gate = torch.ones(group.units, requires_grad=True)
                handles = [
                    network.block(name).neuron.register_forward_hook(
                        lambda module, inputs, output, gate=gate: output * gate.view(-1, *[1] * (output.dim() - 3))
                    )
                    for name in group.blocks
                ]
                logits = network.logits(network(x[:, sample : sample + 1]))
                torch.nn.functional.cross_entropy(logits, y[sample : sample + 1]).backward()
                expected += gate.grad.square() / 2
                for handle in handles:
                    handle.remove()
        torch.testing.assert_close(totals[group.name], expected, rtol=1e-4, atol=1e-9)
        assert (expected > 0).any()
    network.zero_grad()
    FSC(1).accumulate(network, batches()[:1], CrossEntropy())
    assert all(p.grad is None or not p.grad.any() for p in network.parameters()), "no parameter gets a gradient"


def test_firing_rate_is_the_mean_spike(wake):
    network = wake(ConvSNN((1, 8, 8), 3, (3, 4), (5,)), torch.cat([x for x, _ in batches()], dim=1))
    totals, samples = FiringRate(2).accumulate(network, batches(), CrossEntropy())
    conv = network.block("conv1")
    spikes = torch.cat([conv.neuron(conv.current(x)) for x, _ in batches()], dim=1)
    torch.testing.assert_close(totals["conv1"] / samples, spikes.mean((0, 1, 3, 4)))


def test_magnitude_is_the_mean_absolute_live_weight():
    network = ConvSNN((1, 8, 8), 3, (3, 4), (5,))
    network.block("conv1").neuron.alive[0] = False
    scores, _ = Magnitude().accumulate(network, [], CrossEntropy())
    expected = network.block("conv2").synapses.weight[:, 1:].abs().mean((1, 2, 3))
    torch.testing.assert_close(scores["conv2"], expected)


def test_tied_blocks_add_their_magnitudes():
    """The stem and the second convolution of the pair, each the mean of its incoming weights."""
    network = ResidualSNN((1, 8, 8), 3, channels=(4,))
    scores, _ = Magnitude().accumulate(network, [], CrossEntropy())
    rows = [network.block(name).synapses.weight.abs().mean((1, 2, 3)) for name in ("stem", "stage1_1b")]
    torch.testing.assert_close(scores["stem+stage1_1b"], rows[0] + rows[1])


@pytest.mark.xfail(reason="Magnitude leaves the weights of a convolved shortcut out", strict=True)
def test_the_weights_of_a_convolved_shortcut_are_incoming_weights_too():
    network = ResidualSNN((1, 8, 8), 3, channels=(4, 6))
    block = network.block("stage2_1b")
    weights = torch.cat([block.synapses.weight.flatten(1), block.skip.weight.flatten(1)], dim=1)
    scores, _ = Magnitude().accumulate(network, [], CrossEntropy())
    torch.testing.assert_close(scores["stage2_1b"], weights.abs().mean(1))


def test_random_is_seeded_and_leaves_the_global_state_alone():
    network = ConvSNN((1, 8, 8), 3, (3, 4), (5,))
    state = torch.get_rng_state()
    first, _ = Random(1).accumulate(network, [], CrossEntropy())
    again, _ = Random(1).accumulate(network, [], CrossEntropy())
    other, _ = Random(2).accumulate(network, [], CrossEntropy())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv2"], other["conv2"])


@pytest.mark.parametrize("score", [FSC, FiringRate])
def test_a_score_of_spikes_needs_a_batch(score):
    with pytest.raises(ConfigurationError, match="batches"):
        score(0)


def test_scores_of_the_dead_and_the_silent_are_zero(wake):
    network = wake(ConvSNN((1, 8, 8), 3, (3, 4), (5,)), torch.cat([x for x, _ in batches()], dim=1))
    network.block("conv2").neuron.alive[1] = False
    for score in (FSC(2), FiringRate(2)):
        totals, _ = score.accumulate(network, batches(), CrossEntropy())
        assert totals["conv2"][1] == 0
        assert (totals["conv2"] > 0).sum() >= 2


@given(
    scores=st.lists(st.integers(0, 20), min_size=6, max_size=6, unique=True),
    dead=st.sets(st.integers(0, 5), max_size=3),
    keep=st.integers(0, 6),
    min_units=st.integers(1, 2),
)
@settings(max_examples=200, deadline=None)
def test_the_choice_keeps_the_largest_sum_that_the_rules_allow(scores, dead, keep, min_units):
    """Brute force over all subsets of the living: at least min_units a group (or all it has left), `keep` in total if
    that is more, and among those the largest sum of scores. Different scores make it unique."""
    groups = [UnitGroup("a", ("a",), 2, "channel"), UnitGroup("b", ("b",), 4, "channel")]
    spans = {"a": range(2), "b": range(2, 6)}
    alive = {name: torch.tensor([unit not in dead for unit in span]) for name, span in spans.items()}
    values = {name: torch.tensor([float(scores[unit]) for unit in span]) for name, span in spans.items()}
    found = select(values, groups, alive, keep, min_units)
    least = {name: min(min_units, int(mask.sum())) for name, mask in alive.items()}
    size = min(max(keep, sum(least.values())), 6 - len(dead))
    options = []
    for choice in product([False, True], repeat=6):
        kept = {unit for unit, taken in enumerate(choice) if taken}
        enough = all(len(kept & set(span)) >= least[name] for name, span in spans.items())
        if not kept & dead and len(kept) == size and enough:
            options.append((sum(scores[unit] for unit in kept), kept))
    best = max(options, key=lambda option: option[0])[1]
    chosen = {
        unit for name, span in spans.items() for unit, taken in zip(span, found[name].tolist(), strict=True) if taken
    }
    assert chosen == best


def test_equal_scores_fall_in_a_fixed_order():
    groups = [UnitGroup("a", ("a",), 3, "channel")]
    kept = select({"a": torch.ones(3)}, groups, {"a": torch.ones(3, dtype=torch.bool)}, 2, 1)
    assert kept["a"].tolist() == [True, True, False]
