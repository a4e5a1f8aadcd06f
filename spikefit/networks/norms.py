"""Normalisations that fold into thresholds and biases instead of into weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from spikefit.errors import ConfigurationError, check_choice
from spikefit.functional.dynamics import Norm


class PositiveBatchNorm(_BatchNorm):
    """Batch normalisation with a positive gain, so that it folds into thresholds instead of into weights.

    With ``g = gain / sqrt(running_var + eps)``, a neuron with threshold ``theta`` after the norm fires exactly like a
    neuron without a norm, with threshold ``theta / g`` and bias ``(beta - g * running_mean) / g``. Arguments as in
    :class:`torch.nn.BatchNorm2d`.

    Shape:
        ``[N, C]`` or ``[N, C, H, W]`` -> the same shape.

    Example:
        >>> norm = PositiveBatchNorm(2)
        >>> _ = norm.weight.data.copy_(torch.tensor([-2.0, 0.0]))
        >>> [round(gain, 3) for gain in norm.gain.tolist()]
        [2.0, 0.001]
    """

    minimum_gain = 1e-3
    centres = True  # whether training subtracts the mean of the batch

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (2, 4):
            raise ValueError(f"expected a 2D or 4D input, got {input.dim()}D.")

    @property
    def gain(self) -> Tensor:
        """The positive gain ``[C]``: ``|weight|``, at least ``minimum_gain``."""
        return _positive(self.weight, self.minimum_gain)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``input``, by batch statistics in training and by running statistics in evaluation."""
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
        """The norm as an argument of :func:`~spikefit.functional.lif.normed_multi_step`; see :meth:`track`."""
        mean, var = (None, None) if self.training else (self.running_mean, self.running_var)
        return Norm(self.gain, self.bias, mean, var, self.eps)

    @torch.no_grad()
    def track(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Update the running statistics with the mean and the (biased) variance ``[C]`` of ``count`` values."""
        assert self.running_mean is not None
        assert self.running_var is not None
        momentum = self._next_momentum()
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_(var.to(self.running_var) * (count / max(1, count - 1)), momentum)

    @contextmanager
    def untracked(self) -> Iterator[None]:
        """Context in which forward passes do not change the running statistics."""
        kept = {name: buffer for name, buffer in self.named_buffers() if buffer is not None}
        for name, buffer in kept.items():
            setattr(self, name, buffer.clone())
        try:
            yield
        finally:
            for name, buffer in kept.items():
                setattr(self, name, buffer)

    def _next_momentum(self) -> float | Tensor:
        """Weight of the batch in the running statistics; a tensor, for a cumulative average, without a momentum."""
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        if self.momentum is not None:
            return self.momentum
        return self.num_batches_tracked.double().reciprocal().to(self.running_mean)

    def folded(self) -> tuple[Tensor, Tensor]:
        """``g`` and ``bias / g`` per channel, such that the norm is ``y = g * (x + bias / g)``, in float64."""
        assert self.running_mean is not None
        assert self.running_var is not None
        return _folded(self.gain, self.bias, self.running_mean, self.running_var, self.eps)


def _positive(weight: Tensor, minimum: float) -> Tensor:
    return weight.abs().clamp_min(minimum)


def _folded(gain: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    g = gain.double() / (var.double() + eps).sqrt()
    return g, bias.double() / g - mean.double()


def folded_norms(norms: Sequence[PositiveBatchNorm]) -> tuple[Tensor, Tensor]:
    """Concatenated results of :meth:`PositiveBatchNorm.folded`: ``[sum of channels]`` each, float64.

    Norms of the same kind are computed together, in fewer operations.
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
    """Gain and bias per channel without statistics: the same function in training and in evaluation.

    Before neurons with threshold 1 it gives each channel its own threshold, ``1 / gain``. Its mean (0) and variance (1)
    are not measured, but both may be rescaled together with the preceding layer.

    Args:
        channels: number of channels.
        eps: added to the variance.
        momentum: ignored.

    Example:
        >>> norm = FixedNorm(2).train()
        >>> norm(torch.tensor([[3.0, 4.0]])).tolist(), norm.training
        ([[3.0, 4.0]], False)
    """

    centres = False

    def __init__(self, channels: int, eps: float = 0.0, momentum: float | None = 0.1) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.measured = True
        self.eval()

    def train(self, mode: bool = True) -> "FixedNorm":
        """Stay in evaluation mode."""
        return super().train(False)

    def reset_running_stats(self) -> None:
        """Keep the statistics, even when those of all norms are reset."""
        if not hasattr(self, "measured"):  # only during construction
            super().reset_running_stats()


class GainNorm(PositiveBatchNorm):
    """Division by the root mean square of each channel and a positive gain; no mean is subtracted, no bias added.

    It folds into one threshold per channel and no bias, for chips that cannot add one. In training it divides by the
    root mean square of the batch.

    Args:
        channels: number of channels.
        eps: added to the mean square.
        momentum: weight of the batch in the running mean square; None for a cumulative average.

    Example:
        >>> norm = GainNorm(1)
        >>> norm(torch.tensor([[3.0], [4.0]])).square().mean().round(decimals=3).item()
        1.0
    """

    centres = False

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float | None = 0.1) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.bias.requires_grad_(False)

    def forward(self, input: Tensor) -> Tensor:
        """Divide ``input`` by the root mean square, of the batch in training and the running one in evaluation."""
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
        """The factor and 0 per channel, in float64."""
        assert self.running_var is not None
        g = self.gain.double() / (self.running_var.double() + self.eps).sqrt()
        return g, torch.zeros_like(g)


NormKind = Literal["batch", "gain"]
NORMS: dict[str, type[PositiveBatchNorm]] = {"batch": PositiveBatchNorm, "gain": GainNorm}


def make_norm(kind: NormKind, channels: int) -> PositiveBatchNorm:
    """Make a norm of the given ``kind``.

    Raises:
        ConfigurationError: for an unknown kind.
    """
    check_choice("norm", kind, NORMS)
    return NORMS[kind](channels)


def require_folding(norm: object) -> None:
    """Raise unless ``norm`` is one of this module, which fold into thresholds and biases.

    Raises:
        ConfigurationError: names the class of ``norm`` and the norms.
    """
    if not isinstance(norm, PositiveBatchNorm):
        raise ConfigurationError(
            f"norm: got {type(norm).__name__}, expected None, or PositiveBatchNorm, FixedNorm or GainNorm of "
            "spikefit.networks, which fold into thresholds; spikefit.networks.norms.make_norm makes one."
        )
