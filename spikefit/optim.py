"""Optimizers and learning rate schedules of a network with quantizers."""

import math
import warnings
from collections.abc import Callable, Collection, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from spikefit.errors import ConfigurationError, check_range


class WarmupCosine(LambdaLR):
    """Linear warm-up to the learning rate of each parameter group, then half a cosine down to 0.

    Adam has no estimate of its gradients at the start, so that the first steps on a trained network should be short.
    Unlike :class:`torch.optim.lr_scheduler.OneCycleLR` it keeps the ratio between parameter groups, and unlike
    :class:`torch.optim.lr_scheduler.SequentialLR` it may be made before the length of the training is known.

    Args:
        optimizer: the optimizer whose learning rates are set.
        total_steps: steps until the rate is 0, where it stays; None for the length of the training, which
            :class:`~spikefit.module.SpikingClassifier` passes to :meth:`set_total`.
        warmup_steps: steps of the warm-up among them; a number below 1 is a share of ``total_steps``.

    Raises:
        ConfigurationError: for numbers of steps that are not allowed.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = WarmupCosine(optimizer, total_steps=4, warmup_steps=1)
        >>> [round(scheduler.share(step), 2) for step in range(5)]
        [0.5, 1.0, 0.75, 0.25, 0.0]
    """

    def __init__(self, optimizer: Optimizer, total_steps: int | None = None, warmup_steps: float = 0) -> None:
        check_range("warmup_steps", warmup_steps, 0)
        if total_steps is not None:
            _check_length(total_steps, warmup_steps)
        self.total_steps, self.warmup_steps = total_steps, warmup_steps
        super().__init__(optimizer, self.share)

    def set_total(self, steps: float) -> None:
        """Set ``total_steps`` unless it was given.

        Raises:
            ConfigurationError: for a training without an end, or one that is no longer than the warm-up.
        """
        if self.total_steps is not None:
            return
        if not 1 <= steps < math.inf:
            raise ConfigurationError(
                "total_steps: got None, which is the length of the training, but that has no end; expected a number of "
                "steps, or trainer.max_epochs or trainer.max_steps."
            )
        _check_length(int(steps), self.warmup_steps)
        self.total_steps = int(steps)
        for group, rate in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = rate * self.share(self.last_epoch)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def share(self, step: int) -> float:
        """Learning rate of step ``step`` (from 0), relative to the highest."""
        if self.total_steps is None:
            if step == 0:  # called by LambdaLR's constructor
                return 1.0
            raise ConfigurationError("total_steps: got None, expected a number of steps, here or by set_total.")
        warmup = self.warmup_steps if self.warmup_steps >= 1 else int(self.warmup_steps * self.total_steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / (self.total_steps - warmup))
        return (1 + math.cos(math.pi * progress)) / 2


def _check_length(total_steps: int, warmup_steps: float) -> None:
    check_range("total_steps", total_steps, 1)
    if warmup_steps >= 1:  # a share always leaves a descent
        check_range("warmup_steps", warmup_steps, 0, total_steps - 1)


def make_optimizer(
    factory: Callable[[Any], Optimizer], parameters: Iterable[nn.Parameter], own: Collection[int], factor: float
) -> Optimizer:
    """Create an optimizer with a group of weight matrices, one of vectors, and one of the quantizers' parameters.

    Vectors (norms, biases, leaks) and quantizers have no weight decay. Empty groups are left out.

    Args:
        factory: called with the parameter groups.
        parameters: all parameters.
        own: ``id`` of the quantizers' parameters among them.
        factor: learning rate of the quantizers' parameters, relative to that of the weights.

    Raises:
        ConfigurationError: for options that the optimizer refuses, or a learning rate that is not a finite number.
    """
    parameters = list(parameters)
    others = [p for p in parameters if id(p) not in own]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in others if p.dim() > 1]},
        {"params": [p for p in others if p.dim() <= 1], "weight_decay": 0.0},
        {"params": [p for p in parameters if id(p) in own], "weight_decay": 0.0},
    ]
    optimizer = _made("optimizer", factory, [group for group in groups if group["params"]])
    if own:
        optimizer.param_groups[-1]["lr"] *= factor
    _require_finite_rates("optimizer", optimizer)
    return optimizer


def make_scheduler(factory: Callable[[Optimizer], Any] | None, optimizer: Optimizer) -> Any:
    """Create the learning rate scheduler of ``optimizer``; None without a factory.

    Raises:
        ConfigurationError: for options that the scheduler refuses.
    """
    return None if factory is None else _made("lr_scheduler", factory, optimizer)


def _require_finite_rates(option: str, optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        if not 0 <= float(group["lr"]) < math.inf:
            raise ConfigurationError(
                f"model.init_args.{option}: got the learning rate {group['lr']}, expected a finite number from 0."
            )


def check_schedule(scheduler: Any, optimizer: Optimizer) -> None:
    """Make the first step of a scheduler that is not used, which shows options that its constructor accepts.

    Schedulers that need a metric, or the length of the training, are not tried.

    Raises:
        ConfigurationError: for a step that fails, or gives a learning rate that is not finite.
    """
    if isinstance(scheduler, LRScheduler) and not isinstance(scheduler, ReduceLROnPlateau | WarmupCosine):
        with warnings.catch_warnings():  # no optimizer's step precedes it
            warnings.simplefilter("ignore", UserWarning)
            _made("lr_scheduler", lambda _: scheduler.step(), None)
        _require_finite_rates("lr_scheduler", optimizer)


def _made(option: str, factory: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return factory(argument)
    except ConfigurationError:
        raise
    except Exception as error:  # torch raises anything for values that are not allowed
        raise ConfigurationError(f"model.init_args.{option}: refused by its class: {error}") from error
