"""Learning rates against the formula of torch's own cosine, and by hand."""

import copy

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from spikefit.errors import ConfigurationError
from spikefit.schedules import WarmupCosine


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
    expected = rates(CosineAnnealingLR(optimizer(), 40, eta_min=0.3), 40)[:, 0]
    torch.testing.assert_close(rates(WarmupCosine(optimizer(), 40, final=0.3), 40)[:, 0], expected)


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


@pytest.mark.parametrize(
    ("options", "named"),
    [({"total_steps": 0}, "total_steps"), ({"warmup_steps": 10}, "warmup_steps"), ({"final": 2.0}, "final")],
)
def test_a_bad_option_is_named(options, named):
    with pytest.raises(ConfigurationError, match=named):
        WarmupCosine(optimizer(), **{"total_steps": 10, **options})
