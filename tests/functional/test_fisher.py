"""The score against gates that are really there, one sample at a time."""

import torch
from torch import nn

from spikefit.functional.fisher import fisher_sum, spike_contribution


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
