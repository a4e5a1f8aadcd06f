"""Distillation: the teacher is only used in training and is not part of checkpoints."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.tiny_fit import TinyData, fit

from spikefit.distillation import Distillation
from spikefit.errors import CheckpointError, ConfigurationError
from spikefit.module import SpikingClassifier
from spikefit.networks import MLP
from spikefit.preflight import Preflight
from spikefit.quantize import Codebook


class Tiny(MLP):
    """A network that a checkpoint can describe by its class path."""

    def __init__(self, input_shape, num_classes):
        super().__init__(input_shape, num_classes, hidden=(12,))


def student(loss=None, quantizer=Codebook):
    torch.manual_seed(1)
    return SpikingClassifier(Tiny, (1, 8, 8), 2, quantizer, loss=loss)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Path of a trained float network, and the network."""
    folder = tmp_path_factory.mktemp("teacher")
    trainer, model = fit(folder, [], student(quantizer=None), epochs=3)
    path = folder / "teacher.ckpt"
    trainer.save_checkpoint(path)
    content = torch.load(path, weights_only=True)
    # As a run of the command line saves them: class paths instead of functions.
    content["hyper_parameters"] |= {
        "network": {"class_path": "spikefit.networks.MLP", "init_args": {"hidden": [12]}},
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
        "_class_path": "spikefit.module.SpikingClassifier",
    }
    torch.save(content, path)
    return path, model.eval()


def batch():
    spikes, labels = TinyData().dataset.tensors
    return spikes[:16].transpose(0, 1), labels[:16]


def test_the_loss_is_the_written_one(teacher):
    path, network = teacher
    x, labels = batch()
    logits = torch.randn(16, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = Distillation(str(path), weight=0.3, temperature=3.0)(logits, labels, x)
    with torch.no_grad():
        taught = (network(x) / 3).softmax(1)
    log_student = (logits / 3).log_softmax(1)
    divergence = (taught * (taught.log() - log_student)).sum(1)
    torch.testing.assert_close(loss, 0.7 * F.cross_entropy(logits, labels, reduction="none") + 0.3 * 9 * divergence)


def test_in_evaluation_the_labels_alone_count(teacher):
    x, labels = batch()
    logits = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    loss = Distillation("nowhere.ckpt").eval()(logits, labels, x)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, reduction="none"))


def test_a_student_learns_its_teachers_answers_and_keeps_no_teacher(teacher, tmp_path):
    path, network = teacher
    x, _ = batch()
    taught = student(Distillation(str(path), weight=1.0, temperature=1.0))
    with torch.no_grad():
        before = (taught.eval()(x).softmax(1) - network(x).softmax(1)).abs().mean()
    trainer, _ = fit(tmp_path, [], taught.train(), epochs=6)
    with torch.no_grad():
        after = (taught.eval()(x).softmax(1) - network(x).softmax(1)).abs().mean()
    assert after < 0.8 * before
    trainer.save_checkpoint(tmp_path / "student.ckpt")
    saved = torch.load(tmp_path / "student.ckpt", weights_only=True)["state_dict"]
    assert saved.keys() == student().state_dict().keys()
    assert not any(p.requires_grad for p in taught.loss._teacher[0].parameters())


def test_a_missing_teacher_is_refused_before_training(tmp_path):
    check = Preflight(student(), None, "fit", None, False)
    with pytest.raises(CheckpointError, match="teacher: no file"):
        Distillation(str(tmp_path / "none.ckpt")).preflight(check)
    (tmp_path / "bad.ckpt").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match=r"teacher: .*bad.ckpt can't be read"):
        Distillation(str(tmp_path / "bad.ckpt")).preflight(check)


def test_the_command_line_asks_for_the_teacher_before_it_loads_data(tmp_path, capsys, monkeypatch):
    from spikefit.cli.lightning_cli import main

    monkeypatch.chdir(tmp_path)
    root = Path(__file__).resolve().parents[1]
    (tmp_path / "configs").symlink_to(root / "configs")
    options = ["--model.init_args.loss=spikefit.distillation.Distillation", "--model.init_args.loss.teacher=none.ckpt"]
    monkeypatch.setattr("sys.argv", ["lightning"])
    with pytest.raises(SystemExit):
        main(["fit", "--config", "configs/quickstart.yaml", *options])
    assert "teacher: no file none.ckpt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "named"), [({"weight": 1.5}, "weight"), ({"temperature": 0.0}, "temperature: got 0.0")]
)
def test_a_bad_option_is_named(options, named):
    with pytest.raises(ConfigurationError, match=named):
        Distillation("teacher.ckpt", **options)


def test_a_teacher_must_see_what_the_student_saw():
    with pytest.raises(ConfigurationError, match="inputs: got None"):
        Distillation("teacher.ckpt")(torch.zeros(2, 2), torch.zeros(2, dtype=torch.long))
