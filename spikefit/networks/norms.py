"""Normalisations that fold into thresholds and biases, and never into weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from spikefit.errors import check_choice
from spikefit.functional.lif import Norm


class PositiveBatchNorm(_BatchNorm):
    """Batch normalisation whose gain is positive, so that it folds into thresholds and never into weights.

    With ``g = gain / sqrt(running_var + eps)`` a neuron behind it fires exactly as one without a norm, with threshold
    ``theta / g`` and bias ``(beta - g * running_mean) / g``.

    Shape:
        ``[N, C]`` or ``[N, C, H, W]``, same out.
    """

    minimum_gain = 1e-3
    centres = True  # whether training takes the mean of a batch away

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (2, 4):
            raise ValueError(f"expected a 2D or 4D input, got {input.dim()}D.")

    @property
    def gain(self) -> Tensor:
        """The positive gain ``[C]``: the magnitude of ``weight``, kept away from zero."""
        return _positive(self.weight, self.minimum_gain)

    def forward(self, input: Tensor) -> Tensor:
        """Normalised ``input``, by batch statistics in training and by running ones in evaluation."""
        self._check_input_dim(input)
        momentum = self._next_momentum() if self.training else 0.0
        if not isinstance(momentum, Tensor):
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.gain, self.bias, self.training, momentum, self.eps
            )
        assert self.running_mean is not None
        assert self.running_var is not None
        mean, var = torch.zeros_like(self.running_mean), torch.ones_like(self.running_var)
        normed = F.batch_norm(input, mean, var, self.gain, self.bias, True, 1.0, self.eps)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(var, momentum)
        return normed

    def terms(self) -> Norm:
        """The norm as :func:`~spikefit.functional.lif.normed_multi_step` takes it; see :meth:`track`."""
        mean, var = (None, None) if self.training else (self.running_mean, self.running_var)
        return Norm(self.gain, self.bias, mean, var, self.eps)

    @torch.no_grad()
    def track(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics towards the mean and the (biased) variance ``[C]`` of ``count`` values."""
        assert self.running_mean is not None
        assert self.running_var is not None
        momentum = self._next_momentum()
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_(var.to(self.running_var) * (count / max(1, count - 1)), momentum)

    @contextmanager
    def untracked(self) -> Iterator[None]:
        """Forward passes in here leave the running statistics as they are."""
        kept = {name: buffer for name, buffer in self.named_buffers() if buffer is not None}
        for name, buffer in kept.items():
            setattr(self, name, buffer.clone())
        try:
            yield
        finally:
            for name, buffer in kept.items():
                setattr(self, name, buffer)

    def _next_momentum(self) -> float | Tensor:
        """The share of the batch in the running statistics; without a momentum, a tensor for a cumulative average."""
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        if self.momentum is not None:
            return self.momentum
        return self.num_batches_tracked.double().reciprocal().to(self.running_mean)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Per channel ``g`` and ``bias / g`` such that the norm is ``y = g * (x + bias / g)``, in float64."""
        assert self.running_mean is not None
        assert self.running_var is not None
        return _folded(self.gain, self.bias, self.running_mean, self.running_var, self.eps)


def _positive(weight: Tensor, minimum: float) -> Tensor:
    return weight.abs().clamp_min(minimum)


def _folded(gain: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    g = gain.double() / (var.double() + eps).sqrt()
    return g, bias.double() / g - mean.double()


def folded_norms(norms: Sequence[PositiveBatchNorm]) -> tuple[Tensor, Tensor]:
    """What :meth:`PositiveBatchNorm.folded` gives of each, one after the other: ``[sum of channels]``, float64.

    Norms that are alike are worked out together, in fewer operations.
    """
    first = norms[0]
    alike = (PositiveBatchNorm.folded, PositiveBatchNorm.gain, first.minimum_gain, first.eps)
    if all((type(norm).folded, type(norm).gain, norm.minimum_gain, norm.eps) == alike for norm in norms):
        parts = zip(*((norm.weight, norm.bias, norm.running_mean, norm.running_var) for norm in norms), strict=True)
        weight, bias, mean, var = (torch.cat(part) for part in parts)
        return _folded(_positive(weight, first.minimum_gain), bias, mean, var, first.eps)
    gains, biases = zip(*(norm.folded() for norm in norms), strict=True)
    return torch.cat(gains), torch.cat(biases)


class FixedNorm(PositiveBatchNorm):
    """A gain and a bias for each channel, and no statistics: the same function in training and in evaluation.

    It gives channels thresholds of their own: ``1 / gain`` in front of neurons with threshold 1. Nothing measures its
    mean (0) and variance (1), but both may be rescaled with the layer in front of it.

    Args:
        channels: number of channels.
    """

    centres = False

    def __init__(self, channels: int, eps: float = 0.0, momentum: float | None = 0.1) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.measured = True
        self.eval()

    def train(self, mode: bool = True) -> "FixedNorm":
        """Stays in evaluation."""
        return super().train(False)

    def reset_running_stats(self) -> None:
        """Keeps the statistics, also when those of all norms are measured anew."""
        if not hasattr(self, "measured"):  # while it is made
            super().reset_running_stats()


class GainNorm(PositiveBatchNorm):
    """A positive gain over the root mean square of each channel: no mean is taken away and no bias is added.

    Neurons behind it have thresholds of their own and no bias, for chips that can't add one. In training it divides by
    the root mean square of the batch.

    Args:
        channels: number of channels.
    """

    centres = False

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float | None = 0.1) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.bias.requires_grad_(False)

    def forward(self, input: Tensor) -> Tensor:
        """``input`` over its root mean square, of the batch in training and the running one in evaluation."""
        self._check_input_dim(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        over = [dim for dim in range(input.dim()) if dim != 1]
        power = self.running_var
        if self.training:
            power = input.to(torch.promote_types(input.dtype, torch.float32)).square().mean(dim=over)
            self.track(torch.zeros_like(self.running_mean), power.detach(), input.numel() // input.shape[1])
        factor = self.gain / (power + self.eps).sqrt()
        return input * factor.to(input.dtype).view(-1, *[1] * (input.dim() - 2))

    def folded(self) -> tuple[Tensor, Tensor]:
        """Per channel the factor and 0, in float64."""
        assert self.running_var is not None
        g = self.gain.double() / (self.running_var.double() + self.eps).sqrt()
        return g, torch.zeros_like(g)


NormKind = Literal["batch", "gain"]
NORMS: dict[str, type[PositiveBatchNorm]] = {"batch": PositiveBatchNorm, "gain": GainNorm}


def make_norm(kind: NormKind, channels: int) -> PositiveBatchNorm:
    """The norm called ``kind``.

    Raises:
        ConfigurationError: when there is none of that name.
    """
    check_choice("norm", kind, NORMS)
    return NORMS[kind](channels)
