"""Networks and gradients that are not finite (NaN or infinite), by name."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from spikefit.errors import NonFiniteError


def finite(tensors: Sequence[Tensor]) -> Tensor:
    """Whether each of some tensors is finite, bool ``[len(tensors)]``, without waiting for the device."""
    if all(tensor.device.type == "cpu" for tensor in tensors):
        # A sum is fast. It is not finite if an element is not, or by overflow, hence the second look.
        return torch.tensor([math.isfinite(each.sum().item()) or bool(each.isfinite().all()) for each in tensors])
    largest = torch._foreach_norm(list(tensors), torch.inf)  # one launch for all tensors; NaN and infinity remain
    return torch.stack([value.to(largest[0].dtype) for value in largest]).isfinite()


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinite values; integers are finite."""
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel()}
    if not floating:
        return []
    return [name for name, good in zip(floating, finite(list(floating.values())).tolist(), strict=True) if not good]


def require_finite(network: nn.Module, action: str) -> None:
    """Raise unless all parameters and buffers of ``network`` are finite.

    Args:
        network: the network.
        action: what is refused, for the error message.

    Raises:
        NonFiniteError: naming the tensors.
    """
    found = non_finite(network.state_dict())
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise NonFiniteError(f"{action}: the network has NaN or infinite values in {', '.join(found[:3])}{more}.")


@contextmanager
def currents(synapses: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Context that collects whether the currents of each layer are finite, bool ``[]``, in the order of the pass."""
    found: dict[str, Tensor] = {}
    handles = [layer.register_forward_hook(partial(_note, found, name)) for name, layer in synapses.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _note(found: dict[str, Tensor], name: str, layer: nn.Module, inputs: object, output: Tensor) -> None:
    found[name] = output.detach().isfinite().all()


def first_layer(found: Mapping[str, Tensor]) -> str | None:
    """The first layer of :func:`currents` whose currents are not finite; None if there is none."""
    return next((name for name, good in found.items() if not bool(good)), None)
