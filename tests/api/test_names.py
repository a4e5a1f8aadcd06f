"""The names of ``import spikefit``: lazy, listed, and independent of the order of imports."""

import subprocess
import sys

import spikefit


def test_the_names_are_listed_and_have_examples():
    assert {"load", "check", "deploy", "export", "chips", "Report"} <= set(dir(spikefit)) & set(spikefit.__all__)
    from spikefit.api.deploy import deploy

    for function in (spikefit.load, spikefit.check, deploy, spikefit.export, spikefit.chips, spikefit.Report):
        assert ">>> " in (function.__doc__ or ""), function


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(spikefit, "deplo")


def test_deploy_is_the_function_whatever_was_imported_before():
    """The package ``spikefit.deploy`` has the same name as the function."""
    for first in ("import spikefit.deploy.deployment", "from spikefit.deploy.report import Report", "pass"):
        code = f"{first}; import spikefit; print(callable(spikefit.deploy))"
        assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "True", first


def test_the_chips_are_all_of_them_by_name():
    names = [chip.name for chip in spikefit.chips()]
    assert names == sorted(names)
    assert {"loihi", "truenorth", "odin"} <= set(names)
