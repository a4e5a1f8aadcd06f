"""Watch what codebooks do while they learn."""

from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from callbacks.base import Place
from spikefit.module import SpikingClassifier
from spikefit.quantize.base import latent_weight
from spikefit.quantize.codebook import Codebook


class CodebookMonitor(pl.Callback):
    """Logs, at the end of each epoch and for each codebook that is on, why it may learn badly.

    ``codebook/flips/LAYER``: share of the weights that have another value of the codebook than an epoch ago. Many flips
    late in training are weights that oscillate. ``codebook/drift/LAYER``: root mean square way that the values went
    since then, relative to their own root mean square. ``codebook/dead/LAYER``: values that no weight has.
    """

    place = Place.MONITOR

    def __init__(self) -> None:
        self._before: dict[str, dict[str, Tensor]] = {}

    def logged_metrics(self, module: SpikingClassifier) -> Iterable[str]:
        """The three of each quantised layer."""
        layers = [name for name, _, _ in module.quantized_layers()]
        return [f"codebook/{what}/{name}" for what in ("flips", "drift", "dead") for name in layers]

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare with the end of the epoch before."""
        assert isinstance(pl_module, SpikingClassifier)
        for name, layer, quantizer in pl_module.quantized_layers():
            if not isinstance(quantizer, Codebook) or quantizer.strength == 0:
                continue
            index, values = quantizer.assignment(latent_weight(layer)), quantizer.values().detach()
            dead = sum(values.shape[1] - len(row.unique()) for row in _by_group(quantizer, index))
            pl_module.log(f"codebook/dead/{name}", float(dead), rank_zero_only=False)
            if name in self._before:
                before = {key: tensor.to(values.device) for key, tensor in self._before[name].items()}
                flips = (index != before["index"]).float().mean()
                drift = (values - before["values"]).norm() / values.norm().clamp_min(1e-12)
                pl_module.log(f"codebook/flips/{name}", flips, rank_zero_only=False)
                pl_module.log(f"codebook/drift/{name}", drift, rank_zero_only=False)
            self._before[name] = {"index": index.to("cpu", torch.uint8), "values": values.cpu()}

    def state_dict(self) -> dict[str, Any]:
        """What was seen last."""
        return {"before": self._before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._before = state_dict["before"]


def _by_group(quantizer: Codebook, index: Tensor) -> list[Tensor]:
    """The indices of each codebook's weights."""
    groups = quantizer.group_of_output
    return [index[groups == group] for group in range(len(quantizer.codebook))]
