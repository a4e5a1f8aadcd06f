"""The documentation is built strictly: no broken link, no name that mkdocstrings does not find."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import callbacks
from scripts.docs.reference import PAGES, chip_page, public_names
from spikefit.api.chips import chips

ROOT = Path(__file__).resolve().parents[2]


def test_every_public_class_is_in_the_reference():
    listed = {name for page in PAGES.values() for module in page.modules for name in public_names(module)}
    assert {f"callbacks.{name}" for name in callbacks.__all__} <= listed
    for name in ("spikefit.neurons.CubaLIF", "spikefit.quantize.Codebook", "spikefit.data.SpikeDataModule"):
        assert name in listed


def test_every_figure_of_every_chip_is_listed_with_its_source():
    page = chip_page()
    for chip in chips():
        section = page.split(f"## {chip.name}\n")[1].split("\n## ")[0]
        for name, figure in chip.sourced_values():
            assert f"| `{name}` |" in section
            assert figure.source is None or figure.source.replace("|", "\\|") in section


def test_the_site_is_built_strictly(tmp_path):
    for package in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    concepts = (tmp_path / "concepts" / "networks" / "index.html").read_text()
    assert "<math" in concepts
    assert "arithmatex" not in concepts
    reference = (tmp_path / "reference" / "callbacks" / "index.html").read_text()
    assert all(f'id="callbacks.{name}"' in reference for name in ("FSCPruning", "CodebookReclustering"))
    assert ":class:" not in reference
    for page in tmp_path.rglob("*.html"):  # nothing is loaded from other hosts
        assert 'src="http' not in page.read_text(), page
