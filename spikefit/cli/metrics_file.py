"""The file ``metrics.csv`` of a run: rows that have been written are never lost."""

import csv
import io
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from spikefit.atomic import write_atomically, writing
from spikefit.errors import StorageError


class MetricsFile(ExperimentWriter):
    """Lightning's writer of ``metrics.csv``, which rewrites the file atomically when a new metric appears.

    Raises:
        StorageError: if the file can't be written.
    """

    def save(self) -> None:
        """Append the rows that were logged since the last call."""
        columns = list(self.metrics_keys)
        try:
            with writing(Path(self.metrics_file_path)):
                super().save()
        except StorageError:
            self.metrics_keys = columns  # those of the file, for another try
            raise

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path, text = Path(self.metrics_file_path), io.StringIO(newline="")
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        writer = csv.DictWriter(text, fieldnames=fieldnames)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(path, text.getvalue())


def open_metrics_file(logger: CSVLogger) -> None:
    """Let ``logger`` write with :class:`MetricsFile`."""
    path = Path(logger.log_dir)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        logger._experiment = MetricsFile(log_dir=logger.log_dir)
