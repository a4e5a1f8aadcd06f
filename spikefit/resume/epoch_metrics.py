"""Metrics of an epoch that is not over: what Lightning has accumulated, for checkpoints in the middle of an epoch."""

from typing import Any

import lightning.pytorch as pl
import torch
from torchmetrics import Metric

Entry = dict[str, Any]
FLAGS = ("prog_bar", "logger", "on_step", "on_epoch", "enable_graph", "add_dataloader_idx")


def accumulated(trainer: pl.Trainer) -> list[Entry]:
    """Values that were logged since the start of the training epoch; tensors and primitives only."""
    return [
        {
            "hook": entry.meta.fx,
            "name": entry.meta.name,
            "metric": entry.meta.metric_attribute,
            "options": {
                **{flag: getattr(entry.meta, flag) for flag in FLAGS},
                "reduce_fx": entry.meta.reduce_fx.__name__,
                "sync_dist": entry.meta.sync.should,
                "rank_zero_only": entry.meta.sync.rank_zero_only,
            },
            "state": _state(entry if entry.is_tensor else entry.value),
        }
        for entry in trainer.fit_loop.epoch_loop._results.values()
        if not entry.has_reset and entry.meta.on_epoch
    ]


def restore(module: pl.LightningModule, entries: list[Entry]) -> None:
    """Log ``entries`` of :func:`accumulated` again, with the same hooks and options, and restore their values."""
    connector, results = module.trainer._logger_connector, module.trainer.fit_loop.epoch_loop._results
    own = dict(module.named_modules())
    for entry in entries:
        module._current_fx_name = entry["hook"]
        value = torch.zeros((), device=module.device) if entry["metric"] is None else own[entry["metric"]]
        module.log(entry["name"], value, metric_attribute=entry["metric"], **entry["options"])
    module._current_fx_name = None
    for entry in entries:
        logged = results[f"{entry['hook']}.{entry['name']}"]
        _set_state(logged if logged.is_tensor else logged.value, entry["state"])
    connector._first_loop_iter = True  # the next batch is not the first of the epoch, which would reset the values


def _state(metric: Metric) -> dict[str, Any]:
    return {"updates": metric._update_count, **{name: getattr(metric, name) for name in metric._defaults}}


def _set_state(metric: Metric, state: dict[str, Any]) -> None:
    for name, value in state.items():
        if name == "updates":
            metric._update_count = value
        else:
            setattr(metric, name, value.to(metric.device) if isinstance(value, torch.Tensor) else value)
    metric._computed = None
