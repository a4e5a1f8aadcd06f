"""The report of a deployment: one typed object, and its views."""

from spikefit.deploy.report.data import Report
from spikefit.deploy.report.sections import Accuracy, Provenance

__all__ = ["Accuracy", "Provenance", "Report"]
