"""Provenance of a deployed network and its samples."""

from pathlib import Path

import lightning.pytorch as pl

import spikefit
from spikefit.deploy.report.git_commit import checkout_commit
from spikefit.deploy.report.sections import Provenance
from spikefit.seeding import global_seed


def provenance(trainer: pl.Trainer, folder: Path, checkpoint: str | None, epoch: int | None) -> Provenance:
    """Collect data set, run, configuration, seed, commit, version and checkpoint of a deployed network.

    Args:
        trainer: trainer of the run.
        folder: directory of the run.
        checkpoint: file that the network was read from, if any.
        epoch: last epoch, counted from 0, that the network was trained for.
    """
    data = getattr(trainer, "datamodule", None)
    source = getattr(data, "dataset", data)
    configuration = folder / "config.yaml"
    return Provenance(
        data_set=None if source is None else type(source).__name__,
        run="/".join(folder.parts[-2:]),
        configuration=str(configuration) if configuration.is_file() else None,
        seed=global_seed(),
        commit=checkout_commit(),
        version=spikefit.__version__,
        checkpoint=checkpoint,
        epoch=epoch,
    )
