"""Ask every part of a run whether it can do what it was told, before any data is loaded.

A callback or a loss that has a method ``preflight(check: Preflight)`` is asked. It raises a
:class:`~spikefit.errors.SpikeFitError` that names the option, its value and what is allowed.
"""

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from spikefit.errors import ConfigurationError

if TYPE_CHECKING:
    from spikefit.module import SpikingClassifier

OWN_PACKAGES = ("lightning", "spikefit", "callbacks")


@dataclass(frozen=True)
class Preflight:
    """What is going to run.

    Attributes:
        module: the network and its loss.
        data: the data module; None for data loaders that were given alone.
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        trainer: Lightning's trainer, with its callbacks.
        resumes: whether weights and states of callbacks come from a checkpoint of the same run; None: not known yet.
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
        """Put the callbacks in their order, then ask the data, the loss, every callback, and what watches a metric.

        Raises:
            SpikeFitError: the first mistake.
        """
        self.trainer.callbacks = in_order(self.trainer.callbacks)
        self.module.declare(self.data)
        for part in (self.module.loss, *self.trainer.callbacks):
            ask = getattr(part, "preflight", None)
            if callable(ask):
                ask(self)
        if self.fitting:
            check_monitors(self)


def in_order(callbacks: Sequence[Any]) -> list[Any]:
    """Callbacks that have a ``place`` in its order, whatever their order in the list.

    Equal places keep the order of the list, and a callback without a place keeps its position in the list: what a user
    puts first or last stays there.
    """
    placed = [callback for callback in callbacks if getattr(callback, "place", None) is not None]
    waiting = iter(sorted(placed, key=lambda callback: callback.place))
    return [callback if getattr(callback, "place", None) is None else next(waiting) for callback in callbacks]


def training_end(trainer: Any, interval: Literal["epoch", "step"]) -> int | None:
    """How many epochs (or optimizer steps) a training has at most; None when it has no end or that is not known yet.

    Steps follow from epochs, and epochs from steps, as soon as the number of batches is known. A ``fast_dev_run`` ends
    after a few batches whatever is due, so that nothing can be said of it.
    """
    if trainer.fast_dev_run:
        return None
    epochs = trainer.max_epochs if (trainer.max_epochs or 0) > 0 else math.inf
    steps = trainer.max_steps if (trainer.max_steps or 0) > 0 else math.inf
    batches = trainer.num_training_batches  # infinite until the data loader is there
    if 0 < batches < math.inf:
        per_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
        steps = min(steps, epochs * per_epoch)
        epochs = min(epochs, math.ceil(steps / per_epoch) if steps < math.inf else math.inf)
    end = epochs if interval == "epoch" else steps
    return None if end == math.inf else int(end)


def check_monitors(check: Preflight) -> None:
    """Refuse to watch a metric that nothing logs.

    Raises:
        ConfigurationError: for a checkpoint or early stopping that monitors an unknown metric, or a metric of the
            validation of data that have no validation part.
    """
    watching = [callback for callback in check.trainer.callbacks if getattr(callback, "monitor", None)]
    own = tuple(check.module.logged_metrics("fit"))
    known = [*own, *(name for callback in check.trainer.callbacks for name in _declared(callback, check.module))]
    complete = all(_tells_all(part) for part in (check.module, *check.trainer.callbacks))
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
                f"{option}: got {monitor!r}, but nothing is validated: {reason}. Expected validation, or a metric of "
                f"the training such as {', '.join(name for name in own if name.startswith('train/'))}."
            )


def _declared(callback: Any, module: "SpikingClassifier") -> Iterable[str]:
    declared = getattr(callback, "logged_metrics", None)
    return declared(module) if callable(declared) else ()


def _tells_all(part: object) -> bool:
    """Whether all that ``part`` may log is known: it is one of ours or Lightning's, or says so itself."""
    kind = type(part)
    return kind.__module__.split(".")[0] in OWN_PACKAGES or "logged_metrics" in vars(kind)


def _unvalidated(check: Preflight) -> str:
    """Why there is no validation; empty if there is."""
    if not getattr(check.data, "validates", True):
        return "data.init_args.val_fraction is 0"
    return "trainer.limit_val_batches is 0" if check.trainer.limit_val_batches == 0 else ""
