"""Every mistake gives a short message that names the option and what is allowed."""

from pathlib import Path

import pytest
import torch

QUICK = ("--config", "configs/quickstart.yaml", "--trainer.logger=false")
NETWORK = "--model.init_args.network.init_args"


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--trainer.callbacks+=callbacks.FSCPrunning", ["FSCPrunning", "FSCPruning", "CodebookReclustering"]),
        ("--trainer.max_epoch=3", ["max_epoch"]),
        ("--model.init_args.quantizer.init_args.level=4", ["level", "Codebook accepts", "levels", "bits"]),
        ("--model.init_args.quantizer.init_args.levels=1", ["levels", "got 1", "at least 2"]),
        ("--model.init_args.quantizer.init_args.bits=3", ["bits", "got 3", "2, 4, 8"]),
        (
            "--model.init_args.quantizer=spikefit.quantize.Codebok",
            ["Codebok", "Codebook", "Uniform", "Ternary"],
        ),
        (f"{NETWORK}.neuron=spikefit.neurons.LIFF", ["LIFF", "LIF", "ParametricLIF", "LinearLeakIF"]),
        (f"{NETWORK}.neuron.init_args.reset=soft", ["reset", "soft", "subtract", "zero"]),
        (f"{NETWORK}.channels=[8,8,8,8,8]", ["conv4", "pool"]),
        (f"{NETWORK}.pool_kind=max", ["loihi", "pooling", "max", "use average pooling"]),
        (f"{NETWORK}.neuron=spikefit.neurons.LinearLeakIF", ["loihi", "linear_leak_if", "if, lif"]),
        ("--data.init_args.encoding=rates", ["encoding", "rates", "direct", "latency"]),
        ("--data.init_args.time_steps=0", ["time_steps", "got 0"]),
        ("--cpu_threads=0", ["cpu_threads", "v>0"]),
        ("--ckpt_path=nowhere.ckpt", ["ckpt_path", "nowhere.ckpt"]),
        ("--model.init_args.network=mine.Net", ["No module named 'mine'", "is imported from the folder in which"]),
        ("--trainer.devices=[]", ["trainer.devices: got []", "auto"]),
        ("--trainer.devices=-7", ["trainer: ", "devices"]),
        ("--trainer.precision=64-true", ["trainer.precision: got '64-true'", "'32-true', 'bf16-mixed', '16-mixed'"]),
        ("--model.init_args.optimizer=null", ["model.init_args.optimizer: got null, expected"]),
        ("--model.init_args.optimizer.init_args.lr=.inf", ["model.init_args.optimizer", "rate inf", "finite"]),
        ("--model.init_args.lr_scheduler.init_args.T_max=0", ["model.init_args.lr_scheduler", "by zero"]),
        ("--seed_everything=-1", ["seed_everything: got -1", "0 to 4294967295"]),
        ("--cpu_threads=100000000", ["cpu_threads: got 100000000", "1 to 1024"]),
        ("--trainer.accumulate_grad_batches=0", ["trainer.accumulate_grad_batches: got 0, expected at least 1"]),
        ("--model.init_args.optimizer.init_args.lr=.nan", ["model.init_args.optimizer", "nan"]),
        (
            '--data.init_args.dataset={"class_path": "spikefit.data.images.Digits", "class_path": "x"}',
            ["dataset", '"x"'],
        ),
    ],
)
def test_a_wrong_option_is_named(run, option, named):
    status, printed = run("fit", *QUICK, option)
    assert status == 2, printed
    assert "Traceback" not in printed
    assert len(printed.splitlines()) <= 24, printed
    assert max(map(len, printed.splitlines())) <= 400
    for words in named:
        assert words in printed, printed
    assert not list(Path().glob("runs/*"))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"cpu_threads: 1\nhardware: loihi\ncpu_threads: 1\n", ["'cpu_threads' occurs twice, in lines 1 and 3"]),
        (b"trainer:\n  max_epochs: 1\n  max_epochs: 2\n", ["'max_epochs' occurs twice, in lines 2 and 3"]),
        ("hardware: Größe\n".encode("latin-1"), ["utf-8"]),
        (b"data:\n  init_args: {batch_size: null}\n", ["data.init_args.batch_size: got null, expected int"]),
        (b"trainer: {devices: null}\n", ["trainer.devices: got null, expected"]),
        (b"trainer: {logger: {class_path: CSVLogger, init_args: {save_dir: own.yaml}}}", ["own.yaml"]),
        (b"trainer: \"a\\0\"\n", ["can't be parsed"]),
        (b"- 1\n", ["own.yaml", "mapping"]),
        (b"trainer:\n  max_epochs: abc\n", ["own.yaml, line 2: trainer.max_epochs: got 'abc', expected int or null"]),
        (b"trainer:\n  max_epoch: 3\n", ["own.yaml, line 2", "Did you mean trainer.max_epochs?"]),
        (b"trainer:\n  devices: [\n  x\n", ["own.yaml, line 4, column 1: not valid YAML"]),
        (b"a: [\n", ["own.yaml"]),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named(run, content, named):
    Path("own.yaml").write_bytes(content)
    status, printed = run("fit", *QUICK[:2], "--config", "own.yaml")
    assert status == 2, printed
    assert "Traceback" not in printed
    for words in named:
        assert words in printed, printed
    assert not list(Path().glob("runs/*"))


@pytest.mark.parametrize("content", [b"description: a\ndescription: b\n", "# \u00fc".encode("latin-1")])
def test_a_wrong_chip_file_is_named(run, content):
    Path("chip.yaml").write_bytes(content)
    status, printed = run("fit", *QUICK, "--hardware=chip.yaml")
    assert status == 2, printed
    assert "chip.yaml: not valid YAML" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("truenorth", ["truenorth", "neuron model", "lif", "IF or LinearLeakIF"]),
        ("loihii", ["loihii", "loihi", "speck2f", "truenorth"]),
        ("chips/mine.yaml", ["chips/mine.yaml"]),
    ],
)
def test_a_target_that_can_not_run_the_network_is_refused_before_training(run, target, named):
    status, printed = run("fit", *QUICK, f"--hardware={target}")
    assert status == 2, printed
    assert "Epoch" not in printed
    for words in named:
        assert words in printed, printed


def test_a_missing_data_folder_is_named(run):
    data = '{"class_path": "spikefit.data.images.FashionMNIST", "init_args": {"root": "no/such", "download": false}}'
    status, printed = run("fit", *QUICK, f"--data.init_args.dataset={data}")
    assert status == 2, printed
    assert "no/such" in printed
    assert "Traceback" not in printed


def test_a_checkpoint_of_another_network_is_refused(run):
    """From Python's side: the configured network is kept and the checkpoint's tensors do not match it."""
    last = '[{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"filename": "last"}}]'
    short = ("--trainer.logger=true", "--trainer.max_epochs=1", f"--trainer.callbacks={last}")
    assert run("fit", *QUICK, *short)[0] == 0
    checkpoint = next(Path().rglob("last.ckpt"))
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"] = {}  # as a checkpoint written from Python, which does not describe its network
    torch.save(content, "other.ckpt")
    status, printed = run("test", *QUICK[:3], f"{NETWORK}.channels=[5,7]", "--ckpt_path=other.ckpt")
    assert status == 2, printed
    assert "Traceback" not in printed
    assert "conv1" in printed
    assert "(24," in printed
    assert "(5," in printed
    assert len(printed.splitlines()) <= 24


def test_another_encoding_is_refused_before_data_are_loaded(run, monkeypatch):
    short = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1")
    files = [word for name in ("base", "data/digits", "model/mlp") for word in ("--config", name)]
    assert run("fit", *files, *short)[0] == 0
    monkeypatch.setattr("spikefit.data.images.Digits.load", lambda *_: 1 / 0)
    words = ("--ckpt_path=runs/latest/checkpoints/last.ckpt", "--data.init_args.encoding=rate")
    status, printed = run("test", *files, *short, *words)
    assert status == 2, printed
    assert "data.init_args.encoding: got 'rate'" in printed
    assert "Expected 'direct'" in printed


def test_objects_in_a_checkpoint_are_refused_without_torchs_advice(run):
    torch.save({"state_dict": {}, "other": Path("a")}, "other.ckpt")
    status, printed = run("test", *QUICK[:3], "--ckpt_path=other.ckpt")
    assert status == 2, printed
    assert "other objects than tensors and primitives" in printed
    assert "weights_only" not in printed


def test_a_parameter_without_annotation_is_named(run):
    Path("own_network.py").write_text(
        "from spikefit.networks import MLP\n\n\nclass Own(MLP):\n"
        "    def __init__(self, input_shape, num_classes, hidden=(8,), neuron=None):\n        pass\n"
    )
    neuron = '{"class_path": "spikefit.neurons.LIF", "init_args": {"decay": 0.5}}'
    status, printed = run("fit", *QUICK, "--model.init_args.network=own_network.Own", f"{NETWORK}.neuron={neuron}")
    assert status == 2, printed
    assert "the parameter neuron of own_network.Own has no annotation" in printed


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_checkpoint_is_refused(run, content):
    Path("bad.ckpt").write_bytes(content)
    status, printed = run("test", *QUICK[:3], "--ckpt_path=bad.ckpt")
    assert status == 2, printed
    assert "bad.ckpt" in printed
    assert "Traceback" not in printed


def test_another_command_is_explained(run):
    status, printed = run("login")
    assert status == 2
    for words in ("login", "fit, validate, test, predict", "lightning-sdk"):
        assert words in printed


def test_a_logger_in_a_list_that_refuses_its_options_is_explained(run):
    status, printed = run("fit", "--config", "configs/quickstart.yaml", "--trainer.logger.log_model=true")
    assert status == 2
    assert "log_model=True and offline=True is an invalid configuration" in printed
    assert "Traceback" not in printed
    assert len(printed.splitlines()) < 20
