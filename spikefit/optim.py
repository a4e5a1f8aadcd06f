"""Learning rate schedules that torch lacks."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from spikefit.errors import ConfigurationError, check_range


class WarmupCosine(LambdaLR):
    """A linear rise to the learning rate of each parameter group, then half a cosine down to a share of it.

    Adam knows nothing of its gradients when it starts, and its first steps on a trained network are as long as any:
    they should be short. Unlike ``OneCycleLR`` this keeps the ratio between parameter groups, such as codebooks'.

    Args:
        optimizer: whose learning rates are followed.
        total_steps: steps until the end of the descent; the rate stays where it is from then on. None for the length of
            the training, which :class:`~spikefit.module.SpikingClassifier` tells (:meth:`set_total`).
        warmup_steps: those of the rise among them; 0 for none. A number below 1 is a share of ``total_steps``.
        final: share of the learning rate at the end, in [0, 1].

    Raises:
        ConfigurationError: for numbers of steps or a share that are not allowed.
    """

    def __init__(
        self, optimizer: Optimizer, total_steps: int | None = None, warmup_steps: float = 0, final: float = 0.0
    ) -> None:
        check_range("final", final, 0, 1)
        check_range("warmup_steps", warmup_steps, 0)
        if total_steps is not None:
            check_range("total_steps", total_steps, 1)
            _check_rise(warmup_steps, total_steps)
        self.total_steps, self.warmup_steps, self.final = total_steps, warmup_steps, final
        super().__init__(optimizer, self.share)

    def set_total(self, steps: float) -> None:
        """Make ``steps`` the length, unless ``total_steps`` was given.

        Raises:
            ConfigurationError: for a training without an end, or one that is no longer than the rise.
        """
        if self.total_steps is not None:
            return
        if not 1 <= steps < math.inf:
            raise ConfigurationError(
                "total_steps: got None, which is the length of the training, but that has no end; expected a number of "
                "steps, or trainer.max_epochs or trainer.max_steps."
            )
        _check_rise(self.warmup_steps, int(steps))
        self.total_steps = int(steps)
        for group, rate in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = rate * self.share(self.last_epoch)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def share(self, step: int) -> float:
        """Learning rate of step ``step`` (from 0), relative to the highest."""
        if self.total_steps is None:
            if step == 0:  # while it is made
                return 1.0
            raise ConfigurationError("total_steps: got None, expected a number of steps, here or by set_total.")
        rise = self.warmup_steps if self.warmup_steps >= 1 else int(self.warmup_steps * self.total_steps)
        if step < rise:
            return (step + 1) / (rise + 1)
        progress = min(1.0, (step - rise) / (self.total_steps - rise))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2


def _check_rise(warmup_steps: float, total_steps: int) -> None:
    if warmup_steps >= 1:  # a share always leaves a descent
        check_range("warmup_steps", warmup_steps, 0, total_steps - 1)
