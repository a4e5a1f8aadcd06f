"""The reports of a run, as files."""

from dataclasses import replace
from pathlib import Path

from spikefit.deploy.report.data import Report
from spikefit.errors import ReportError

NAME = "report.json"


def report_files(run: str | Path) -> list[Path]:
    """The reports below a run.

    Args:
        run: directory of a run, one of its checkpoints, or a ``report.json``.

    Raises:
        ReportError: if there is none.
    """
    path = Path(run)
    if path.is_file() and path.suffix == ".json":
        return [path]
    if not path.exists():
        raise ReportError(f"report: no file or folder {path}; expected the directory of a run, or a {NAME}.")
    folder = path if path.is_dir() else path.absolute().parents[1]
    for home in (folder / "deployment", folder):
        found = [home / NAME, *sorted(home.glob(f"*/{NAME}"))]
        if any(file.is_file() for file in found):
            return [file for file in found if file.is_file()]
    raise ReportError(
        f"report: {folder} has no deployment/{NAME}; expected the directory of a run that was deployed. Deploy it with "
        f"spikefit deploy {run}."
    )


def reports_of(run: str | Path) -> list[tuple[Path, Report]]:
    """The reports below a run with their files; of those with equal figures only the first.

    Raises:
        ReportError: as :func:`report_files` and :func:`read_report`.
    """
    found: list[tuple[Path, Report]] = []
    for path in report_files(run):
        report = read_report(path)
        if not any(replace(report, provenance=other.provenance) == other for _, other in found):
            found.append((path, report))
    return found


def read_report(path: Path) -> Report:
    """The report in a file.

    Raises:
        ReportError: if the file can't be read, or is no report; names the file.
    """
    try:
        return Report.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"report: {path} can't be read: {error}") from error
    except ReportError as error:
        raise ReportError(f"{path}: {error}") from error


def run_name(path: Path, report: Report) -> str:
    """Name of the run of a report: as the report says, or else its folder."""
    return report.provenance.run or path.parent.name
