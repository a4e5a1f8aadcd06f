"""Train with fewer time steps first."""

from collections.abc import Mapping

import lightning.pytorch as pl

from callbacks.base import Milestone, too_late
from spikefit.errors import ConfigurationError, check_range
from spikefit.input_kind import InputKind
from spikefit.module import SpikingClassifier
from spikefit.preflight import Preflight, training_end


class StepSchedule(pl.Callback):
    """Train the first epochs with fewer time steps than the data have, and the last ones with all of them.

    A network of T steps takes about T times as long as one of a single step, and its weights are a good start for more
    steps. Evaluation, pruning scores and norm calibration see all steps at any time. This is for inputs that are the
    same in every step (``encoding: direct``): of other inputs the first steps are not a shorter sample.

    Args:
        time_steps: by the epoch from which it holds, counted from 0, how many steps to train with, such as
            ``{0: 1, 20: 2, 30: 4}``. The first epoch is 0; the last number is that of the data.

    Raises:
        ConfigurationError: for numbers that are not allowed; before training for inputs that change in time, a last
            number that is not that of the data, or an epoch that never comes.
    """

    def __init__(self, time_steps: Mapping[int, int]) -> None:
        if 0 not in time_steps:
            raise ConfigurationError(f"time_steps: got {dict(time_steps)!r}, expected one for epoch 0 too.")
        for epoch, steps in time_steps.items():
            check_range("epoch of time_steps", epoch, 0)
            check_range(f"time_steps[{epoch}]", steps, 1)
        self.time_steps = dict(sorted(time_steps.items()))

    def preflight(self, check: Preflight) -> None:
        """Refuse what the data or the length of the training do not allow."""
        if not check.fitting:
            return
        context = check.module.context
        if context.input_kind is not InputKind.CONSTANT:
            raise ConfigurationError(
                f"StepSchedule: got inputs of the kind {context.input_kind.value!r}, expected "
                f"{InputKind.CONSTANT.value!r}: the first steps of others are not a shorter sample."
            )
        last, steps = list(self.time_steps.items())[-1]
        if steps != context.time_steps:
            raise ConfigurationError(
                f"StepSchedule.time_steps: got {steps} in the last epochs, expected {context.time_steps}, as the data "
                "have."
            )
        for epoch, fewer in self.time_steps.items():
            check_range(f"StepSchedule.time_steps[{epoch}]", fewer, 1, context.time_steps)
        end = training_end(check.trainer, "epoch")
        if end is not None and last >= end:
            raise too_late("StepSchedule", Milestone("time_steps", last, last), "epoch", end)

    def steps(self, epoch: int) -> int:
        """How many time steps to train epoch ``epoch`` with."""
        return next(steps for start, steps in reversed(self.time_steps.items()) if start <= epoch)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell the module."""
        assert isinstance(pl_module, SpikingClassifier)
        pl_module.training_time_steps = self.steps(trainer.current_epoch)
