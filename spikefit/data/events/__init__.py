"""Event data sets: cameras and cochleas, through tonic, and folders of one's own.

tonic is imported only in the rooms whose names begin with ``events``, and only when data are loaded.
"""

from spikefit.data.events.any_tonic import TonicDataset
from spikefit.data.events.audio import NTIDIGITS18, SHD, SSC
from spikefit.data.events.folder import RecordingFolder
from spikefit.data.events.vision import CIFAR10DVS, NCALTECH101, NMNIST, POKERDVS, DVSGesture

__all__ = [
    "CIFAR10DVS",
    "NCALTECH101",
    "NMNIST",
    "NTIDIGITS18",
    "POKERDVS",
    "SHD",
    "SSC",
    "DVSGesture",
    "RecordingFolder",
    "TonicDataset",
]
