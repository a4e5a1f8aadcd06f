"""The page of a report: whole, self-contained, escaped, with the report's own figures."""

import copy
import json
import re
from functools import cache, partial
from html.parser import HTMLParser

import pytest
import torch
from jinja2 import UndefinedError

from spikefit.deploy import html
from spikefit.deploy.html import count, figure, render, share, write_html
from spikefit.deploy.report import print_report, write_report
from spikefit.deploy.run import Deployment
from spikefit.hardware.energy import ENERGY_MODELS
from spikefit.hardware.target import HardwareTarget
from spikefit.networks import ConvSNN
from spikefit.neurons import LIF

VOID = {"meta", "br", "link", "img", "hr", "input"}
NASTY = "<script>alert(1)</script>&\"'"


class Page(HTMLParser):
    """Every tag with its attributes, the text, and whether each tag is closed by its own end."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@cache
def made(model: str = "target") -> dict:
    torch.manual_seed(0)
    network = ConvSNN((1, 6, 6), 3, (4, 5), (6,), neuron=partial(LIF, decay=0.5, reset="zero")).eval()
    deployment = Deployment(network, HardwareTarget.load("loihi"), 3, graded_input=True, energy_model=model)
    images = torch.rand(1, 8, 1, 6, 6).expand(3, 8, 1, 6, 6)
    with torch.no_grad():
        deployment.update(images, torch.arange(8) % 3, network.logits(network(images)))
    return deployment.report()


def report_with(**changes) -> dict:
    return {**copy.deepcopy(made()), **changes}


@pytest.mark.parametrize("model", ENERGY_MODELS)
def test_the_page_holds_the_figures(model):
    report = made(model)
    page = Page(render(report))
    assert page.open == []
    assert "The network fits." in page.text
    for row in report["layers"]:
        assert {row["name"], count(row["synapses"]), count(row["synops"])} <= set(page.text.split())
    for share_of in (report["accuracy_float"], report["accuracy_deployed"]):
        assert f"{share_of:.2%}" in page.text
    assert f"{round(8 * report['accuracy_deployed'])} of 8 samples" in page.text
    for name, joule in report["energy"]["terms_j"].items():
        shown = "unknown" if joule is None else html.amount(joule, "J")
        assert re.search(rf"{name}\W+(unknown, in no sum\W+)?{shown}", page.text), name
    assert html.amount(report["energy_per_inference_j"], "J") in page.text
    for entry in report["figures"] + report["energy"]["constants"]:
        assert entry["name"] in page.text
        assert (entry["source"] or "") in page.text


def test_bars_are_shares_of_the_known_energy():
    page, report = Page(render(made("memory"))), made("memory")
    widths = [
        float(re.fullmatch(r"width: ([\d.]+)%", a["style"])[1]) for t, a in page.tags if t == "div" and "style" in a
    ]
    terms, layers = report["energy"]["terms_j"], report["layers"]
    joules = [*terms.values(), *(row["energy_j"] for row in layers)]
    expected = [100 * joule / report["energy_per_inference_j"] for joule in joules]
    assert widths[: len(joules)] == pytest.approx(expected, abs=0.006)
    assert sum(widths[: len(terms)]) == pytest.approx(100, abs=0.05)
    assert sum(widths[len(terms) : len(joules)]) == pytest.approx(100, abs=0.05)


def test_nothing_is_loaded_and_nothing_runs():
    page = Page(render(made()))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "base", "form"})
    for _, attributes in page.tags:
        assert not {"src", "href", "srcset"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in render(made())
    assert "@import" not in render(made())


def test_all_text_is_escaped():
    """Every text of the report replaced by markup: none of it becomes a tag."""

    def spoil(value, key=""):
        if isinstance(value, dict):
            kept = ("terms_j", "energy_terms_j")
            return {(NASTY if name not in value or key in kept else name): spoil(v, name) for name, v in value.items()}
        if isinstance(value, list):
            return [spoil(each, key) for each in value]
        return NASTY if isinstance(value, str) else value

    finding = {"limit": "a", "where": "b", "needed": "c", "available": "d", "mend": "e", "text": "f"}
    report = spoil(report_with(fits=False, findings=[finding], unknown_limits=["limits.cores"]))
    page = render(report)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 100
    assert Page(page).open == []


def test_what_does_not_fit_stands_first():
    finding = {
        "limit": "cores",
        "where": "small",
        "needed": 1234,
        "available": 3,
        "mend": "prune neurons",
        "kind": "capacity",
        "prune_blocks": [],
        "text": "",
    }
    text = Page(render(report_with(fits=False, findings=[finding], unknown_limits=["limits.fan_in"]))).text
    assert "does not fit: 1 limit is exceeded" in text
    assert "small cores 1,234 3 prune neurons" in text
    assert "Not checked, since nobody published it: limits.fan_in" in text
    two = Page(render(report_with(fits=False, findings=[finding, finding]))).text
    assert "2 limits are exceeded" in two


def test_what_was_not_measured_is_not_a_zero():
    """No energy known, nothing compared, no limit on cores."""
    report = report_with(energy_per_inference_j=None, parity=None, target_agreement=None)
    report["energy"]["terms_j"] = dict.fromkeys(report["energy"]["terms_j"])
    report["cores"]["available"] = None
    for row in report["layers"]:
        row["energy_j"] = None
    text = Page(render(report)).text
    assert text.count("not compared") == 2
    assert "the chip's number is not known; no placement needs fewer" in text
    assert "A bar is a share" not in text


def test_a_report_read_back_makes_the_same_page(tmp_path):
    report = made()
    path = write_report(report, tmp_path)
    read = json.loads(path.read_text())
    assert read == report
    page = write_html(read, tmp_path)
    assert page == tmp_path / "report.html"
    assert page.read_text(encoding="utf-8") == render(report)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_a_page_that_fails_leaves_the_old_one(tmp_path):
    write_html(made(), tmp_path)
    before = (tmp_path / "report.html").read_bytes()
    broken = report_with()
    del broken["cores"]
    with pytest.raises(UndefinedError):
        write_html(broken, tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_full_disk_leaves_the_old_one(tmp_path, monkeypatch):
    write_html(made(), tmp_path)
    before = (tmp_path / "report.html").read_bytes()

    def fails(self, target):
        raise OSError("No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fails)
    with pytest.raises(OSError, match="No space"):
        write_html(report_with(target="other"), tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_numbers():
    assert [count(value) for value in (None, 0.0, 12345, 40.71, 389.04, "lif", True)] == [
        "unknown",
        "0",
        "12,345",
        "40.71",
        "389",
        "lif",
        "True",
    ]
    assert [share(value) for value in (1, 0.5, 1 - 1e-12)] == ["100 %", "50.0000%", "99.9999%"]
    assert figure({"name": "hop_j", "value": 3e-12}) == "3 pJ"
    assert figure({"name": "sram_word_j", "value": (1e-11, 1e-10)}) == "10 pJ, 100 pJ"
    assert figure({"name": "static_w", "value": 4.2e-4}) == "420 µW"
    assert figure({"name": "weights.bits", "value": [1, 8]}) == "1, 8"
    assert figure({"name": "weights.left_aligned", "value": True}) == "yes"
    assert figure({"name": "limits.cores", "value": 4096}) == "4,096"


def test_the_terms_are_printed(capsys):
    print_report(made("memory"))
    printed = capsys.readouterr().out
    for name in ("synops", "updates", "encoder", "memory"):
        assert re.search(rf"^    {name} +[\d.]+ [munp]?J", printed, re.MULTILINE), name


def test_the_cores_add_up():
    report = made()
    cores = report["cores"]
    assert cores["used"] == report["cores_used"] >= cores["lower_bound"] >= 1
    assert cores["available"] == 128
    for use in cores["utilisation"].values():
        assert 0 <= use["mean"] <= use["max"] <= 1
