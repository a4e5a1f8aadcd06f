"""The method comparison: runs, results that survive an interruption, and error messages."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from helpers import hand_made_report

from scripts.compare import __main__ as compare
from scripts.compare import grid as compare_grid
from scripts.compare import results as compare_results
from scripts.compare import run as compare_run
from spikefit.cli.lightning_cli import main as spikefit
from spikefit.errors import ConfigurationError, SpikeFitError

ROOT = Path(__file__).resolve().parents[1]

FIELDS = {
    "method", "prune_fraction", "seed", "epochs", "accuracy_float", "accuracy_deployed", "unique_weights_max",
    "bits_per_weight", "model_bytes", "synops_per_inference", "energy_per_inference_j", "target", "samples",
    "train_samples", "epoch_seconds", "epoch_cpu_seconds", "fits", "neurons", "synapses", "parity_mismatches",
    "command", "versions",
}  # fmt: skip

# Stands for spikefit: writes the files of a run. ``fail`` and ``wait`` in the folder name rows that do so.
STAND_IN = """
import json, os, sys, time
from pathlib import Path
words = sys.argv[1:]
logger = json.loads(next(w for w in words if w.startswith("--trainer.logger=")).split("=", 1)[1])["init_args"]
folder = Path(logger["save_dir"]) / logger["version"]
name = folder.parent.name
with open("started.txt", "a") as log:
    log.write(name + "\\n")
if name in Path("wait").read_text().split():
    Path("waiting.txt").write_text(str(os.getpid()))
    time.sleep(60)
if name in Path("fail").read_text().split():
    sys.exit("no luck")
start = [w for w in words if "InitialWeights" in w]
if start:
    assert Path(json.loads(start[0].split("=", 1)[1])["init_args"]["checkpoint"]).is_file()
(folder / "checkpoints").mkdir(parents=True)
(folder / "checkpoints" / "last.ckpt").write_text("weights")
(folder / "metrics.csv").write_text(
    "epoch,time/epoch_seconds,time/epoch_cpu_seconds,train/loss,val/accuracy\\n"
    "0,9,5,,\\n0,,,1,0.25\\n1,3,2,,0.5\\n2,4,1,,\\n"
)
(folder / "deployment").mkdir()
(folder / "deployment" / "report.json").write_text(Path("report.json").read_text())
"""

GRID = {
    "configs": ["base.yaml"],
    "options": {"model.T_max": "{steps}"},
    "epochs": 5,
    "train_samples": 100,
    "batch_size": 30,
    "seeds": [0, 1],
    "deployment": {"hardware": ["loihi"]},
    "rows": [
        {"name": "warm", "method": "warm", "epochs": 2},
        {"name": "float", "method": "float"},
        {
            **{"name": "cat", "method": "cat", "from": "warm", "configs": ["cat.yaml"]},
            "options": {"teacher": "{checkpoint:float}", "loss": {"seed": "{seed}", "kept": "{name}"}},
        },
        {"name": "ptq", "method": "ptq", "command": "test", "from": "float"},
        {"name": "fsc", "method": "cat", "from": "cat", "epochs": 7, "prune_fractions": [0.5, 0.7]},
    ],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a grid and a program that stands for spikefit."""
    monkeypatch.chdir(tmp_path)
    Path("program.py").write_text(STAND_IN)
    for name in ("fail", "wait"):
        Path(name).write_text("")
    Path("report.json").write_text(hand_made_report.report().to_json())
    Path("base.yaml").write_text("trainer: {max_epochs: 1, callbacks: [{class_path: some.Pruning}]}")
    Path("cat.yaml").write_text("model: {levels: 4}")
    write_grid({})
    monkeypatch.setattr(compare, "PROGRAM", [sys.executable, "program.py"])
    return tmp_path


def write_grid(change):
    Path("grid.yaml").write_text(yaml.safe_dump({**GRID, **change}))


def runs_by_id():
    return {run.id: run for run in compare_run.all_runs(compare_grid.load_grid(Path("grid.yaml")))}


def run(*options):
    return compare.main(["grid.yaml", "--out", "results/out.json", "--no-plots", *options])


def rows():
    return json.loads(Path("results/out.json").read_text())


def started():
    return Path("started.txt").read_text().split()


def test_every_run_is_made_once_after_what_it_needs(folder, capsys):
    assert run("--jobs", "2") == 0
    assert sorted(started()) == sorted(
        f"{name}-s{seed}" for seed in (0, 1) for name in ("warm", "float", "cat", "ptq", "fsc-p0.5", "fsc-p0.7")
    )
    for seed in (0, 1):
        order = [name for name in started() if name.endswith(f"s{seed}")]
        for later, earlier in (("cat", "warm"), ("cat", "float"), ("ptq", "float"), ("fsc-p0.5", "cat")):
            assert order.index(f"{earlier}-s{seed}") < order.index(f"{later}-s{seed}")
    table = {(row["name"], row["prune_fraction"], row["seed"]): row for row in rows()}
    assert len(table) == len(rows()) == 12
    assert all(row.keys() >= FIELDS for row in rows())
    assert [table[name, None, 0]["epochs"] for name in ("warm", "float", "cat", "ptq")] == [2, 5, 5, 5]
    assert table["fsc", 0.7, 1]["epochs"] == 7
    assert table["cat", None, 1]["epoch_seconds"] == 4  # the median of 9, 3 and 4
    assert table["cat", None, 1]["epoch_cpu_seconds"] == 2
    assert table["cat", None, 1]["accuracy_held_out"] == 0.5
    assert run() == 0
    assert len(started()) == 12
    assert "0 runs to do" in capsys.readouterr().out


def test_commands_say_what_the_grid_says(folder):
    runs = runs_by_id()
    places = {name: Path(f"{name}.ckpt") for name in ("warm", "float", "cat")}
    cat = runs["cat-s1"].arguments(Path("f"), "version_3", places)
    assert cat[:5] == ["fit", "--config", "base.yaml", "--config", "cat.yaml"]
    assert "--seed_everything=1" in cat
    assert "--trainer.max_epochs=3" in cat  # 5 with the 2 of its start
    assert "--model.T_max=12" in cat  # 3 epochs of ceil(100 / 30) steps
    assert "--teacher=float.ckpt" in cat
    assert '--loss={"kept": "{name}", "seed": 1}' in cat
    assert any("InitialWeights" in word and "warm.ckpt" in word for word in cat)
    assert any("DeploymentSimulation" in word and '"at_fit_end": true' in word for word in cat)
    pruned = runs["fsc-p0.7-s0"].arguments(Path("f"), "version_0", places)
    assert pruned[pruned.index("base.yaml") + 1] == "--trainer.callbacks.fraction=0.7"
    assert "--trainer.max_epochs=2" in pruned
    assert not any("InitialWeights" in word for word in runs["float-s0"].arguments(Path("f"), "version_0", {}))
    tested = runs["ptq-s0"].arguments(Path("f"), "version_0", places)
    assert tested[0] == "test"
    assert any('"at_fit_end": false' in word for word in tested)


def test_a_row_may_start_in_the_middle_of_another(folder):
    write_grid({"rows": [{"name": "a", "method": "a"}, {"name": "b", "method": "b", "from": "a", "from_epochs": 4}]})
    words = runs_by_id()["b-s0"].arguments(Path("f"), "version_0", {"a": Path("a/checkpoints/last.ckpt")})
    assert "--trainer.max_epochs=1" in words
    assert any("InitialWeights" in word and '"a/checkpoints/epoch3.ckpt"' in word for word in words)


def test_only_some_rows_and_seeds(folder):
    assert run("--only", "cat", "--seeds", "4") == 0
    assert sorted(started()) == ["cat-s4", "float-s4", "warm-s4"]
    assert run("--only", "nothing") == 2


def test_a_failed_run_costs_only_those_that_need_it(folder, capsys):
    Path("fail").write_text("cat-s0")
    assert run() == 1
    printed = capsys.readouterr().out
    assert "cat-s0: FAILED, exit status 1: no luck; see runs/compare/out/cat-s0/version_0.log" in printed
    assert "fsc-p0.5-s0: FAILED, cat-s0, which it needs, failed" in printed
    assert len(rows()) == 9
    Path("fail").write_text("")
    assert run() == 0
    assert len(rows()) == 12
    assert started().count("cat-s0") == 2
    assert len(started()) == 12 - 2 + 3  # cat-s0 again, and the two that were never started


DRIVER = """
import sys
from scripts.compare import __main__ as compare
compare.PROGRAM = [sys.executable, "program.py"]
sys.exit(compare.main(sys.argv[1:]))
"""


def background(*options):
    """The comparison in another process."""
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, "grid.yaml", "--out", "results/out.json", "--no-plots", *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def test_a_killed_comparison_continues_where_it_was(folder):
    """Killed while cat-s1 runs: everything before it is kept and not run again, and no half row is left."""
    Path("wait").write_text("cat-s1")
    process = background()
    wait_for(Path("waiting.txt").exists)
    busy = background()
    assert "another comparison writes results/out.json" in busy.communicate()[0]
    assert busy.returncode == 2
    process.kill()
    process.wait()
    os.kill(int(Path("waiting.txt").read_text()), signal.SIGKILL)
    kept, before = rows(), started()
    assert [row["name"] for row in kept if row["seed"] == 1] == ["warm", "float"]
    Path("wait").write_text("")
    assert run() == 0
    assert rows()[: len(kept)] == kept
    assert len(rows()) == 12
    again = started()[len(before) :]
    assert again == ["cat-s1", "ptq-s1", "fsc-p0.5-s1", "fsc-p0.7-s1"]


def test_a_terminated_comparison_ends_its_runs(folder):
    Path("wait").write_text("warm-s0")
    process = background()
    wait_for(Path("waiting.txt").exists)
    process.terminate()
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "continues from here" in printed
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("waiting.txt").read_text()), 0)


def test_a_changed_recipe_trains_starts_anew_and_keeps_the_rows(folder, capsys):
    assert run("--only", "float", "cat", "--seeds", "0") == 0
    Path("levels.yaml").write_text("# a comment\nmodel: {levels: 4}")
    Path("cat.yaml").write_text("include: levels.yaml")
    assert run("--only", "cat", "--seeds", "0") == 0
    assert "another configuration" not in capsys.readouterr().out
    Path("levels.yaml").write_text("model: {levels: 5}")
    before = rows()
    assert run("--only", "cat", "fsc", "--seeds", "0") == 0
    assert "cat-s0: its row was made with another configuration and stays" in capsys.readouterr().out
    assert rows()[:3] == before
    assert started() == ["float-s0", "warm-s0", "cat-s0", "cat-s0", "fsc-p0.5-s0", "fsc-p0.7-s0"]


def test_the_digest_follows_the_merged_configuration(folder):
    """It changes with values and their order, not with files, comments, places of options or modules of classes."""

    def digest(name="cat-s0"):
        return runs_by_id()[name].digest()

    first, fsc = digest(), digest("fsc-p0.5-s0")
    assert len({run.digest() for run in runs_by_id().values()}) == 12
    options = {"teacher": "{checkpoint:float}", "loss": {"seed": "{seed}", "kept": "{name}"}}
    cat = {"name": "cat", "method": "other", "from": "warm"}
    Path("renamed.yaml").write_text("model: {levels: 4}")
    for same in (
        {"configs": ["renamed.yaml"], "options": options},
        {"options": {**options, "model.levels": 4}},
        {"configs": ["cat.yaml"], "options": dict(reversed(options.items()))},
    ):
        write_grid({"rows": [*GRID["rows"][:2], {**cat, **same}, *GRID["rows"][3:]]})
        assert (digest(), digest("fsc-p0.5-s0")) == (first, fsc)
    for other in (
        {"configs": ["cat.yaml"], "options": {**options, "model.levels": 5}},
        {"configs": ["cat.yaml"], "options": {**options, "teacher": "{checkpoint:warm}"}},
        {"configs": ["cat.yaml"], "options": options, "from_epochs": 1},
        {"configs": ["cat.yaml"], "options": options, "epochs": 6},
        {"configs": ["cat.yaml"], "options": {**options, "trainer.callbacks+": "some.Pruning"}},
    ):
        write_grid({"rows": [*GRID["rows"][:2], {**cat, **other}, *GRID["rows"][3:]]})
        assert digest() != first
        assert digest("fsc-p0.5-s0") != fsc, "it starts from cat"
    write_grid({"batch_size": 31})
    assert digest("warm-s0") != first


A, WARM = {"name": "a", "method": "a"}, GRID["rows"][0]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            {"epoch": 3},
            "grid.yaml: Grid.__init__() got an unexpected keyword argument 'epoch'; expected the keys confi",
        ),
        ({"rows": [{"name": "a", "method": "a", "form": "x"}]}, "row a: Row.__init__() got an unexpected keyword argu"),
        ({"rows": [{"name": "a"}]}, "row a: Row.__init__() missing 1 required positional argument: 'method'"),
        ({"rows": [WARM, {**A, "from": "b"}]}, "from of a: got 'b', expected one of 'warm'"),
        ({"rows": [A, A]}, "the name 'a' is there twice"),
        ({"rows": [WARM, {**A, "from": "warm", "epochs": 2}]}, "epochs of a: got 2, expected more than the 2 of warm"),
        ({"rows": [WARM, {**A, "from": "warm", "from_epochs": 3}]}, "from_epochs of a: got 3, expected a value from 1"),
        ({"rows": [{**A, "command": "test"}]}, "a test needs a row"),
        ({"rows": [{**A, "command": "tests"}]}, "command of a: got 'tests', expected one of 'fit', 'test'"),
        ({"rows": [{**A, "configs": ["no.yaml"]}]}, "no.yaml can't be read"),
        ({"rows": [*GRID["rows"], {**A, "from": "fsc", "epochs": 9}]}, "fsc leaves no checkpo"),
        ({"include": "no.yaml"}, "grid.yaml: include: no file no.yaml"),
    ],
)
def test_a_wrong_grid_is_explained(folder, change, named):
    write_grid(change)
    with pytest.raises(ConfigurationError) as raised:
        compare_grid.load_grid(Path("grid.yaml"))
    assert named in str(raised.value)
    assert run() == 2
    assert not Path("started.txt").exists()


def test_damaged_results_are_not_overwritten(folder):
    Path("results").mkdir()
    Path("results/out.json").write_text('[{"name": ')
    assert run() == 2
    assert Path("results/out.json").read_text() == '[{"name": '
    with pytest.raises(SpikeFitError, match="no JSON"):
        compare_results.read_results(Path("results/out.json"))


class InThisProcess:
    """Stands for ``subprocess.Popen``: runs spikefit at once, without a new interpreter."""

    def __init__(self, words, **options):
        self.returncode = 0
        try:
            spikefit(words[len(compare.PROGRAM) :])
        except SystemExit as end:
            self.returncode = int(end.code or 0)

    def poll(self):
        return self.returncode


def test_a_grid_on_digits(tmp_path, monkeypatch):
    """Real trainings: two methods and two seeds, and on one of them quantization after training and pruning."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["spikefit"])
    monkeypatch.setattr(compare, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": InThisProcess}))
    Path("configs").symlink_to(ROOT / "configs")
    methods = "configs/experiment/compare"
    write_grid(
        {
            "configs": [f"{methods}/base.yaml", "configs/data/digits.yaml"],
            "options": {
                "model.init_args.lr_scheduler.init_args.total_steps": "{steps}",
                "data.init_args.val_fraction": 0,
                "model.init_args.network.init_args": {"channels": [8, 16], "hidden": [16]},
            },
            "epochs": 1,
            "train_samples": 640,
            "batch_size": 32,
            "deployment": {"hardware": ["loihi"], "energy_model": "horowitz45", "max_samples": 50, "parity_samples": 5},
            "rows": [
                {"name": "float", "method": "float"},
                {"name": "cat_m4", "method": "cat", "configs": [f"{methods}/cat.yaml"]},
                {
                    **{"name": "kmeans", "method": "kmeans", "from": "float", "command": "test"},
                    "configs": [f"{methods}/cat.yaml"],
                },
                {
                    **{"name": "fsc", "method": "cat + fsc", "from": "cat_m4", "epochs": 2, "prune_fractions": [0.5]},
                    "configs": [f"{methods}/cat.yaml", f"{methods}/prune.yaml"],
                    "options": {"trainer.callbacks.schedule.stop": 0},
                },
            ],
        }
    )
    assert run("--seeds", "0") == 0
    assert run("--only", "float", "cat_m4") == 0
    table = {(row["name"], row["seed"]): row for row in rows()}
    assert list(table) == [("float", 0), ("cat_m4", 0), ("kmeans", 0), ("fsc", 0), ("float", 1), ("cat_m4", 1)]
    assert all(row.keys() >= FIELDS for row in table.values())
    assert all(row["parity_mismatches"] == 0 and row["samples"] == 50 for row in table.values())
    assert 7 < table["float", 0]["bits_per_weight"] <= 8.5, "rounded to Loihi's 8 bits"
    for name in ("cat_m4", "kmeans", "fsc"):
        assert table[name, 0]["bits_per_weight"] == 2
        assert table[name, 0]["unique_weights_max"] <= 4
    assert table["fsc", 0]["units_pruned_fraction"] == 0.5
    assert table["fsc", 0]["model_bytes"] < table["cat_m4", 0]["model_bytes"] < table["float", 0]["model_bytes"] / 2
    assert table["fsc", 0]["epochs"] == 2
    assert table["kmeans", 0]["epoch_seconds"] is None
    assert table["float", 1]["epoch_cpu_seconds"] > 0
    assert str(tmp_path) not in Path("results/out.json").read_text()
    assert "| fsc 50% | 1 | 2 |" in Path("results/out.md").read_text()
