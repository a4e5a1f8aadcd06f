"""Options of a run that continues from a checkpoint: those of training may change, those of the network may not.

A checkpoint stores the options of its module (``hyper_parameters``). From Python, factories are functions, which are
not stored; such options are not compared.
"""

import pydoc
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from torch.optim.lr_scheduler import ReduceLROnPlateau

from spikefit.errors import ConfigurationError

NETWORK = ("network", "quantizer", "layer_quantizers", "prunable_synapses", "num_classes", "input_shape")
"""Options that define the network, which the weights of a checkpoint belong to."""
TRAINING = ("optimizer", "lr_scheduler", "lr_interval", "codebook_lr_factor")
"""Options that optimizer and scheduler are made of, whose state a checkpoint stores."""


def differences(given: Any, stored: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    """Options that differ: name, value given, value stored.

    An option that one side lacks is ignored, because a checkpoint of an earlier version lacks those that are new; in
    ``layer_quantizers``, whose keys are patterns, it is a difference.
    """
    if isinstance(given, Mapping) and isinstance(stored, Mapping):
        if name.endswith("layer_quantizers") and set(given) != set(stored):
            yield name, given, stored
        elif given.get("class_path", "") != stored.get("class_path", "") and not _same_class(given, stored):
            yield f"{name}.class_path", given.get("class_path"), stored.get("class_path")
        else:
            for key in (key for key in given if key in stored and key != "class_path"):
                yield from differences(given[key], stored[key], f"{name}.{key}")
    elif isinstance(given, list | tuple) and isinstance(stored, list | tuple):
        if list(given) != list(stored):
            yield name, list(given), list(stored)
    elif given != stored:
        yield name, given, stored


def _same_class(given: Mapping[str, Any], stored: Mapping[str, Any]) -> bool:
    """Whether two class paths lead to one class, which may have moved."""
    found = [pydoc.locate(str(options.get("class_path"))) for options in (given, stored)]
    return found[0] is not None and found[0] is found[1]


def changed(given: Mapping[str, Any], stored: Mapping[str, Any], names: tuple[str, ...]) -> list[tuple[str, Any, Any]]:
    """Options among ``names`` of a module that differ from those of a checkpoint, by their full names."""
    both = [name for name in names if name in given and name in stored]
    return [found for name in both for found in differences(given[name], stored[name], f"model.init_args.{name}")]


def require_same_network(given: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Raise if options that define the network differ from those that a checkpoint stores.

    Args:
        given: options of the module.
        stored: ``hyper_parameters`` of the checkpoint.

    Raises:
        ConfigurationError: naming every option that differs, with both values.

    Example:
        >>> levels = [{"quantizer": {"class_path": "Codebook", "init_args": {"levels": n}}} for n in (4, 8)]
        >>> require_same_network(*levels)
        Traceback (most recent call last):
        spikefit.errors.ConfigurationError: model.init_args.quantizer.init_args.levels: got 4, but ...
    """
    found = changed(given, stored, NETWORK)
    if found:
        lines = [
            f"{name}: got {_short(own)}, but the checkpoint (ckpt_path) stores {_short(old)}"
            for name, own, old in found
        ]
        raise ConfigurationError(
            ";\n".join(lines) + "; expected the checkpoint's values: config.yaml in the directory of its run has "
            "them. callbacks.InitialWeights copies weights into a network with other quantizers."
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def renew_training(checkpoint: dict[str, Any], given: Mapping[str, Any], configured: Any) -> list[tuple[str, Any, Any]]:
    """Replace the options of optimizer and scheduler in a checkpoint by those of the run that resumes it.

    Nothing is replaced if no option has changed. Otherwise moments stay, and the learning rate continues where the new
    schedule would be after the steps of the checkpoint's scheduler. A new ``ReduceLROnPlateau`` starts anew.

    Args:
        checkpoint: a Lightning checkpoint with one optimizer; changed in place.
        given: options of the module.
        configured: new optimizer and scheduler of those options, as ``configure_optimizers`` returns them.

    Returns:
        The options that differ: name, value given, value stored.

    Raises:
        ConfigurationError: for an optimizer of another class, which can't use the stored moments.
    """
    optimizer, scheduler = configured, None
    if isinstance(configured, Mapping):
        optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    found = changed(given, checkpoint.get("hyper_parameters", {}), TRAINING)
    before = checkpoint["lr_schedulers"][0] if checkpoint["lr_schedulers"] else {}
    total = getattr(scheduler, "total_steps", None)
    if before.get("total_steps", total) != total and not found:
        found = [("steps of the learning rate's schedule", total, before["total_steps"])]
    if not found:
        return []
    for name, own, old in found:
        if name == "model.init_args.optimizer.class_path":
            raise ConfigurationError(
                f"{name}: got {own}, but the checkpoint (ckpt_path) stores the state of {old}; expected {old}. Start a "
                "new run from its weights with callbacks.InitialWeights to use another optimizer."
            )
    if scheduler is not None:
        if not isinstance(scheduler, ReduceLROnPlateau):
            with warnings.catch_warnings():  # the optimizer makes its steps later
                warnings.simplefilter("ignore", UserWarning)
                for _ in range(_steps_done(checkpoint, before, given, found)):
                    scheduler.step()
        checkpoint["lr_schedulers"] = [scheduler.state_dict()]
    else:
        checkpoint["lr_schedulers"] = []
    stored = checkpoint["optimizer_states"][0]
    groups = optimizer.state_dict()["param_groups"]
    checkpoint["optimizer_states"] = [{"state": stored["state"], "param_groups": groups}]
    return found


def _steps_done(
    checkpoint: Mapping[str, Any],
    before: Mapping[str, Any],
    given: Mapping[str, Any],
    found: list[tuple[str, Any, Any]],
) -> int:
    """Steps that the new scheduler would have made: those of the old one if both count the same."""
    if "last_epoch" in before and not any(name == "model.init_args.lr_interval" for name, _, _ in found):
        return int(before["last_epoch"])
    if given.get("lr_interval") == "step":
        return int(checkpoint["global_step"])
    return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
