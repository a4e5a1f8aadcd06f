"""Reference of the scan: a plain loop over the equations, differentiated by autograd."""

import math

import torch
import torch.nn.functional as F

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


def assert_equals_reference(scan, current, weight, amount, **options):
    """Equal spikes, and gradients to 1e-10 (float64) or 1e-5 (float32), of ``scan`` and the loop."""
    results = []
    for function in (scan, reference):
        i = current.clone().requires_grad_()
        a = torch.tensor(amount, dtype=current.dtype, device=current.device, requires_grad=True)
        spikes = function(i, amount=a, **options)
        (spikes * weight).sum().backward()
        results.append((spikes.detach(), i.grad, torch.zeros_like(a) if a.grad is None else a.grad))
    tolerance = 1e-10 if current.dtype == torch.float64 else 1e-5
    assert torch.equal(results[0][0], results[1][0])
    for ours, expected in zip(*results, strict=True):
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance * scale)


def composed(y, steps, dynamics, amount, gain, bias, mean, var, alive, pool, eps):
    """Norm, scan and pooling out of torch's parts, written out in time."""
    if gain is not None:
        folded = y.flatten(0, 1)
        training = mean is None
        folded = F.batch_norm(folded, mean, var, gain, bias, training, 0.0, eps)
        y = folded.unflatten(0, y.shape[:2])
    current = y.expand(steps, *y.shape[1:])
    spikes = reference(
        current, dynamics.threshold, dynamics.leak, amount, dynamics.reset, dynamics.surrogate, dynamics.alpha
    )
    spikes = spikes * alive.view(-1, *[1] * (y.dim() - 3))
    return F.avg_pool2d(spikes.flatten(0, 1), pool).unflatten(0, (steps, -1)) if y.dim() == 5 else spikes
