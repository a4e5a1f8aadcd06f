"""Losses of the labels: cross entropy of the logits or of every time step."""

import inspect

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefit.errors import ConfigurationError, check_range
from spikefit.preflight import Preflight


class CrossEntropy(nn.Module):
    """Cross entropy of each sample.

    Args:
        label_smoothing: share of the label that is spread over all classes, in [0, 1].

    Shape:
        logits ``[B, classes]``, labels ``[B]`` -> ``[B]``.

    Example:
        >>> loss = CrossEntropy()
        >>> loss(torch.zeros(3, 10), torch.tensor([0, 4, 9])).shape
        torch.Size([3])
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        check_range("label_smoothing", label_smoothing, 0, 1)
        self.label_smoothing = label_smoothing

    def forward(
        self, logits: Tensor, labels: Tensor, inputs: Tensor | None = None, steps: Tensor | None = None
    ) -> Tensor:
        """Loss of each sample ``[B]``, in float32; ``inputs`` and ``steps`` are ignored."""
        return F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing, reduction="none")


class TemporalCrossEntropy(CrossEntropy):
    """Temporal efficient training (TET): mean cross entropy of the time steps (Deng et al. 2022, arXiv 2202.11946).

    In training, the loss of each sample is
    ``(1 - regularizer) * mean_t CE(steps[t], labels) + regularizer * mean_t,c (steps[t, c] - target)**2``.
    In evaluation, and therefore for pruning scores, it is the cross entropy of the logits only.

    Args:
        label_smoothing: share of the label that is spread over all classes, in [0, 1].
        regularizer: weight of the mean squared distance to ``target``, in [0, 1].
        target: value towards which the regularizer pulls the outputs of every step; the authors use the threshold of
            the neurons.

    Shape:
        logits ``[B, classes]``, labels ``[B]``, steps ``[T, B, classes]`` -> ``[B]``.

    Raises:
        ConfigurationError: for values that are not allowed, without ``steps`` in training, or, before training, for a
            network with a spiking readout.

    Example:
        >>> loss, steps = TemporalCrossEntropy(regularizer=0.05), torch.zeros(4, 3, 10)
        >>> loss(steps.mean(0), torch.tensor([0, 4, 9]), steps=steps).shape
        torch.Size([3])
    """

    def __init__(self, label_smoothing: float = 0.0, regularizer: float = 0.0, target: float = 1.0) -> None:
        super().__init__(label_smoothing)
        check_range("regularizer", regularizer, 0, 1)
        self.regularizer, self.target = regularizer, target

    def preflight(self, check: Preflight) -> None:
        """Raise for a spiking readout: its output in one step is 0 or 1, not a score for the cross entropy."""
        readout = check.module.network.readout
        if readout != "membrane":
            raise ConfigurationError(
                f"readout: got {readout!r}, expected membrane: {type(self).__name__} needs a score in every step."
            )

    def forward(
        self, logits: Tensor, labels: Tensor, inputs: Tensor | None = None, steps: Tensor | None = None
    ) -> Tensor:
        """Loss of each sample ``[B]``, in float32."""
        if not self.training:
            return super().forward(logits, labels)
        if steps is None:
            raise ConfigurationError("steps: got None, expected the readout's output at every step, [T, B, classes].")
        scores = steps.float()
        entropy = super().forward(scores.flatten(0, 1), labels.repeat(len(scores)))
        entropy = entropy.unflatten(0, scores.shape[:2]).mean(dim=0)
        if not self.regularizer:
            return entropy
        return torch.lerp(entropy, (scores - self.target).square().mean(dim=(0, 2)), self.regularizer)


def require_loss_arguments(loss: nn.Module) -> None:
    """Raise unless a loss can be called with logits, labels, inputs and steps.

    Raises:
        ConfigurationError: if it can't; the message names the loss and its arguments.
    """
    signature = inspect.signature(loss.forward)
    try:
        signature.bind(None, None, None, None)
    except TypeError as error:
        raise ConfigurationError(
            f"loss: {type(loss).__name__}.forward takes ({', '.join(signature.parameters)}), expected (logits, labels, "
            "inputs=None, steps=None)."
        ) from error
