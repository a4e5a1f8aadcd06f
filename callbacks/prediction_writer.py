"""Callback that writes the predictions of ``predict`` to a CSV file."""

import csv
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning_utilities.core.rank_zero import rank_zero_info

from callbacks.base import Place, run_directory
from spikefit.atomic import atomic_path


class PredictionWriter(BasePredictionWriter):
    """Writes ``predictions.csv`` into the run's directory: sample, predicted class and its probability.

    With several processes, each writes its own file ``predictions-RANK.csv``.

    Example:
        >>> from callbacks import PredictionWriter
        >>> PredictionWriter().interval.on_epoch
        True
    """

    place = Place.PREDICTIONS

    def __init__(self) -> None:
        super().__init__("epoch")

    def write_on_epoch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write the file and log its path."""
        folder = run_directory(trainer)
        suffix = f"-{trainer.global_rank}" if trainer.world_size > 1 else ""
        path = folder / f"predictions{suffix}.csv"
        samples = [index for batch in batch_indices[0] for index in batch]
        rows = [row for batch in predictions for row in zip(*batch.max(dim=1), strict=True)]
        with atomic_path(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["sample", "class", "probability"])
            for sample, (probability, label) in zip(samples, rows, strict=True):
                writer.writerow([sample, int(label), f"{float(probability):.6f}"])
        rank_zero_info(f"Predictions of {len(rows)} samples: {path}")
