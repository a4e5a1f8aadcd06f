"""The report of a deployment: one typed object, and the views that are made of it."""

from spikefit.deploy.report.data import Report
from spikefit.deploy.report.sections import Accuracy, Provenance

__all__ = ["Accuracy", "Provenance", "Report"]
