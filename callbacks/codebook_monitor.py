"""Callback that logs statistics of codebooks during training."""

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
    """Logs diagnostics of every active codebook at the end of each epoch.

    * ``codebook/flips/LAYER``: share of the weights whose codebook value differs from that of the previous epoch. Many
      flips late in training indicate oscillating weights.
    * ``codebook/drift/LAYER``: root mean square change of the codebook values since the previous epoch, relative to
      their own root mean square.
    * ``codebook/dead/LAYER``: number of codebook values that no weight uses.

    Example:
        >>> from spikefit.networks import MLP
        >>> from spikefit.quantize import Codebook
        >>> module = SpikingClassifier(lambda shape, classes: MLP(shape, classes, ()), (1, 8, 8), 10, Codebook)
        >>> CodebookMonitor().logged_metrics(module)
        ['codebook/flips/readout', 'codebook/drift/readout', 'codebook/dead/readout']
    """

    place = Place.MONITOR

    def __init__(self) -> None:
        self._before: dict[str, dict[str, Tensor]] = {}

    def logged_metrics(self, module: SpikingClassifier) -> Iterable[str]:
        """The three metrics of each quantised layer."""
        layers = [name for name, _, _ in module.quantized_layers()]
        return [f"codebook/{what}/{name}" for what in ("flips", "drift", "dead") for name in layers]

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare each codebook with its state at the end of the previous epoch, and log the metrics."""
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
        """Assignments and codebook values at the end of the last epoch."""
        return {"before": self._before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state saved by :meth:`state_dict`."""
        self._before = state_dict["before"]


def _by_group(quantizer: Codebook, index: Tensor) -> list[Tensor]:
    """The indices of each codebook's weights."""
    groups = quantizer.group_of_output
    return [index[groups == group] for group in range(len(quantizer.codebook))]
