"""Comparison of reports: rows, text, HTML, JSON and the plot."""

import builtins
import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import torch
from helpers.hand_made_report import FINDING, report

from spikefit.api.deploy import Options, deploy_to_all
from spikefit.api.load import TrainedRun
from spikefit.deploy.report import Provenance
from spikefit.deploy.report.comparison import Comparison, Entry
from spikefit.errors import ConfigurationError
from spikefit.hardware.target import HardwareTarget
from spikefit.module import SpikingClassifier
from spikefit.networks import MLP
from spikefit.neurons import LIF


def of_run(name, **changes):
    return replace(report(**changes), provenance=Provenance(run=name))


def test_rows_show_the_figures_of_the_reports():
    first, second = of_run("a/version_0"), of_run("b/version_1", findings=(FINDING,))
    one, other = Comparison.of([first, second]).rows()
    assert (one["run"], one["chip"], one["fits"]) == ("a/version_0", first.target, "yes, as far as known")
    known = Comparison.of([of_run("c", unknown_limits=())]).rows()[0]
    assert known["fits"] == "yes"
    assert (other["run"], other["fits"]) == ("b/version_1", "no, 1 finding")
    assert one["bytes"] == f"{first.model_bytes:,}"
    assert one["deployed"] == f"{first.accuracy_deployed:.2%}"
    assert other["energy"].endswith(", partial")
    assert not one["energy"].endswith("partial")


def test_reports_of_one_run_are_told_apart_by_their_chips():
    rows = Comparison.of([of_run("a", target="one"), of_run("a", target="two")]).rows()
    assert [row["chip"] for row in rows] == ["one", "two"]
    assert all("run" not in row for row in rows)


def test_text_html_and_json_have_every_row():
    comparison = Comparison([*Comparison.of([of_run("a<b")]).entries, Entry("c", "odin", None, ("no such neuron",))])
    assert "odin can't run it: no such neuron." in str(comparison)
    page = comparison._repr_html_()
    assert "a&lt;b" in page
    assert page.count("<tr>") == 3
    first, second = json.loads(comparison.to_json())
    assert (first["runs"], first["model_bytes"]) == (True, report().model_bytes)
    assert second == {"run": "c", "chip": "odin", "runs": False, "findings": ["no such neuron"]}


def test_the_plot_shows_every_report_in_both_panels(tmp_path):
    pytest.importorskip("matplotlib", reason="the plot is optional")
    comparison = Comparison([*Comparison.of([of_run("a"), of_run("b")]).entries, Entry("c", "odin", None, ("no",))])
    path = comparison.plot(tmp_path / "new" / "plot.svg")
    text = path.read_text()
    assert ET.fromstring(text).tag.endswith("svg")
    assert text.count(f"<!-- a, {report().target} -->") == text.count(f"<!-- b, {report().target} -->") == 2
    assert "c, odin" not in text
    with pytest.raises(ConfigurationError, match=r"plot: got .*plot.xyz, expected a file name ending in"):
        comparison.plot(tmp_path / "plot.xyz")


def test_without_matplotlib_the_message_says_how_to_install_it(monkeypatch, tmp_path):
    importing = builtins.__import__

    def absent(name, *args, **options):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return importing(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigurationError, match=r"spikefit\[plots\]"):
        Comparison.of([report()]).plot(tmp_path / "plot.svg")


def test_a_notebook_shows_the_page_in_a_frame():
    shown = report()._repr_html_()
    assert shown.startswith('<iframe srcdoc="&lt;!DOCTYPE html&gt;')
    assert shown.count("<") == 2, "the page itself is escaped"


def test_a_report_is_written_where_it_is_told(tmp_path):
    made = report()
    assert made.to_json(tmp_path / "a" / "r.json") == (tmp_path / "a" / "r.json").read_text()
    assert made.to_html(tmp_path / "r.html") == (tmp_path / "r.html").read_text()
    assert len(made.compare(made, made).rows()) == 3


def test_a_chip_that_holds_no_layer_whole_shows_what_is_unplaced():
    """Tianjic's cores have 256 inputs: they do not hold fc1, which has 300 inputs."""

    def network(shape, classes):
        return MLP(shape, classes, hidden=(40,), neuron=lambda units: LIF(units, reset="zero"))

    module = SpikingClassifier(network, (300,), 3, input_kind="spikes", time_steps=4).eval()
    batch = ((torch.rand(4, 2, 300) < 0.5).float(), torch.tensor([0, 1]))
    chips = [HardwareTarget.load("tianjic"), HardwareTarget.load("odin")]
    outcomes = deploy_to_all(TrainedRun(module), chips, [batch], Options(parity_samples=1))
    comparison = Comparison(Entry("", each.chip.name, each.report, each.reasons) for each in outcomes)
    tianjic, odin = comparison.rows()
    assert (tianjic["fits"], tianjic["cores"]) == ("no, 3 findings", "1, without fc1")
    assert odin["fits"] == "can't run it"
    assert json.loads(comparison.to_json())[0]["cores_at_least"] == 1
