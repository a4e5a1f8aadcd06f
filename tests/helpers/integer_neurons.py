"""Integer neurons for tests: random rules, currents and constants, and gradients of a scan."""

from dataclasses import replace

import torch
from hypothesis import strategies as st

from spikefit.functional.integer_arithmetic import IntegerDynamics

LEAKS = {
    "none": IntegerDynamics(),
    "linear": IntegerDynamics("linear"),
    "truncated": IntegerDynamics("decay"),
    "floored": IntegerDynamics("decay", decay_bits=3, decay_rounding="floor"),
    "shifted": IntegerDynamics("decay", "shift"),
}


@st.composite
def dynamics(draw, leaks=tuple(LEAKS), most=(1, 1, 3)):
    bits = draw(st.sampled_from([None, 6, 8, 24]))
    return replace(
        LEAKS[draw(st.sampled_from(leaks))],
        reset=draw(st.sampled_from(["zero", "subtract"])),
        overflow=draw(st.sampled_from(["saturate", "wrap"])),
        max_spikes=draw(st.sampled_from(most)),
        state_min=None if bits is None else -(2 ** (bits - 1)),
        state_max=None if bits is None else 2 ** (bits - 1) - 1,
        surrogate=draw(st.sampled_from(["atan", "sigmoid", "triangle"])),
    )


def leak_of(rule, share):
    """An integer leak of the kind that ``rule`` has; ``share`` in [0, 1] says how much is lost."""
    if rule.leak != "decay":
        return round(8 * share)
    return 1 + round(6 * share) if rule.decay == "shift" else round(2**rule.decay_bits * share)


def drawn(rule, frames, batch, channels, sides, dtype, seed):
    """Currents and constants, some of whose membranes leave a narrow range."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(-90, 91, (frames, batch, channels, *sides), generator=generator).to(dtype)
    bias = torch.randint(-20, 21, (channels,), generator=generator).double()
    threshold = torch.randint(1, 60, (channels,), generator=generator).double()
    share = torch.rand(channels, generator=generator)
    leak = torch.tensor([leak_of(rule, float(s)) for s in share], dtype=torch.float64)
    slope = torch.rand(channels, generator=generator, dtype=torch.float64) / 20 + 0.01
    alive = torch.rand(channels, generator=generator) < 0.8
    return y, (bias, threshold, leak, slope), alive


def gradients(scan, y, constants, *args):
    """Spikes, and the gradients of y and the constants for a loss that weights every spike differently."""
    leaves = [x.clone().requires_grad_() for x in (y, *constants)]
    spikes = scan(leaves[0], *args[:1], *leaves[1:], *args[1:])
    weight = torch.linspace(-1, 2, spikes.numel(), dtype=torch.float64, device=spikes.device)
    (spikes * weight.view_as(spikes).to(spikes.dtype)).sum().backward()
    return spikes.detach(), [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
