"""Learning rate schedules that torch lacks."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from spikefit.errors import check_range


class WarmupCosine(LambdaLR):
    """A linear rise to the learning rate of each parameter group, then half a cosine down to a share of it.

    Adam knows nothing of its gradients when it starts, and its first steps on a trained network are as long as any:
    they should be short. Unlike ``OneCycleLR`` this keeps the ratio between parameter groups, such as codebooks'.

    Args:
        optimizer: whose learning rates are followed.
        total_steps: steps until the end of the descent; the rate stays where it is from then on.
        warmup_steps: those of the rise among them; 0 for none.
        final: share of the learning rate at the end, in [0, 1].

    Raises:
        ConfigurationError: for numbers of steps or a share that are not allowed.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup_steps: int = 0, final: float = 0.0) -> None:
        check_range("total_steps", total_steps, 1)
        check_range("warmup_steps", warmup_steps, 0, total_steps - 1)
        check_range("final", final, 0, 1)
        self.total_steps, self.warmup_steps, self.final = total_steps, warmup_steps, final
        super().__init__(optimizer, self.share)

    def share(self, step: int) -> float:
        """Learning rate of step ``step`` (from 0), relative to the highest."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        progress = min(1.0, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2
