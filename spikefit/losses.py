"""Losses on logits, one value a sample.

Every loss is called as ``loss(logits, labels, inputs, steps)``: the logits ``[B, classes]``, the labels ``[B]``, what
the network saw ``[T, B, ...]``, and the readout's output at every step ``[T, B, classes]``. The logits are the mean of
the steps, or their sum where the readout spikes. Pruning scores call it with logits and labels alone, in evaluation.
"""

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
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        check_range("label_smoothing", label_smoothing, 0, 1)
        self.label_smoothing = label_smoothing

    def forward(
        self, logits: Tensor, labels: Tensor, inputs: Tensor | None = None, steps: Tensor | None = None
    ) -> Tensor:
        """Loss of each sample, in float32; ``inputs`` and ``steps`` are ignored."""
        return F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing, reduction="none")


class TemporalCrossEntropy(CrossEntropy):
    """Temporal efficient training (TET): every step shall classify by itself (Deng et al. 2022, arXiv 2202.11946).

    In training, of each sample, ``(1 - regularizer) * mean_t CE(steps[t], labels) + regularizer * mean_t,c (steps[t, c]
    - target)**2``. In evaluation, and so for pruning scores, the cross entropy of the logits alone.

    Args:
        label_smoothing: share of the label that is spread over all classes, in [0, 1].
        regularizer: share of the mean squared distance to ``target``, in [0, 1].
        target: what the regularizer pulls the outputs of every step to; the authors take the threshold of the neurons.

    Shape:
        logits ``[B, classes]``, labels ``[B]``, steps ``[T, B, classes]`` -> ``[B]``.

    Raises:
        ConfigurationError: for values that are not allowed, without ``steps`` in training, or before training for a
            network whose readout spikes.
    """

    def __init__(self, label_smoothing: float = 0.0, regularizer: float = 0.0, target: float = 1.0) -> None:
        super().__init__(label_smoothing)
        check_range("regularizer", regularizer, 0, 1)
        self.regularizer, self.target = regularizer, target

    def preflight(self, check: Preflight) -> None:
        """Refuse a readout that spikes: one step of it is 0 or 1, which no cross entropy can read as a score."""
        readout = check.module.network.readout
        if readout != "membrane":
            raise ConfigurationError(
                f"readout: got {readout!r}, expected membrane: {type(self).__name__} reads every step on its own."
            )

    def forward(
        self, logits: Tensor, labels: Tensor, inputs: Tensor | None = None, steps: Tensor | None = None
    ) -> Tensor:
        """Loss of each sample, in float32."""
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
    """Refuse a loss that can't be called with logits, labels, inputs and steps, before anything is trained.

    Raises:
        ConfigurationError: naming the loss and the arguments that it takes.
    """
    signature = inspect.signature(loss.forward)
    try:
        signature.bind(None, None, None, None)
    except TypeError as error:
        raise ConfigurationError(
            f"loss: {type(loss).__name__}.forward takes ({', '.join(signature.parameters)}), expected (logits, labels, "
            "inputs=None, steps=None)."
        ) from error
