"""Base class of the LightningModule: what a loss with a price on energy needs of training."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from spikefit.losses.energy_penalty import EnergyPenalty, penalty_of
from spikefit.nan_guard import GuardedModule

PENALTY = "spikefit_energy_penalty"  # key in a checkpoint


class PricedModule(GuardedModule):
    """A ``LightningModule`` that counts a pass for :class:`~spikefit.losses.EnergyPenalty`, if its loss contains one.

    Attributes:
        loss: the loss of training.
    """

    loss: nn.Module

    @property
    def penalty(self) -> EnergyPenalty | None:
        """The penalty in the loss, or None."""
        return penalty_of(self.loss)

    def counted(self, run: Callable[..., Any], x: Tensor) -> Tensor:
        """Output of ``run``, a pass of the network, for ``x``; the penalty receives its operation counts."""
        penalty = self.penalty
        if penalty is None:
            return run(x)
        output, counts = run(x, penalty.counter(self))  # type: ignore[arg-type]
        penalty.observe(self, counts, x.shape[1], x.shape[0])  # type: ignore[arg-type]
        return output

    def log_penalty(self, samples: int) -> None:
        """Log the metrics of a training batch."""
        if self.penalty is not None:
            shown = {"on_step": False, "on_epoch": True, "batch_size": samples, "sync_dist": True}
            for name, value in self.penalty.measurements().items():
                self.log(name, value, **shown)  # type: ignore[arg-type]

    def on_train_epoch_end(self) -> None:
        """Check what was noted during the epoch, and say whether an energy budget is met."""
        super().on_train_epoch_end()
        if self.penalty is not None:
            self.penalty.report(last=False)

    def on_train_end(self) -> None:
        """Say whether an energy budget is not met."""
        super().on_train_end()
        if self.penalty is not None:
            self.penalty.report(last=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the state of the penalty."""
        super().on_save_checkpoint(checkpoint)
        if self.penalty is not None:
            checkpoint[PENALTY] = self.penalty.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of the penalty, if the checkpoint has one."""
        super().on_load_checkpoint(checkpoint)
        if self.penalty is not None and PENALTY in checkpoint:
            self.penalty.load_state(checkpoint[PENALTY])
