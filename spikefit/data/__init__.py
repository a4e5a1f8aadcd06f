"""Data modules and data sets that give frames or spikes, time first."""

from spikefit.data.datamodule import SpikeDataModule
from spikefit.data.events.pipeline import EventPipeline
from spikefit.data.source import DataSource

__all__ = ["DataSource", "EventPipeline", "SpikeDataModule"]
