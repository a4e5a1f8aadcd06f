"""FSC compared with explicit gates; the choice of units compared with brute force."""

from itertools import product

import pytest
import torch
from helpers.small_batches import CLASSES, SAMPLES, batches, inputs
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefit.errors import ConfigurationError
from spikefit.losses import CrossEntropy
from spikefit.networks import ConvSNN, ResidualSNN
from spikefit.prune import FSC, unit_groups
from spikefit.prune.groups import UnitGroup
from spikefit.prune.selection import select

NETWORKS = {
    "plain": lambda: ConvSNN((1, 8, 8), CLASSES, (3, 4), (5,)),
    "max pooling": lambda: ConvSNN((1, 8, 8), CLASSES, (3, 4), (5,), pool_kind="max"),
    "spiking readout": lambda: ConvSNN((1, 8, 8), CLASSES, (3, 4), (5,), readout="spikes"),
    "residual": lambda: ResidualSNN((1, 8, 8), CLASSES, (3, 4), stem_pool=2),
}


@pytest.fixture
def small(wake):
    torch.manual_seed(0)
    return wake(NETWORKS["plain"](), inputs())


def gate_gradients(network, group, x, label):
    """Derivatives of one sample's cross entropy with respect to gates on the neurons of every block of ``group``."""
    gate = torch.ones(group.units, requires_grad=True)
    handles = [
        network.block(name).neuron.register_forward_hook(
            lambda module, inputs, output: output * gate.view(-1, *[1] * (output.dim() - 3))
        )
        for name in group.blocks
    ]
    logits = network.logits(network(x))
    for handle in handles:
        handle.remove()
    return torch.autograd.grad(torch.nn.functional.cross_entropy(logits, label), gate)[0], logits.softmax(1)[0]


@pytest.mark.parametrize("fisher", ["empirical", "exact"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_fsc_is_the_mean_squared_gradient_of_a_gate_on_all_members(wake, kind, fisher):
    """One sample at a time, by autograd: with its own label, or with every label as probable as the network says."""
    torch.manual_seed(0)
    network = wake(NETWORKS[kind](), inputs())
    totals, samples = FSC(2, fisher).accumulate(network, batches(), CrossEntropy())
    assert samples == SAMPLES
    for group in unit_groups(network):
        expected = torch.zeros(group.units)
        for x, y in batches():
            for sample, own in enumerate(y.tolist()):
                for label in [own] if fisher == "empirical" else range(CLASSES):
                    one = x[:, sample : sample + 1]
                    gradient, p = gate_gradients(network, group, one, torch.tensor([label]))
                    weight = 1 if fisher == "empirical" else p[label].detach()
                    expected += weight * gradient.square() / 2
        torch.testing.assert_close(totals[group.name], expected, rtol=1e-4, atol=1e-8)
        assert (expected > 0).any()


@pytest.mark.parametrize(("fisher", "tolerance"), [("sketched", 0.25), ("drawn", 0.6)])
def test_random_labels_and_sketches_come_near_the_exact_fisher_information(small, fisher, tolerance):
    exact, _ = FSC(2, "exact").accumulate(small, batches(), CrossEntropy())
    found, _ = FSC(2, fisher, draws=100).accumulate(small, batches(), CrossEntropy())
    for name, score in exact.items():
        torch.testing.assert_close(found[name], score, rtol=tolerance, atol=1e-9)


def test_the_data_s_labels_count_for_the_empirical_fisher_information_alone(small):
    others = [(x, (y + 1) % CLASSES) for x, y in batches()]

    def changed(fisher):
        own, _ = FSC(2, fisher).accumulate(small, batches(), CrossEntropy())
        other, _ = FSC(2, fisher).accumulate(small, others, CrossEntropy())
        return not all(torch.equal(own[name], other[name]) for name in own)

    assert [changed(fisher) for fisher in ("empirical", "exact", "sketched", "drawn")] == [True, False, False, False]


def test_fsc_needs_no_trainable_parameter_and_gives_none_a_gradient(small):
    scores, _ = FSC(2).accumulate(small, batches(), CrossEntropy())
    assert all(parameter.grad is None for parameter in small.parameters())
    frozen, _ = FSC(2).accumulate(small.requires_grad_(False), batches(), CrossEntropy())
    assert all(torch.equal(frozen[name], score) for name, score in scores.items())
    assert (scores["conv1"] > 0).any()


def test_fsc_leaves_the_kernels_fused_and_no_hook_behind(small, monkeypatch):
    used = []
    fused = type(small.block("conv1"))._fused
    monkeypatch.setattr(type(small.block("conv1")), "_fused", lambda self, *args: used.append(1) or fused(self, *args))
    FSC(1).accumulate(small, batches()[:1], CrossEntropy())
    assert len(used) == 3, "each of the three hidden blocks once"
    assert not any(module._forward_hooks for module in small.modules())


def test_fsc_is_seeded_and_leaves_the_global_state_alone(small):
    state = torch.get_rng_state()
    first, again, other = (FSC(2, seed=seed).accumulate(small, batches(), CrossEntropy())[0] for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv2"], other["conv2"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": 0}, "batches: got 0, expected at least 1"),
        ({"draws": 0}, "draws: got 0, expected at least 1"),
        ({"fisher": "guessed"}, "fisher: got 'guessed', expected one of 'sketched', 'exact', 'drawn', 'empirical'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigurationError, match=message):
        FSC(**options)


def test_the_dead_score_zero(small):
    small.block("conv2").neuron.alive[1] = False
    totals, _ = FSC(2).accumulate(small, batches(), CrossEntropy())
    assert totals["conv2"][1] == 0
    assert (totals["conv2"] > 0).sum() >= 2


@given(
    scores=st.lists(st.integers(0, 20), min_size=6, max_size=6, unique=True),
    dead=st.sets(st.integers(0, 5), max_size=3),
    keep=st.integers(0, 6),
    min_units=st.integers(1, 2),
)
@settings(max_examples=200)
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
