"""Lightning callbacks that compress and deploy a network; in YAML, ``class_path: callbacks.FSCPruning`` for example."""

from callbacks.base import Place, ScheduledCallback
from callbacks.checkpoint import CompressedCheckpoint
from callbacks.chip_emulation import ChipEmulation
from callbacks.codebook_monitor import CodebookMonitor
from callbacks.deployment import DeploymentSimulation
from callbacks.epoch_timer import EpochTimer
from callbacks.fit_to_hardware import FitToHardware
from callbacks.fsc_pruning import FSCPruning
from callbacks.initial_weights import InitialWeights
from callbacks.norm_calibration import NormCalibration
from callbacks.prediction_writer import PredictionWriter
from callbacks.reclustering import CodebookReclustering, PostTrainingQuantization
from callbacks.schedule import Schedule
from callbacks.spike_monitor import SpikeMonitor
from callbacks.step_schedule import StepSchedule
from callbacks.synapse_pruning import SynapsePruning

__all__ = [
    "ChipEmulation",
    "CodebookMonitor",
    "CodebookReclustering",
    "CompressedCheckpoint",
    "DeploymentSimulation",
    "EpochTimer",
    "FSCPruning",
    "FitToHardware",
    "InitialWeights",
    "NormCalibration",
    "Place",
    "PostTrainingQuantization",
    "PredictionWriter",
    "Schedule",
    "ScheduledCallback",
    "SpikeMonitor",
    "StepSchedule",
    "SynapsePruning",
]
