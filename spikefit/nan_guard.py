"""Base class of the LightningModule: training stops when a value becomes NaN or infinite."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spikefit.errors import NonFiniteError
from spikefit.finite import currents, finite, first_layer, non_finite, require_finite
from spikefit.networks.blocks import Network
from spikefit.resume.module import ResumableModule

LOSS = "the loss"


class GuardedModule(ResumableModule):
    """A ``LightningModule`` that never saves, tests or deploys a network that is not finite.

    Loss and gradients are checked in each step, before the optimizer changes the weights. On a GPU the result of the
    check stays on the device, so that no step waits for it; it is read at the end of the epoch and before a checkpoint
    is saved. Weights and buffers are checked before a checkpoint is saved, currents in the first batch of an epoch.
    With a gradient scaler (``16-mixed``), which skips steps with infinite gradients, gradients are not checked.

    Attributes:
        network: the network, with a method ``named_synapses``.
    """

    network: Network
    _loss: Tensor | None = None
    _watched: Sequence[str] = ()
    _bad: Tensor
    _first: Tensor | None = None
    _noted: Tensor
    _batch: Any = None
    _currents: dict[str, Tensor]
    _recording: ExitStack | None = None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Record in the first batch of an epoch whether currents are finite."""
        self._batch = batch
        if batch_idx == 0:
            self._recording = ExitStack()
            self._currents = self._recording.enter_context(currents(self._synapses()))

    def on_before_backward(self, loss: Tensor) -> None:
        """Keep the loss for the check."""
        self._loss = loss.detach()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Check loss and gradients.

        Raises:
            NonFiniteError: on a CPU; elsewhere the result is only noted.
        """
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None or self._loss is None:
            return
        watched = {name: each.grad for name, each in self.named_parameters() if each.grad is not None}
        if self.trainer.world_size == 1:  # the loss may be finite in other processes; gradients are the same in all
            watched[LOSS] = self._loss
        self.note(watched)
        if self.device.type == "cpu":
            self._require_finite_steps()

    def note(self, watched: Mapping[str, Tensor]) -> None:
        """Note the first step with a value that is not finite, without waiting for the device.

        Args:
            watched: the loss and the gradients of a step, by name.
        """
        bad = ~finite(list(watched.values()))
        if self._watched != list(watched):  # the first step, or a quantizer was switched on
            self._require_finite_steps()
            self._watched, self._bad = list(watched), torch.zeros_like(bad)
            self._first = torch.full((), -1, dtype=torch.int64, device=bad.device)
            self._noted = torch.zeros_like(self._first)
        assert self._first is not None
        new = bad.any() & (self._first < 0)
        self._first, self._bad = torch.where(new, self._noted, self._first), torch.where(new, bad, self._bad)
        self._noted = self._noted + 1

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Read the record of the first batch."""
        recording, self._recording = self._recording, None
        if recording is None:
            return
        recording.close()
        layer = first_layer(self._currents)
        if layer is not None:
            self._stop("a current", layer, self.trainer.global_step - 1)

    def on_train_epoch_end(self) -> None:
        """Read what was noted during the epoch."""
        self._require_finite_steps()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to save a network that is not finite.

        Raises:
            NonFiniteError: naming what is not finite, and the last good checkpoint.
        """
        if self._trainer is None or not self.trainer.training:
            require_finite(self, "checkpoint")
        else:
            self._require_finite_steps()
            found = non_finite(self.state_dict())
            if found:
                self._stop(found[0], _layer_of(found[0]), self.trainer.global_step - 1)
        super().on_save_checkpoint(checkpoint)

    def on_test_start(self) -> None:
        """Refuse a network that is not finite."""
        require_finite(self.network, "test")

    def on_predict_start(self) -> None:
        """Refuse a network that is not finite."""
        require_finite(self.network, "predict")

    def _require_finite_steps(self) -> None:
        if self._first is None or int(self._first) < 0:
            return
        step = self.trainer.global_step - int(self._noted) + int(self._first)
        step += self.device.type == "cpu"  # there, the optimizer has not made the step yet
        names = [name for name, bad in zip(self._watched, self._bad.tolist(), strict=True) if bad]
        if names[-1] == LOSS:
            self._stop(LOSS, self._search(), step)
        # Gradients are computed from the last layer to the first, and what is not finite spreads in this direction.
        self._stop(f"the gradient of {names[-1]}", _layer_of(names[-1]), step)

    @torch.no_grad()
    def _search(self) -> str | None:
        """The first layer whose currents are not finite in the last batch."""
        with currents(self._synapses()) as found:
            self.network(self._batch[0])
        return first_layer(found)

    def _synapses(self) -> dict[str, nn.Module]:
        return dict(self.network.named_synapses())

    def _stop(self, what: str, layer: str | None, step: int) -> NoReturn:
        where = f"epoch {self.trainer.current_epoch}, step {step}"
        place = "" if layer is None else f", first in layer {layer}"
        saved = [getattr(callback, "best_model_path", "") for callback in reversed(self.trainer.checkpoint_callbacks)]
        # A resumed run that has saved nothing yet has the checkpoint that it began with.
        saved.append(self.trainer.ckpt_path or "")
        good = next((path for path in saved if path and Path(path).is_file()), None)
        raise NonFiniteError(
            f"training stopped in {where}: {what} is NaN or infinite{place}. The last good checkpoint is "
            f"{good or 'none: nothing has been saved'}. Expected a lower learning rate, gradient clipping "
            "(trainer.gradient_clip_val) or finite inputs."
        )


def _layer_of(name: str) -> str | None:
    """``conv1`` for ``network.blocks.conv1.norm.weight``."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["network", "blocks"] else None
