"""Checks of a run's configuration before any data is loaded.

Callbacks and losses can define a method ``preflight(check: Preflight)``. It raises a
:class:`~spikefit.errors.SpikeFitError` that names the option, its value and the allowed values.
"""

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from spikefit.errors import ConfigurationError, check_choice
from spikefit.optim import check_schedule

if TYPE_CHECKING:
    from spikefit.module import SpikingClassifier

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
"""Those with weights, codebooks and membranes in float32, which kernels, lowering and parity need."""
OWN_PACKAGES = ("lightning", "spikefit", "callbacks")


@dataclass(frozen=True)
class Preflight:
    """The parts of a run that are checked together.

    Attributes:
        module: the network and its loss.
        data: the data module; None for plain data loaders.
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        trainer: Lightning's trainer, with its callbacks.
        resumes: whether weights and callback states come from a checkpoint of the same run; None if not known yet.
    """

    module: "SpikingClassifier"
    data: Any
    command: str
    trainer: Any
    resumes: bool | None

    @property
    def fitting(self) -> bool:
        """Whether the run trains."""
        return self.command == "fit"

    def run(self) -> None:
        """Check the precision, sort the callbacks, then check data, loss, callbacks and monitored metrics.

        The module asks for this too. It is done once for a command that the command line has checked, which knows
        whether the run resumes.

        Raises:
            SpikeFitError: for the first error that is found.
        """
        checked, self.trainer.checked_command = getattr(self.trainer, "checked_command", None), None
        if self.resumes is None and checked == self.command:
            return
        check_choice("trainer.precision", self.trainer.precision, PRECISIONS)
        self.trainer.callbacks = in_order(self.trainer.callbacks)
        self.module.declare(self.data)
        if self.fitting:
            if self.trainer.limit_train_batches == 0:
                raise ConfigurationError("trainer.limit_train_batches: got 0, expected at least one batch to train on.")
            optimizer, scheduler = self.module.make_optimizer()  # torch refuses their options, before data are loaded
            check_schedule(scheduler, optimizer)
        for part in (self.module.loss, *self.trainer.callbacks):
            ask = getattr(part, "preflight", None)
            if callable(ask):
                ask(self)
        if self.fitting:
            check_monitors(self)
        if self.resumes is not None:
            self.trainer.checked_command = self.command


def in_order(callbacks: Sequence[Any]) -> list[Any]:
    """Sort callbacks by their attribute ``place``.

    Callbacks of equal places keep their relative order. A callback without a place keeps its position in the list.
    Checkpoints without a metric are last, so that they know which checkpoint is the best after this epoch.
    """
    placed = [callback for callback in callbacks if getattr(callback, "place", None) is not None]
    waiting = iter(sorted(placed, key=lambda callback: callback.place))
    order = [callback if getattr(callback, "place", None) is None else next(waiting) for callback in callbacks]
    return sorted(order, key=_saves_without_metric)


def _saves_without_metric(callback: Any) -> bool:
    return hasattr(callback, "best_model_path") and getattr(callback, "monitor", None) is None


def training_end(trainer: Any, interval: Literal["epoch", "step"]) -> int | None:
    """Maximum number of epochs (or optimizer steps) of a training; None if it is unlimited or not known yet.

    Once the number of batches is known, steps are computed from epochs and epochs from steps. The result is None for a
    ``fast_dev_run``, which ends after a few batches regardless of any schedule.
    """
    if trainer.fast_dev_run:
        return None
    epochs = trainer.max_epochs if (trainer.max_epochs or 0) > 0 else math.inf
    steps = trainer.max_steps if (trainer.max_steps or 0) > 0 else math.inf
    batches = trainer.num_training_batches  # infinite until the data loader exists
    if 0 < batches < math.inf:
        per_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
        steps = min(steps, epochs * per_epoch)
        epochs = min(epochs, math.ceil(steps / per_epoch) if steps < math.inf else math.inf)
    end = epochs if interval == "epoch" else steps
    return None if end == math.inf else int(end)


def check_monitors(check: Preflight) -> None:
    """Raise if a callback monitors a metric that is never logged.

    Raises:
        ConfigurationError: if a checkpoint or early stopping callback monitors an unknown metric, or a validation
            metric without a validation set.
    """
    watching = [callback for callback in check.trainer.callbacks if getattr(callback, "monitor", None)]
    own = tuple(check.module.logged_metrics("fit"))
    known = [*own, *(name for callback in check.trainer.callbacks for name in _declared(callback, check.module))]
    complete = all(_declares_metrics(part) for part in (check.module, *check.trainer.callbacks))
    for callback in watching:
        option, monitor = f"{type(callback).__name__}.monitor", str(callback.monitor)
        if getattr(callback, "strict", True) is False or monitor in ("epoch", "step"):  # Lightning's own counters
            continue
        if complete and not any(fnmatchcase(monitor, name) for name in known):
            close = difflib.get_close_matches(monitor, known, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ConfigurationError(f"{option}: got {monitor!r}, expected one of {', '.join(known)}.{hint}")
        reason = _unvalidated(check)
        if reason and monitor in own and monitor.startswith("val/"):
            raise ConfigurationError(
                f"{option}: got {monitor!r}, but there is no validation: {reason}. Expected validation, or a training "
                f"metric such as {', '.join(name for name in own if name.startswith('train/'))}."
            )


def _declared(callback: Any, module: "SpikingClassifier") -> Iterable[str]:
    declared = getattr(callback, "logged_metrics", None)
    return declared(module) if callable(declared) else ()


def _declares_metrics(part: object) -> bool:
    """Whether all metrics of ``part`` are known: it belongs to spikefit or Lightning, or defines logged_metrics."""
    kind = type(part)
    return kind.__module__.split(".")[0] in OWN_PACKAGES or "logged_metrics" in vars(kind)


def _unvalidated(check: Preflight) -> str:
    """The reason why there is no validation; empty if there is one."""
    if not getattr(check.data, "validates", True):
        return "data.init_args.val_fraction is 0"
    return "trainer.limit_val_batches is 0" if check.trainer.limit_val_batches == 0 else ""
