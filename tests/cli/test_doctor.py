"""The report of ``spikefit doctor``."""

import pytest
import torch

from spikefit.cli import doctor, installed, main


def test_it_reports_and_ends_with_0_where_nothing_fails(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SPIKEFIT_DATA_DIR", str(tmp_path))
    (tmp_path / "MNIST").mkdir()
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--compute"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0, shown
    assert "FAILS" not in shown
    assert f"{tmp_path} (SPIKEFIT_DATA_DIR): MNIST" in shown
    assert torch.__version__.split("+")[0] in shown


def test_a_missing_package_fails(monkeypatch, capsys):
    monkeypatch.setattr(installed, "PACKAGES", ("torch", "no_such_package"))
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    assert "FAILS  no_such_package" in capsys.readouterr().out


def test_a_device_that_computes_something_else_fails(monkeypatch):
    right = doctor._trained
    calls = iter((0.5, 0.0, 0.0, 0.0))
    monkeypatch.setattr(doctor, "_trained", lambda *args: [w + next(calls, 0.0) for w in right(*args)][:1])
    first, second = doctor.steps(torch.device("cpu"))
    assert first.ok is False
    assert "differ" in first.text
    assert second.ok


def test_a_device_that_raises_is_reported_in_a_line():
    def broken():
        raise RuntimeError("no kernel image is available\nmore")

    found = doctor.attempt("training", broken, "three steps")
    assert (found.ok, found.text) == (False, "RuntimeError: no kernel image is available")


def test_gpus_are_those_that_the_driver_lists(monkeypatch, tmp_path):
    """A program in place of nvidia-smi; torch's CUDA version is read without importing torch."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA X, 80000 MiB'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = installed.gpu()
    assert found.ok is (torch.version.cuda is not None)
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    assert found.text == f"NVIDIA X, 80000 MiB; torch was built {built}"
    program.write_text("#!/bin/sh\nexit 9\n")
    assert installed.gpu().text.startswith("none (torch was built ")
