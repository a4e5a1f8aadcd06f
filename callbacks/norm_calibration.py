"""Callback that recomputes norm statistics with the current weights at the end of an epoch."""

from itertools import islice
from typing import Any

import lightning.pytorch as pl
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from callbacks.base import Milestone, Place, reduce_sum, side_effect_free, too_late, training_batches
from callbacks.schedule import Schedule, require_schedule
from spikefit.errors import check_choice, check_range
from spikefit.module import SpikingClassifier
from spikefit.preflight import Preflight, training_end


class NormCalibration(pl.Callback):
    """Recomputes the running means and variances of all norms at the end of each epoch, before validation.

    A moving average lags when quantised weights jump between a few values, because it mixes the statistics of many
    steps. This callback uses the plain average over ``batches`` training batches that pass through the current network
    (the precise batch norm of Wu and Johnson 2021, arXiv 2105.07576). Norm statistics fold into thresholds, so the chip
    benefits in full. While the network emulates a chip (:class:`~callbacks.chip_emulation.ChipEmulation`), its
    statistics are kept.

    Args:
        batches: number of training batches to average over, at most those of one epoch.
        schedule: epochs after which the statistics are recomputed.

    Raises:
        ConfigurationError: for ``batches`` below 1 or a schedule of steps; before training, if training ends before
            the schedule begins.

    Example:
        >>> from callbacks import NormCalibration, Schedule
        >>> calibration = NormCalibration(batches=50, schedule=Schedule(10))
        >>> calibration.schedule.due(9), calibration.schedule.due(10)
        (False, True)
    """

    place = Place.NORMS

    def __init__(self, batches: int = 100, schedule: Schedule = Schedule()) -> None:
        check_range("batches", batches, 1)
        check_choice("NormCalibration.schedule.interval", require_schedule(schedule).interval, ("epoch",))
        self.batches, self.schedule = batches, schedule

    def preflight(self, check: Preflight) -> None:
        """Raise if training ends before the schedule begins."""
        end = training_end(check.trainer, "epoch") if check.fitting else None
        if end is not None and self.schedule.start >= end:
            start = self.schedule.start
            raise too_late("NormCalibration", Milestone("schedule.start", start, start), "epoch", end)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Recompute the statistics after the last batch of an epoch, averaged over processes."""
        assert isinstance(pl_module, SpikingClassifier)
        due = trainer.is_last_batch and self.schedule.due(trainer.current_epoch)
        if not due or pl_module.network.emulation is not None:
            return
        with side_effect_free(pl_module, "norms", trainer.current_epoch, trainer.global_rank):
            update_bn(islice(training_batches(trainer), self.batches), pl_module)
        for norm in (child for child in pl_module.modules() if isinstance(child, _BatchNorm)):
            for statistic in (norm.running_mean, norm.running_var):
                if statistic is not None:
                    reduce_sum(trainer, statistic).div_(trainer.world_size)
