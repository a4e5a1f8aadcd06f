"""FSCPruning: budgets, costs and recovery, without extra work in the steps between two events."""

import lightning.pytorch as pl
import pytest
import torch
from helpers.planned_energy import PlannedEnergy
from helpers.tiny_fit import fit, module

from callbacks import CodebookReclustering, CompressedCheckpoint, FSCPruning
from callbacks.checkpoint import compression_settled
from callbacks.schedule import Schedule
from spikefit.deploy.unit_cost import EnergyCost, SynapseCost, UnitCost
from spikefit.errors import ConfigurationError
from spikefit.prune import FiringRate, Random, Score, alive_units, unit_groups
from spikefit.prune.budget import Budget
from spikefit.prune.resources import alive_by_block, neurons, synapses

# 6 channels of 8 x 8, 8 channels of 4 x 4, 10 neurons, 2 outputs.
ALL_NEURONS = 6 * 64 + 8 * 16 + 10 + 2
BUDGET = 2.4e-7  # joule


class Sizes(pl.Callback):
    """A size at the start of every epoch, after the callbacks before this one."""

    def __init__(self, size):
        self.size, self.found = size, []

    def on_train_epoch_start(self, trainer, pl_module):
        self.found.append(self.size(pl_module))


def count(footprint):
    def size(pl_module):
        training = pl_module.training
        pl_module.eval()
        total = footprint(pl_module.network).total(alive_by_block(pl_module.network))
        pl_module.train(training)
        return total

    return size


def left(model):
    return [int(alive_units(model.network, group).sum()) for group in unit_groups(model.network)]


class Fixed(Score):
    """Scores that a test has chosen, and how often they were asked for."""

    def __init__(self, scores=None):
        super().__init__(0)
        self.scores, self.asked = scores, 0

    def accumulate(self, network, batches, loss):
        self.asked += 1
        scores = {"conv1": torch.arange(6.0), "conv2": torch.arange(8.0), "fc1": torch.arange(10.0)}
        return self.scores or scores, 1


@pytest.mark.parametrize(
    ("budget", "footprint", "first"),
    [(Budget(neurons=200), neurons, ALL_NEURONS), (Budget(synapses=4000), synapses, None)],
)
def test_the_size_falls_along_the_schedule_to_its_budget(tmp_path, budget, footprint, first):
    """Linear in three events; from the size before the first one."""
    sizes, before = Sizes(count(footprint)), Sizes(count(footprint))
    pruning = FSCPruning(budget=budget, schedule=Schedule(1, 3), growth="linear", score=Random(1))
    fit(tmp_path, [before, pruning, sizes], module(None), epochs=5)
    start = before.found[1]
    assert first in (None, start)
    assert pruning.first_size == start
    assert sizes.found[0] == start
    for event, size in enumerate(sizes.found[1:4], start=1):
        limit = start + (budget.amount - start) * event / 3
        assert 0.7 * limit < size <= limit  # the next unit would have been one too many
    assert sizes.found[4] == sizes.found[3]


def test_only_as_many_units_go_as_the_budget_asks(tmp_path):
    """Rising scores: channel 0 of each layer and neuron 0 go first (equal scores: the last layer first)."""
    _, model = fit(
        tmp_path,
        [FSCPruning(budget=Budget(neurons=ALL_NEURONS - 70), schedule=Schedule(0, 0), score=Fixed())],
        epochs=1,
    )
    # 1 + 16 neurons of fc1 and conv2 leave 53 to go; channel 0 of conv1 has 64.
    assert left(model) == [5, 7, 9]
    assert not any(alive_units(model.network, group)[0] for group in unit_groups(model.network))


def test_ranking_by_layer_takes_the_same_share_of_every_layer(tmp_path):
    """Halves of 6, 8 and 10 units in two events, though every score of fc1 is above all others."""
    scores = {"conv1": torch.arange(6.0), "conv2": torch.arange(8.0), "fc1": 100 + torch.arange(10.0)}
    pruning = FSCPruning(0.5, schedule=Schedule(0, 1), growth="linear", score=Fixed(scores), ranking="layer")
    _, model = fit(tmp_path, [pruning], epochs=2)
    assert left(model) == [3, 4, 5]
    assert alive_units(model.network, unit_groups(model.network)[0]).tolist() == [False] * 3 + [True] * 3


def test_ranking_by_layer_meets_a_budget(tmp_path):
    """Channels have 64, 64, ... and 16, ... neurons; the ranks from below: 1/20, 1/16, 1/12, 3/20, 3/16, 1/4."""
    pruning = FSCPruning(
        budget=Budget(neurons=ALL_NEURONS - 90), schedule=Schedule(0, 0), score=Fixed(), ranking="layer"
    )
    _, model = fit(tmp_path, [pruning], epochs=1)
    # 1 + 16 + 64 neurons, then 1 + 16: conv1's second channel would not be needed.
    assert left(model) == [5, 6, 8]


def test_energy_is_limited_after_the_last_event_too(tmp_path):
    """What training does to the rates is overdone here: the norms are shifted."""

    class Louder(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 4:
                with torch.no_grad():
                    for _, block in pl_module.network.named_blocks():
                        if block.norm is not None:
                            block.norm.bias += 1.0

    score, plan = Fixed(), PlannedEnergy()
    pruning = FSCPruning(budget=Budget(energy_j=BUDGET), schedule=Schedule(1, 2), growth="linear", score=score)
    fit(tmp_path, [Louder(), plan.before, pruning, plan.after], module(None), epochs=6)
    (none, same), first, *later = plan.sizes
    assert none == same > BUDGET
    assert first[1] <= (first[0] + BUDGET) / 2 < first[0]
    assert later[2][0] > BUDGET, "louder"
    for before, after in later:
        assert after == before if before <= BUDGET else after <= BUDGET
    assert [pruning.due(epoch) for epoch in range(7)] == [False] + 6 * [True]
    exceeded = sum(before > BUDGET for before, _ in later)
    assert score.asked == 1 + exceeded < 5, "scores are asked for only where something has to go"
    assert [pruning.settled(epoch) for epoch in range(5)] == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": Budget(neurons=100)}, r"neurons=100 can't be met: .*min_units=2, and the least is 164"),
        ({"budget": Budget(neurons=400), "units": ["neuron"]}, r"neurons=400 can't be met: each of 1 groups"),
        ({"budget": Budget(synapses=100)}, r"synapses=100 can't be met"),
    ],
)
def test_an_impossible_budget_stops_before_training(tmp_path, options, message):
    class NoTraining(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            raise AssertionError("training began")

    with pytest.raises(ConfigurationError, match=message):
        fit(tmp_path, [FSCPruning(schedule=Schedule(1, 2), **options), NoTraining()], module(None))


def test_the_least_that_is_named_can_be_reached(tmp_path):
    """2 channels of 64, 2 of 16, 2 neurons, 2 outputs."""
    assert 2 * 64 + 2 * 16 + 2 + 2 == 164
    _, model = fit(tmp_path, [FSCPruning(budget=Budget(neurons=164), schedule=Schedule(0, 0))], epochs=1)
    assert left(model) == [2, 2, 2]


@pytest.mark.parametrize("budget", [Budget(synapses=100), Budget(energy_j=1e-12)])
def test_a_budget_that_depends_on_weights_or_rates_stops_at_the_event(tmp_path, budget):
    seen = []

    class Look(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            seen.append(trainer.current_epoch)

    with pytest.raises(ConfigurationError, match=f"{budget.quantity}=.*can't be met"):
        fit(tmp_path, [Look(), FSCPruning(budget=budget, schedule=Schedule(1, 1))])
    assert seen == [0, 1]


def test_a_cost_makes_dear_units_go_first(tmp_path):
    """All scores equal: the units with the most synapses go, but for the two cheapest of each layer."""
    ones = {"conv1": torch.ones(6), "conv2": torch.ones(8), "fc1": torch.ones(10)}
    model = module(None)
    costs = SynapseCost().per_unit(model.network, [], None)
    free = [cost for name in costs for cost in sorted(costs[name].tolist())[2:]]
    dearest = sorted(free)[-6:]
    pruning = FSCPruning(fraction=0.25, schedule=Schedule(0, 0), score=Fixed(ones), cost=SynapseCost())
    fit(tmp_path, [pruning], model, epochs=1)
    dead = {
        (group.name, unit)
        for group in unit_groups(model.network)
        for unit in range(group.units)
        if not alive_units(model.network, group)[unit]
    }
    assert {name for name, _ in dead} == {"conv1", "conv2"}
    assert sorted(float(costs[name][unit]) for name, unit in dead) == dearest


def test_a_unit_that_costs_nothing_stays_unless_it_does_nothing(tmp_path):
    class Free(UnitCost):
        def per_unit(self, network, batches, context):
            costs = {"conv1": torch.ones(6), "conv2": torch.ones(8), "fc1": torch.zeros(10)}
            return {name: cost.double() for name, cost in costs.items()}

    scores = {"conv1": torch.full((6,), 5.0), "conv2": torch.full((8,), 6.0), "fc1": torch.full((10,), 1e-3)}
    scores["fc1"][3] = 0.0
    pruning = FSCPruning(fraction=5 / 24, schedule=Schedule(0, 0), score=Fixed(scores), cost=Free())
    _, model = fit(tmp_path, [pruning], epochs=1)
    assert left(model) == [2, 8, 9]
    assert not model.network.block("fc1").neuron.alive[3]


def test_training_under_an_energy_cost(tmp_path):
    pruning = FSCPruning(fraction=0.5, schedule=Schedule(1, 2), cost=EnergyCost(batches=2), score=FiringRate(2))
    _, model = fit(tmp_path, [pruning])
    assert sum(left(model)) == 12


def test_scores_and_rates_are_gathered_at_events_alone(tmp_path):
    """16 training batches; 3 batches are scored at the two events, 2 are measured at the 3 checks of the budget."""
    model, hooks = module(None), []
    forwards = {True: 0, False: 0}
    model.network.register_forward_pre_hook(
        lambda network, inputs: forwards.__setitem__(network.training, forwards[network.training] + 1)
    )

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            neurons = [block.neuron for _, block in pl_module.network.named_blocks() if block.neuron is not None]
            hooks.append(sum(len(neuron._forward_hooks) for neuron in neurons))

    budget = Budget(energy_j=2e-7, batches=2)
    pruning = FSCPruning(budget=budget, schedule=Schedule(1, 2), growth="linear", score=Counted(3))
    fit(tmp_path, [pruning, Look()], model, limit_val_batches=0)
    assert hooks == [0] * 16
    assert forwards[True] == 16
    assert forwards[False] == 3 * pruning.score.asked + 2 * 3
    assert pruning.score.asked >= 2


class Counted(FiringRate):
    asked = 0

    def accumulate(self, network, batches, loss):
        self.asked += 1
        return super().accumulate(network, batches, loss)


def test_recovery_keeps_the_network_unsettled(tmp_path):
    pruning = FSCPruning(schedule=Schedule(1, 4, every=2), recovery=2)
    assert pruning.last_event == 3
    assert [pruning.settled(epoch) for epoch in range(2, 7)] == [False, False, False, True, True]
    checkpoint = CompressedCheckpoint(tmp_path, filename="best", monitor="val/loss", mode="min", save_top_k=-1)
    pruning = FSCPruning(fraction=0.3, schedule=Schedule(1, 1), recovery=2, score=Random())
    trainer, _ = fit(tmp_path, [CodebookReclustering(Schedule(0)), pruning, checkpoint], epochs=5)
    epochs = {torch.load(path, weights_only=True)["epoch"] for path in checkpoint.best_k_models}
    assert epochs == {3, 4}
    assert compression_settled(trainer)


@pytest.mark.parametrize(
    ("epochs", "options", "message"),
    [
        (3, {"schedule": Schedule(1, 1), "recovery": 2}, "recovery: got 2, .* at epoch 3, .* Expected at most 1"),
        (2, {"schedule": Schedule(1, 5), "recovery": 1}, "schedule.stop: got 5, .* Expected at most 1"),
        (2, {"schedule": Schedule(1, 5), "budget": Budget(neurons=300)}, "schedule.stop: got 5"),
        (5, {"schedule": Schedule(1, 6, every=2), "recovery": 1}, "schedule.stop: got 6, .* at epoch 5"),
        (5, {"schedule": Schedule(1, 8, every=2)}, "schedule.stop: got 8, .* at epoch 7, .* at most 5"),
    ],
)
def test_training_that_ends_too_early_is_refused(tmp_path, epochs, options, message):
    with pytest.raises(ConfigurationError, match=f"FSCPruning.{message}"):
        fit(tmp_path, [FSCPruning(score=Random(), **options)], epochs=epochs, limit_train_batches=1)


def test_training_that_ends_after_the_recovery_is_long_enough(tmp_path):
    pruning = FSCPruning(schedule=Schedule(1, 1), recovery=2, score=Random())
    fit(tmp_path, [pruning], epochs=4, limit_train_batches=1)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"fraction": 0.3, "budget": Budget(neurons=9)}, "expected one of fraction and budget"),
        ({"recovery": -1}, "recovery: got -1"),
        ({"growth": "square"}, "growth: got 'square'"),
        ({"fraction": -0.1}, "fraction: got -0.1"),
        ({"ranking": "global"}, "ranking: got 'global'"),
    ],
)
def test_a_bad_option_is_named(options, named):
    with pytest.raises(ConfigurationError, match=named):
        FSCPruning(**options)
