"""Content of the installed packages, and consistency of version and citation."""

import tomllib
from importlib.resources import files
from pathlib import Path

import yaml

import spikefit

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_type_checkers_read_the_annotations():
    """Hatch ships every file of a package, unless an option of the build leaves some out."""
    build = PROJECT["tool"]["hatch"]["build"]
    assert set(build) == {"targets"}
    assert set(build["targets"]) == {"wheel"}
    assert set(build["targets"]["wheel"]) == {"packages", "force-include"}
    for package in build["targets"]["wheel"]["packages"]:
        assert (files(package) / "py.typed").is_file(), package


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == spikefit.__version__
    assert citation["license"] == PROJECT["project"]["license"]
