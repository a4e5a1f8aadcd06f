"""examples/quickstart.ipynb is executed as in a browser, in a kernel of its own, and is stored without outputs."""

import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


def test_it_is_short_and_stored_without_outputs():
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert 8 <= len(cells) <= 12
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


def test_it_runs_and_ends_with_a_report(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    pages = [data["text/html"] for data in shown if "text/html" in data]
    assert len(pages) == 2
    assert "loihi" in pages[0]
    assert all(name in pages[1] for name in ("loihi", "generic"))
    assert (tmp_path / "digits_on_loihi" / "program.safetensors").is_file()
