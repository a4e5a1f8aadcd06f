"""The HTML page of a report: complete, self-contained, escaped, with the figures of the report."""

import copy
import re
from dataclasses import replace
from functools import cache, partial
from html.parser import HTMLParser

import pytest
import torch
from helpers.deployment_contexts import context
from helpers.hand_made_report import FINDING
from helpers.hand_made_report import report as hand_made

from spikefit.deploy.deployment import Deployment
from spikefit.deploy.report import Report, html
from spikefit.deploy.report.html import count, figure, render, share, write_html
from spikefit.deploy.report.sections import SourcedEntry
from spikefit.deploy.report.terminal import print_report
from spikefit.errors import StorageError
from spikefit.hardware.energy import ENERGY_MODELS
from spikefit.networks import ConvSNN
from spikefit.neurons import LIF

VOID = {"meta", "br", "wbr", "link", "img", "hr", "input"}
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
def made(model: str = "target") -> Report:
    torch.manual_seed(0)
    network = ConvSNN((1, 6, 6), 3, (4, 5), (6,), neuron=partial(LIF, decay=0.5, reset="zero")).eval()
    deployment = Deployment(network, context(3, True, target="loihi"), energy_model=model)
    images = torch.rand(1, 8, 1, 6, 6).expand(3, 8, 1, 6, 6)
    with torch.no_grad():
        deployment.update(images, torch.arange(8) % 3, network.logits(network(images)))
    return deployment.report()


def report_with(**changes) -> Report:
    return replace(made(), **changes)


@pytest.mark.parametrize("model", ENERGY_MODELS)
def test_the_page_holds_the_figures(model):
    report = made(model)
    page = Page(render(report))
    assert page.open == []
    assert "The network fits." in page.text
    for row in report.layers:
        assert {row.name, count(row.synapses), count(row.synops)} <= set(page.text.split())
    for share_of in (report.accuracy_float, report.accuracy_deployed):
        assert f"{share_of:.2%}" in page.text
    assert f"{round(8 * report.accuracy_deployed)} of 8 samples" in page.text
    for name, joule in report.energy.terms_j.items():
        shown = "unknown" if joule is None else html.amount(joule, "J")
        assert re.search(rf"{name}\W+(unknown, not in the sum\W+)?{shown}", page.text), name
    assert html.amount(report.energy_per_inference_j, "J") in page.text
    for entry in report.figures + report.energy.constants:
        assert entry.name in page.text
        assert (entry.source or "") in page.text


def test_bars_are_shares_of_the_known_energy():
    """The bars by term, then those by layer, whose parts are their terms."""
    report = made("memory")
    page = render(report)
    section = page[page.index('id="energy"') : page.index('id="cores"')]
    bars = re.findall(r'class="bar".*?</svg>', section)
    widths = [[float(width) for width in re.findall(r'width="([\d.]+)" height="10" class="c', bar)] for bar in bars]
    terms, layers, total = report.energy.terms_j, report.layers, report.energy_per_inference_j
    expected = [[joule] if joule else [] for joule in terms.values()]
    expected += [[joule for joule in row.energy_terms_j.values() if joule] for row in layers]
    assert len(widths) == len(expected)
    for found, joules in zip(widths, expected, strict=True):
        assert found == pytest.approx([100 * joule / total for joule in joules], abs=0.006)
    for found in (widths[: len(terms)], widths[len(terms) :]):
        assert sum(map(sum, found)) == pytest.approx(100, abs=0.1)


def test_nothing_is_loaded_and_nothing_runs():
    page = Page(render(made()))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "base", "form"})
    anchors = {f"#{attributes['id']}" for _, attributes in page.tags if "id" in attributes}
    for _, attributes in page.tags:
        assert not {"src", "srcset"} & attributes.keys()
        assert attributes.get("href") is None or attributes["href"] in anchors
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

    spoilt = hand_made(findings=(FINDING,), unknown_limits=("limits.cores",)).to_dict()
    report = Report.from_dict(spoil(spoilt))
    page = render(report)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 50
    assert Page(page).open == []


def test_what_does_not_fit_stands_first():
    text = Page(render(report_with(findings=(FINDING,), unknown_limits=("limits.fan_in",)))).text
    assert "does not fit: 1 limit is exceeded" in text
    assert "small cores 1,234 3 prune neurons" in text
    assert "Not checked, since nobody published it: limits.fan_in" in text
    two = Page(render(report_with(findings=(FINDING, FINDING)))).text
    assert "2 limits are exceeded" in two
    nowhere = Page(render(report_with(cores=replace(made().cores, unplaced=("fc1",))))).text
    assert "does not fit: no core can hold fc1" in nowhere


def test_figures_that_presume_a_fit_are_marked():
    page = Page(render(hand_made(findings=(FINDING,))))
    assert page.text.count(" partial ") == 6, "the verdict, two cards, two sections, another chip"
    marked = [
        attributes["class"] for _, attributes in page.tags if "partial" in (attributes.get("class") or "").split()
    ]
    assert marked == ["card partial", "card partial", "figures partial", "figures partial"]
    fitting = Page(render(hand_made(chips=())))
    assert "partial" not in fitting.text
    assert not [a for _, a in fitting.tags if "partial" in (a.get("class") or "")]


def test_the_page_says_what_was_trained_and_what_it_cost():
    text = Page(render(hand_made())).text
    assert "Accuracy, trained network (with the chip's integers) 98.00% 196 of 200 samples, integers of small" in text
    assert "Accuracy, float network before compression 99.00% 99 of 100 samples" in text
    plain = Page(render(hand_made(trained_with_integers_of=None, accuracy_before_compression=None))).text
    assert "Accuracy, trained network 98.00% 196 of 200 samples" in plain
    assert "network before compression 9" not in plain


def test_the_page_says_where_it_comes_from():
    text = Page(render(hand_made())).text
    for words in ("data set Digits", "run own/version_3", "configuration not known", "seed 7", f"commit {'a' * 40}"):
        assert words in text


def test_what_was_not_measured_is_not_a_zero():
    """No energy known, nothing compared, no limit on cores."""
    whole = made()
    report = report_with(
        energy_per_inference_j=None,
        parity=None,
        target_agreement=None,
        energy=replace(whole.energy, terms_j=dict.fromkeys(whole.energy.terms_j)),
        cores=replace(whole.cores, available=None),
        layers=tuple(replace(layer, energy_j=None) for layer in whole.layers),
    )
    text = Page(render(report)).text
    assert text.count("not compared") == 2
    assert "the chip's number of cores is not known; no placement needs fewer" in text
    assert "A bar is a share" not in text


def test_a_report_read_back_makes_the_same_page(tmp_path):
    report = made()
    path = report.write(tmp_path)
    read = Report.from_json(path.read_text())
    assert read == report
    page = write_html(read, tmp_path)
    assert page == tmp_path / "report.html"
    assert page.read_text(encoding="utf-8") == render(report)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_a_page_that_fails_leaves_the_old_one(tmp_path):
    write_html(made(), tmp_path)
    before = (tmp_path / "report.html").read_bytes()
    broken = copy.copy(made())
    object.__setattr__(broken, "layers", (object(),))
    with pytest.raises(AttributeError):
        write_html(broken, tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_full_disk_leaves_the_old_one(tmp_path, monkeypatch):
    write_html(made(), tmp_path)
    before = (tmp_path / "report.html").read_bytes()

    def fails(self, target):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(StorageError, match="no space"):
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
    assert figure(SourcedEntry("hop_j", 3e-12, None, None)) == "3 pJ"
    assert figure(SourcedEntry("sram_word_j", (1e-11, 1e-10), None, None)) == "10 pJ, 100 pJ"
    assert figure(SourcedEntry("static_w", 4.2e-4, None, None)) == "420 µW"
    assert figure(SourcedEntry("weights.bits", [1, 8], None, None)) == "1, 8"
    assert figure(SourcedEntry("weights.left_aligned", True, None, None)) == "yes"
    assert figure(SourcedEntry("limits.cores", 4096, None, None)) == "4,096"


def test_the_terms_are_printed(capsys):
    print_report(made("memory"))
    printed = capsys.readouterr().out
    for name in ("synops", "updates", "encoder", "memory"):
        assert re.search(rf"^    {name} +[\d.]+ [munp]?J", printed, re.MULTILINE), name


def test_the_cores_add_up():
    report = made()
    cores = report.cores
    assert cores.used == report.cores_used >= cores.lower_bound >= 1
    assert cores.available == 128
    for use in cores.utilisation.values():
        assert 0 <= use.mean <= use.max <= 1
