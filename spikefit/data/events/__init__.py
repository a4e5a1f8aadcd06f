"""Data sets of event cameras and silicon cochleas: those of tonic, and folders of your own recordings.

tonic is imported only in this package, and only when data are loaded.
"""

from spikefit.data.events.any_tonic import TonicDataset
from spikefit.data.events.audio import NTIDIGITS18, SHD, SSC
from spikefit.data.events.recording_folder import RecordingFolder
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
