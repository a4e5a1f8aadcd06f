"""Learning rates against the formula of torch's own cosine, and by hand."""

import copy

import pytest
import torch
from helpers.tiny_fit import fit, module
from torch.optim.lr_scheduler import CosineAnnealingLR

from spikefit.errors import ConfigurationError
from spikefit.optim import WarmupCosine


def optimizer():
    groups = [{"params": [torch.ones(1, requires_grad=True)], "lr": lr} for lr in (1.0, 0.1)]
    return torch.optim.SGD(groups)


def rates(scheduler, steps):
    found = []
    for _ in range(steps):
        found.append(scheduler.get_last_lr())
        scheduler.optimizer.step()
        scheduler.step()
    return torch.tensor(found)


def test_without_warmup_it_is_half_a_cosine():
    expected = rates(CosineAnnealingLR(optimizer(), 40), 40)
    torch.testing.assert_close(rates(WarmupCosine(optimizer(), 40), 40), expected)


def test_the_rise_keeps_the_ratio_of_the_groups_and_the_end_stays():
    found = rates(WarmupCosine(optimizer(), 10, warmup_steps=3), 14)
    torch.testing.assert_close(found[:4, 0], torch.tensor([0.25, 0.5, 0.75, 1.0]))
    torch.testing.assert_close(found[:, 1], 0.1 * found[:, 0])
    assert (found[3:].diff(dim=0) <= 0).all()
    assert (found[10:] == 0).all()


def test_it_resumes_in_the_middle():
    whole = WarmupCosine(optimizer(), 20, warmup_steps=4)
    expected = rates(whole, 20)
    first = WarmupCosine(optimizer(), 20, warmup_steps=4)
    rates(first, 9)
    state = [copy.deepcopy(part.state_dict()) for part in (first.optimizer, first)]
    second = WarmupCosine(optimizer(), 20, warmup_steps=4)
    second.optimizer.load_state_dict(state[0])
    second.load_state_dict(state[1])
    torch.testing.assert_close(rates(second, 11), expected[9:])


def test_the_length_may_be_told_later():
    expected = rates(WarmupCosine(optimizer(), 20, warmup_steps=4), 24)
    told = WarmupCosine(optimizer(), warmup_steps=0.2)
    told.set_total(20)
    torch.testing.assert_close(rates(told, 24), expected)


def test_a_length_that_is_given_stays():
    scheduler = WarmupCosine(optimizer(), 20)
    scheduler.set_total(5)
    assert scheduler.total_steps == 20


def test_a_length_that_is_never_told_is_an_error():
    with pytest.raises(ConfigurationError, match="total_steps: got None"):
        rates(WarmupCosine(optimizer()), 2)
    with pytest.raises(ConfigurationError, match="no end"):
        WarmupCosine(optimizer()).set_total(float("inf"))
    with pytest.raises(ConfigurationError, match="warmup_steps: got 8"):
        WarmupCosine(optimizer(), warmup_steps=8).set_total(8)


@pytest.mark.parametrize(("interval", "accumulate", "length"), [("step", 1, 12), ("step", 2, 6), ("epoch", 1, 3)])
def test_the_module_tells_the_length_of_the_training(tmp_path, interval, accumulate, length):
    model = module(lr_scheduler=WarmupCosine, lr_interval=interval)
    trainer, _ = fit(tmp_path, [], model, epochs=3, accumulate_grad_batches=accumulate)  # of 4 batches
    (scheduler,) = (entry.scheduler for entry in trainer.lr_scheduler_configs)
    assert scheduler.total_steps == length
    assert scheduler.get_last_lr() == [0.0] * 3, "the descent ends with the training"


@pytest.mark.parametrize(
    ("options", "named"),
    [({"total_steps": 0}, "total_steps"), ({"warmup_steps": 10}, "warmup_steps")],
)
def test_a_bad_option_is_named(options, named):
    with pytest.raises(ConfigurationError, match=named):
        WarmupCosine(optimizer(), **{"total_steps": 10, **options})
