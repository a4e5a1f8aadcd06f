"""Knowledge distillation: a loss on labels and on the outputs of a trained network."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefit.checkpoints import read_checkpoint
from spikefit.errors import ConfigurationError, check_range
from spikefit.losses import CrossEntropy
from spikefit.module import SpikingClassifier
from spikefit.preflight import Preflight


class Distillation(nn.Module):
    """Loss against the labels and against the outputs of a frozen teacher (Hinton et al. 2015, arXiv 1503.02531).

    In training, the loss of each sample is ``(1 - weight) * loss + weight * T**2 * KL(teacher / T || student / T)``,
    with the temperature ``T`` on the logits. In evaluation, and therefore for pruning scores, it is the loss of the
    labels only.

    The teacher is read when training begins. It is not stored in checkpoints, and is not needed to test or deploy.

    Args:
        teacher: checkpoint of a network with the same inputs and classes, usually the float network.
        weight: weight of the teacher's term, in [0, 1].
        temperature: divisor of the logits, above 0.
        loss: loss of the labels; :class:`~spikefit.losses.CrossEntropy` by default.

    Shape:
        logits ``[B, classes]``, labels ``[B]``, inputs ``[T, B, ...]``, steps ``[T, B, classes]`` -> ``[B]``.

    Raises:
        ConfigurationError: for values that are not allowed, or without inputs in training.
        CheckpointError: at the start of training, if the teacher is missing or damaged.

    Example:
        >>> loss = Distillation("runs/float/version_0/checkpoints/last.ckpt", weight=0.9).eval()
        >>> loss(torch.zeros(2, 10), torch.tensor([3, 5])).shape  # in evaluation, without the teacher
        torch.Size([2])
    """

    def __init__(
        self, teacher: str, weight: float = 0.5, temperature: float = 2.0, loss: nn.Module | None = None
    ) -> None:
        super().__init__()
        check_range("weight", weight, 0, 1)
        if not temperature > 0:
            raise ConfigurationError(f"temperature: got {temperature!r}, expected a value above 0.")
        self.teacher, self.weight, self.temperature = teacher, weight, temperature
        self.loss = CrossEntropy() if loss is None else loss
        self._teacher: list[SpikingClassifier] = []  # in a list, so that it is not a submodule and in no checkpoint

    def preflight(self, check: Preflight) -> None:
        """Raise before training if the teacher's checkpoint can't be read; also check the loss of the labels."""
        if check.fitting:
            self._require_teacher()
        ask = getattr(self.loss, "preflight", None)
        if callable(ask):
            ask(check)

    def _require_teacher(self) -> None:
        read_checkpoint(Path(self.teacher), "teacher")

    @torch.no_grad()
    def answers(self, inputs: Tensor) -> Tensor:
        """The teacher's logits ``[B, classes]`` for ``inputs`` ``[T, B, ...]``."""
        if not self._teacher:
            self._require_teacher()
            teacher = SpikingClassifier.load_from_checkpoint(self.teacher, map_location=inputs.device)
            self._teacher.append(teacher.eval().requires_grad_(False))
        return self._teacher[0].to(inputs.device)(inputs)

    def forward(
        self, logits: Tensor, labels: Tensor, inputs: Tensor | None = None, steps: Tensor | None = None
    ) -> Tensor:
        """Loss of each sample ``[B]``, in float32."""
        by_labels = self.loss(logits, labels, inputs, steps)
        if not self.training:
            return by_labels
        if inputs is None:
            raise ConfigurationError("inputs: got None, expected the network's inputs, which the teacher needs too.")
        taught = (self.answers(inputs).float() / self.temperature).log_softmax(dim=1)
        student = (logits.float() / self.temperature).log_softmax(dim=1)
        by_teacher = F.kl_div(student, taught, reduction="none", log_target=True).sum(dim=1) * self.temperature**2
        return torch.lerp(by_labels, by_teacher, self.weight)
