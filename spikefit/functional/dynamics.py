"""Description of a population's neurons, and of the norm before them, for the scans of all devices."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikefit.errors import check_choice
from spikefit.functional.devices import constants
from spikefit.functional.neuron_models import Leak, Reset
from spikefit.functional.surrogate import SURROGATES


@dataclass(frozen=True)
class Dynamics:
    """Properties shared by all neurons of a population, except the amount of the leak, which may be learned.

    Attributes:
        threshold: a neuron fires when its membrane is at or above this value.
        leak: ``none``, ``decay`` or ``linear``.
        reset: ``subtract`` or ``zero``.
        surrogate: a name in :data:`spikefit.functional.surrogate.SURROGATES`.
        alpha: sharpness of the surrogate.

    Raises:
        ConfigurationError: for an unknown leak, reset or surrogate.

    Example:
        >>> from spikefit.functional.lif import multi_step
        >>> multi_step(torch.full((4, 1), 0.6), Dynamics(threshold=1.0)).flatten().tolist()
        [0.0, 1.0, 0.0, 1.0]
    """

    threshold: float = 1.0
    leak: Leak = "none"
    reset: Reset = "subtract"
    surrogate: str = "atan"
    alpha: float = 2.0

    def __post_init__(self) -> None:
        check_choice("leak", self.leak, ("none", "decay", "linear"))
        check_choice("reset", self.reset, ("subtract", "zero"))
        check_choice("surrogate", self.surrogate, SURROGATES)


@dataclass(frozen=True)
class Norm:
    """Parameters of a batch normalisation ``gain * (y - mean) / sqrt(var + eps) + bias``.

    Attributes:
        gain, bias: ``[C]``.
        mean, var: ``[C]``; None for the statistics of the batch, through which gradients flow.
        eps: added to the variance.
    """

    gain: Tensor
    bias: Tensor
    mean: Tensor | None
    var: Tensor | None
    eps: float


def memory_order(x: Tensor) -> tuple[list[int], list[int]]:
    """Permutation of the dimensions of ``x`` to memory order, with the first one kept first, and its inverse."""
    order = [0, *sorted(range(1, x.dim()), key=lambda dim: -x.stride()[dim])]
    return order, [order.index(dim) for dim in range(len(order))]


def apply_leak(state: Tensor, leak: Leak, amount: Tensor | float) -> Tensor:
    """The membrane ``state`` after the leak of one step.

    ``amount`` is the decay factor or the linear loss; it is ignored for ``leak="none"``.
    """
    if leak == "decay":
        return state * amount
    if leak == "linear":
        loss = amount.to(state) if isinstance(amount, Tensor) else constants((amount,), state.dtype, state.device)[0]
        return state - state.sign() * torch.minimum(state.abs(), loss)
    return state
