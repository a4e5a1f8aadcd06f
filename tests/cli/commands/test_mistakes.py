"""Every mistake with a command ends with status 2 and one message."""

from pathlib import Path

import pytest
from helpers.hand_made_report import report

import spikefit
from spikefit.cli import main

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Run a command in an empty folder; gives status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["depoly", "x.ckpt"], "Did you mean deploy?"),
        (["nonsense"], "'nonsense' is no command; expected one of fit,"),
        (["chips", "lohi"], "Did you mean loihi?"),
        (["chips", "mine.yaml"], "mine.yaml can't be read"),
        (["chips", "--yaml"], "--yaml needs the NAME of a chip"),
        (["check"], "expected --config FILE"),
        (["check", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["check", "nowhere"], "config: no file nowhere"),
        (["check", "nowhere.ckpt"], "checkpoint: no file nowhere.ckpt"),
        (["check", "nowhere", "--config", "x.yaml"], "expected either a run"),
        (["check", "--config", CONFIGS / "quickstart.yaml", "--hardware", "lohi"], "Did you mean loihi?"),
        (["check", "--config", "quickstart", "--trainer.max_epoch=3"], "Did you mean --trainer.max_epochs?"),
        (["check", "--config", "quickstart", "--callbacks.FSCPrunin.fraction=0.4"], "Did you mean FSCPruning?"),
        (["check", "--config", CONFIGS / "quickstart.yaml", "--hardware", "all", "loihi"], "expected all alone"),
        (["deploy"], "CKPT"),
        (["deploy", "nowhere"], "checkpoint: no file nowhere"),
        (["deploy", "."], "has the checkpoints none"),
        (["deploy", "x.ckpt", "--hardwre", "loihi"], "Did you mean --hardware?"),
        (["deploy", "x.ckpt", "--samples", "many"], "--samples: invalid int value: 'many'"),
        (["export", "nowhere"], "checkpoint: no file nowhere"),
        (["export", "x.ckpt", "--dialect", "norse"], "expected --format nir"),
        (["report", "nowhere"], "report: no file or folder nowhere"),
        (["report", "."], "has no deployment/report.json"),
        (["compare", "nowhere"], "report: no file or folder nowhere"),
        (["compare"], "RUN"),
        (["init"], "DIR"),
        (["doctor", "--all"], "unrecognized arguments: --all"),
    ],
)
def test_a_mistake_is_one_message_and_status_2(call, words, expected):
    status, _, errors = call(*words)
    assert status == 2
    assert errors.startswith("spikefit: error: "), errors
    assert expected in errors
    assert "Traceback" not in errors
    assert len(errors.splitlines()) <= 12, "one screen"


def test_without_a_command_the_overview_is_shown(call, monkeypatch):
    for name in ("SPIKEFIT_CONFIG", "SPIKEFIT_SUBCOMMAND"):
        monkeypatch.delenv(name, raising=False)
    status, out, errors = call()
    assert (status, out) == (2, "")
    assert "check whether a network fits a chip" in errors
    assert call("--help")[:2] == (0, errors)
    assert call("--version")[:2] == (0, f"spikefit {spikefit.__version__}\n")


@pytest.mark.parametrize("name", ["init", "chips", "check", "deploy", "export", "report", "compare", "doctor"])
def test_every_command_has_an_example_in_its_help(call, name):
    status, out, _ = call(name, "--help")
    assert status == 0
    assert f"  spikefit {name}" in out.partition("example")[2]


def test_chips_show_figures_and_files(call):
    status, out, _ = call("chips", "loihi")
    assert status == 0
    assert "limits.cores" in out
    assert "23.6 pJ" in out
    assert "unknown" in out
    assert call("chips", "loihi", "--yaml")[1] == (CONFIGS / "hardware" / "loihi.yaml").read_text()
    assert all(path.stem in call("chips")[1] for path in CONFIGS.glob("hardware/*.yaml"))


def test_report_and_compare_read_reports_alone(call):
    report().write(Path("a/deployment"))
    report(model_bytes=77).write(Path("a/deployment/other"))
    report().write(Path("a/deployment/same"))
    status, out, errors = call("report", "a")
    assert (status, errors) == (0, "")
    assert out.count("Deployment on") == 2, "equal figures are shown once"
    assert Path("a/deployment/report.html").read_text() == report().to_html()
    assert call("compare", "a", "a/deployment/same/report.json", "--json", "figures.json")[0] == 0
    assert Path("comparison.svg").is_file()
    assert Path("figures.json").read_text().count('"chip"') == 3
    Path("a/deployment/report.json").write_text("{}")
    status, _, errors = call("report", "a")
    assert status == 2
    assert "a/deployment/report.json: report" in errors


def test_opening_a_page_without_a_browser_says_where_it_is(call, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address))
    report().write(Path("deployment"))
    status, out, _ = call("report", ".", "--open")
    assert status == 0
    assert opened == [Path("deployment/report.html").resolve().as_uri()]
    assert "There is no browser to open; the page is deployment/report.html." in out
