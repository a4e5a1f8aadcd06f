"""Callbacks that compress and deploy: import them in YAML as ``callbacks.FSCPruning`` and so on."""

from callbacks.base import ScheduledCallback
from callbacks.checkpoint import CompressedCheckpoint
from callbacks.deployment import DeploymentSimulation
from callbacks.fsc_pruning import FSCPruning
from callbacks.norm_calibration import NormCalibration
from callbacks.predictions import PredictionWriter
from callbacks.reclustering import CodebookReclustering, PostTrainingQuantization
from callbacks.spike_monitor import SpikeMonitor

__all__ = [
    "CodebookReclustering",
    "CompressedCheckpoint",
    "DeploymentSimulation",
    "FSCPruning",
    "NormCalibration",
    "PostTrainingQuantization",
    "PredictionWriter",
    "ScheduledCallback",
    "SpikeMonitor",
]
