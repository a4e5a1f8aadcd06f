"""The scan as a plain loop, straight from the equations, that autograd differentiates by itself."""

import math

import torch

PSEUDO = {
    "atan": lambda x, a: a / 2 / (1 + (math.pi / 2 * a * x) ** 2),
    "sigmoid": lambda x, a: a * torch.exp(-a * x) / (1 + torch.exp(-a * x)) ** 2,
    "triangle": lambda x, a: a * torch.relu(1 - a * x.abs()),
}


class Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, name, alpha):
        ctx.save_for_backward(x)
        ctx.options = name, alpha
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        name, alpha = ctx.options
        return grad * PSEUDO[name](x, alpha), None, None


def reference(current, threshold=1.0, leak="none", amount=0.0, reset="subtract", surrogate="atan", alpha=2.0):
    """Spikes of ``current`` ``[T, ...]``, one step after the other; the reset is detached."""
    u = torch.zeros_like(current[0])
    spikes = []
    for step in current:
        if leak == "decay":
            u = amount * u
        elif leak == "linear":
            u = torch.where(u.abs() > amount, u - u.sign() * amount, torch.zeros_like(u))
        v = u + step
        s = Fire.apply(v - threshold, surrogate, alpha)
        spikes.append(s)
        fired = s.detach()
        u = v - threshold * fired if reset == "subtract" else v * (1 - fired)
    return torch.stack(spikes)
