"""Losses on logits, one value a sample."""

import torch.nn.functional as F
from torch import Tensor, nn

from spikefit.errors import check_range


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

    def forward(self, logits: Tensor, labels: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Loss of each sample, in float32; what the network saw (``inputs``) has no say."""
        return F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing, reduction="none")
