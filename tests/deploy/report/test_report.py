"""The report as a typed object: derived fields, storage as JSON, and the views that are made from it."""

import json
import subprocess
from dataclasses import FrozenInstanceError, replace

import pytest
from helpers.hand_made_report import FINDING, layer, report

from spikefit.deploy.report import Provenance, Report
from spikefit.deploy.report.git_commit import checkout_commit
from spikefit.deploy.report.logger_values import layer_table, scalars
from spikefit.deploy.report.terminal import print_report, summary
from spikefit.errors import ReportError

KEYS_OF_VERSION_0_1 = [
    "target",
    "fits",
    "findings",
    "unknown_limits",
    "figures",
    "samples",
    "accuracy_float",
    "accuracy_deployed",
    "time_steps",
    "units_total",
    "units_alive",
    "units_pruned_fraction",
    "cores_used",
    "cores",
    "neurons",
    "synapses",
    "unique_weights_max",
    "model_bytes",
    "bits_per_weight",
    "synops_per_inference",
    "macs_per_inference",
    "spikes_per_inference",
    "overflows_per_inference",
    "energy_per_inference_j",
    "energy",
    "parity",
    "target_agreement",
    "encoder",
    "layers",
]
NEW_KEYS = (
    "partial",
    "accuracy_before_compression",
    "samples_before_compression",
    "trained_with_integers_of",
    "input_kind",
    "float_bytes",
    "relay_synops_per_inference",
    "provenance",
    "codebooks",
    "rates",
    "examples",
    "confusion",
    "core_map",
    "training",
    "chips",
)


def test_what_is_derived():
    made = report()
    assert (made.fits, made.partial, made.cores_used, made.encoder) == (True, False, 2, "conv1")
    assert (made.synapses, made.unique_weights_max, made.units_pruned_fraction) == (2000, 4, 0.4)
    assert (made.synops_per_inference, made.macs_per_inference, made.spikes_per_inference) == (6001.0, 500.0, 40.0)
    assert made.overflows_per_inference == 0.5
    assert made.energy.unknown == ("updates",)
    assert made.target_agreement.agreement == 0.997


def test_figures_are_partial_with_a_finding_or_an_unplaced_population():
    assert report(findings=(FINDING,)).partial
    unplaced = report(cores=replace(report().cores, unplaced=("fc1",)))
    assert unplaced.fits
    assert unplaced.partial


def test_a_report_can_not_be_changed():
    with pytest.raises(FrozenInstanceError):
        report().samples = 1


@pytest.mark.parametrize(
    "made",
    [
        report(),
        report(findings=(FINDING, replace(FINDING, needed="a neuron", available=1.5, prune_blocks=()))),
        report(
            parity=None,
            target_agreement=None,
            energy_per_inference_j=None,
            accuracy_before_compression=None,
            samples_before_compression=None,
            trained_with_integers_of=None,
            provenance=Provenance(),
        ),
    ],
    ids=["full", "findings", "nothing known"],
)
def test_a_report_that_is_read_back_is_equal(made):
    read = Report.from_json(made.to_json())
    assert read == made
    assert read.to_json() == made.to_json()
    assert isinstance(read.figures[1].value, tuple)


def test_the_keys_and_their_order():
    keys = list(report().to_dict())
    assert [key for key in keys if key not in NEW_KEYS] == KEYS_OF_VERSION_0_1
    assert set(NEW_KEYS) < set(keys)
    content = report(findings=(FINDING,)).to_dict()
    assert list(content["findings"][0])[-1] == "text"
    assert list(content["energy"]) == ["model", "terms_j", "unknown", "constants"]
    assert list(content["parity"]) == ["compared", "mismatches", "ties", "agreement"]


def test_a_report_of_version_0_1_can_be_read():
    content = {key: value for key, value in report().to_dict().items() if key in KEYS_OF_VERSION_0_1}
    read = Report.from_dict(content)
    assert read.accuracy_before_compression is None
    assert read.trained_with_integers_of is None
    assert read.provenance == Provenance()
    assert read.layers == report().layers
    assert (read.codebooks, read.examples, read.confusion, read.core_map, read.training) == ((), (), None, None, None)


def test_lists_of_numbers_are_on_one_line():
    text = report(unknown_limits=("[\n 1,\n 2\n]", "a [ 1 ]"), samples=200).to_json()
    assert '"counts": [1, 4, 2, 0, 3]' in text
    assert "[60, 5, 0]," in text
    assert '"spikes": ["..1.", "2..1"]' in text
    assert json.loads(text) == json.loads(json.dumps(report(unknown_limits=("[\n 1,\n 2\n]", "a [ 1 ]")).to_dict()))


def test_keys_of_a_later_version_are_left_out():
    assert Report.from_dict({**report().to_dict(), "more": 1}) == report()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda content: content.pop("samples"), r"report\.samples: missing"),
        (lambda content: content["cores"].pop("used"), r"report\.cores\.used: missing"),
        (lambda content: content["layers"][1].update(shape=3), r"report\.layers\[1\]\.shape: got 3"),
        (lambda content: content.update(samples="many"), r"report\.samples: got 'many', expected int"),
        (lambda content: content.update(energy=None), r"report\.energy: got None"),
    ],
)
def test_a_damaged_report_names_the_field(spoil, named):
    content = json.loads(report().to_json())
    spoil(content)
    with pytest.raises(ReportError, match=named):
        Report.from_dict(content)


def test_text_that_is_no_json_is_refused():
    with pytest.raises(ReportError, match="not valid JSON"):
        Report.from_json("{")


def test_a_report_is_read_from_its_text_or_its_file(tmp_path):
    text = report().to_json(tmp_path / "report.json")
    for source in (text, tmp_path / "report.json", str(tmp_path / "report.json")):
        assert Report.from_json(source) == Report.from_json(text)
    with pytest.raises(ReportError, match=r"nowhere\.json can't be read"):
        Report.from_json(tmp_path / "nowhere.json")


def test_the_numbers_of_a_logger():
    numbers = scalars(report())
    assert numbers["deploy/accuracy_before_compression"] == 0.99
    assert numbers["deploy/energy_unknown_terms"] == 1.0
    assert numbers["deploy/fits"] == 1.0
    assert numbers["deploy/energy_per_inference_j"] == 4.1e-7
    assert all(isinstance(value, float) for value in numbers.values())
    unknown = scalars(report(accuracy_before_compression=None, energy_per_inference_j=None, findings=(FINDING,)))
    assert unknown["deploy/fits"] == 0.0
    assert numbers.keys() - unknown.keys() == {
        "deploy/accuracy_before_compression",
        "deploy/energy_per_inference_j",
    }


def test_the_table_of_layers():
    columns, rows = layer_table(report())
    assert columns == ["name", "neurons", "synapses", "unique_weights", "bits", "rate", "synops", "macs", "energy_j"]
    assert rows[0] == ["conv1", 144, 1000, 4, 0, 0.125, 3000.5, 500.0, 2e-7]


def test_the_summary_says_what_the_network_was_trained_with():
    rows = dict(summary(report()))
    assert rows["accuracy, float network"] == "99.00% of 100 samples"
    assert rows["accuracy, trained network\n (with the chip's integers)"] == "98.00% of 200 samples"
    assert rows["accuracy, deployed"] == "97.50% of 200 samples"
    assert rows["chip's spikes = network's"] == "3 mismatches in 1,000 neuron steps"
    plain = dict(summary(report(trained_with_integers_of=None, accuracy_before_compression=None)))
    assert "accuracy, trained network" in plain
    assert "accuracy, float network" not in plain


def test_the_summary_marks_what_presumes_a_fit():
    labels = dict(summary(report(findings=(FINDING,))))
    assert labels["fits"] == "no (1 finding below)"
    assert {"cores used (partial)", "energy (partial)", "  hops (partial)", "synops", "  synops"} <= labels.keys()
    assert not [label for label, _ in summary(report()) if "partial" in label]
    unplaced = replace(report().cores, unplaced=("fc1",))
    assert dict(summary(report(cores=unplaced)))["fits"] == "no (0 findings below, 1 layer unplaced)"


def test_the_terminal_table_fits_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_report(report(findings=(FINDING,), layers=(layer("conv1"), layer("fc1"))))
    printed = capsys.readouterr().out
    assert "does not fit: small: cores: needs 1234." in printed
    assert "  (with the chip's integers)" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_the_commit_of_a_checkout(tmp_path):
    assert checkout_commit(tmp_path) is None

    def git(*words):
        author = ("-c", "user.name=n", "-c", "user.email=e")
        return subprocess.run(["git", *author, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    assert checkout_commit(tmp_path) is None, "no commit yet"
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD").strip()
    assert checkout_commit(tmp_path) == commit
    (tmp_path / "file").write_text("b")
    assert checkout_commit(tmp_path) == f"{commit}-dirty"
    (tmp_path / "file").write_text("a")
    (tmp_path / "below").mkdir()
    assert checkout_commit(tmp_path / "below") is None, "an installed package within another checkout"


def test_no_git_is_no_error(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", "")
    assert checkout_commit(tmp_path) is None
