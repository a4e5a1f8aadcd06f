"""Checkpoint files: nothing is lost when a write fails, and no damaged file is read."""

import io
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from helpers.tiny_fit import TinyData, module

from spikefit.atomic import remove_orphans, write_atomically
from spikefit.checkpoint_io import AtomicCheckpointIO
from spikefit.checkpoints import read_checkpoint
from spikefit.errors import CheckpointError, StorageError
from spikefit.module import SpikingClassifier

CONTENT = {
    "epoch": 3,
    "state_dict": {"a": torch.arange(40.0).sin(), "b": torch.arange(9).view(3, 3), "c": torch.tensor(True)},
    "optimizer_states": [{"m": torch.arange(7.0)}],
    "loops": {"done": [1, 2.5, None]},
}


def content_of(path):
    return read_checkpoint(path, "ckpt_path")


def equal(first, second):
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second


@pytest.fixture(scope="module")
def raw():
    buffer = io.BytesIO()
    torch.save(CONTENT, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path, raw, seed):
    """Half of the flips hit the directory at the end of the file, which has no checksum of its own."""
    draw, path, refused = random.Random(seed), tmp_path / "flipped.ckpt", 0
    directory = raw.index(b"PK\x01\x02")
    for trial in range(100):
        damaged = bytearray(raw)
        place = draw.randrange(directory, len(raw)) if trial % 2 else draw.randrange(len(raw))
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            found = content_of(path)
        except CheckpointError:
            refused += 1
        else:
            assert equal(CONTENT, found), f"byte {place}"
    assert refused > 20


def test_an_entry_marked_as_a_folder_is_refused(tmp_path, raw):
    """torch would leave the memory of the tensor uninitialised, although all checksums are right."""
    entry = raw.index(b"PK\x01\x02", raw.index(b"PK\x01\x02") + 200)
    damaged = bytearray(raw)
    damaged[entry + 38] ^= 0x10  # external attributes
    (tmp_path / "x.ckpt").write_bytes(damaged)
    with pytest.raises(CheckpointError, match="damaged"):
        content_of(tmp_path / "x.ckpt")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_called_damaged(tmp_path, raw, share):
    (tmp_path / "cut.ckpt").write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(CheckpointError, match=r"cut\.ckpt can't be read as a checkpoint: it is damaged"):
        content_of(tmp_path / "cut.ckpt")


def trainer(folder, **options):
    return pl.Trainer(
        max_epochs=1,
        limit_train_batches=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trainer that can save, and a checkpoint that it saved."""
    folder = tmp_path_factory.mktemp("trained")
    run = trainer(folder)
    run.fit(module(), TinyData())
    run.save_checkpoint(folder / "last.ckpt")
    return run, folder / "last.ckpt"


def flip_a_weight(path, copy):
    """Copy a checkpoint with one bit of its largest tensor flipped."""
    weight = max(content_of(path)["state_dict"].values(), key=lambda tensor: tensor.nbytes)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(weight.numpy().tobytes()) + 3] ^= 0x40
    copy.write_bytes(damaged)
    return copy


def test_every_way_to_load_a_checkpoint_compares_the_checksums(trained, tmp_path):
    damaged = flip_a_weight(trained[1], tmp_path / "flipped.ckpt")
    assert torch.load(damaged, weights_only=True), "torch itself does not notice"
    own = module()
    for load in (
        lambda: trainer(tmp_path).fit(own, TinyData(), ckpt_path=damaged),
        lambda: trainer(tmp_path).validate(own, TinyData(), ckpt_path=damaged),
        lambda: SpikingClassifier.load_from_checkpoint(damaged, network=own.network),
    ):
        with pytest.raises(CheckpointError, match=r"flipped\.ckpt is damaged"):
            load()


def test_a_full_disk_leaves_the_previous_checkpoint(trained, small_disk):
    run, path = trained[0], small_disk / "last.ckpt"
    run.save_checkpoint(path)
    before = path.read_bytes()
    (small_disk / "filler").write_bytes(bytes(2**20 - len(before) - 2**14))
    with pytest.raises(StorageError) as caught:
        run.save_checkpoint(path)
    shown = re.search(
        r"last\.ckpt: no space .*; (\S+) bytes are missing \((\S+) to write, (\S+) free\)", str(caught.value)
    )
    missing, size, free = (int(number.replace(",", "")) for number in shown.groups())
    assert size == len(before)
    assert missing == size - free > 0
    assert path.read_bytes() == before
    assert sorted(file.name for file in small_disk.iterdir()) == ["filler", "last.ckpt"]


def test_a_full_folder_for_temporary_files_does_not_matter(trained, small_disk, tmp_path, monkeypatch):
    (small_disk / "filler").write_bytes(bytes(2**20))
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    trained[0].save_checkpoint(tmp_path / "last.ckpt")
    assert content_of(tmp_path / "last.ckpt")["epoch"] == 1


def test_other_failures_name_the_file_and_the_reason(tmp_path):
    (tmp_path / "folder.ckpt").mkdir()
    with pytest.raises(StorageError, match=r"folder\.ckpt: is a directory"):
        AtomicCheckpointIO().save_checkpoint(CONTENT, tmp_path / "folder.ckpt")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file.x\.ckpt: .*(exists|not a directory)"):
        AtomicCheckpointIO().save_checkpoint(CONTENT, tmp_path / "file" / "x.ckpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.ckpt"]


def test_a_chosen_checkpoint_io_is_kept(tmp_path):
    class Own(AtomicCheckpointIO):
        pass

    own = Own()
    run = trainer(tmp_path, plugins=[own])
    run.fit(module(), TinyData())
    assert run.strategy.checkpoint_io is own


KILLED = """
import os, signal
from pathlib import Path
from spikefit.atomic import atomic_path
with atomic_path(Path("last.ckpt")) as draft:
    draft.write_bytes(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed(tmp_path):
    write_atomically(tmp_path / "last.ckpt", "whole")
    assert subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path).returncode == -9
    (orphan,) = tmp_path.glob(".*")
    assert (tmp_path / "last.ckpt").read_text() == "whole"
    alive = orphan.with_name(orphan.name.replace(orphan.name.split(".")[-2], str(os.getppid())))
    far = orphan.with_name(".last.ckpt.another-host.1.draft")
    other = orphan.with_name(".best.ckpt.another-host.1.draft")
    for path in (alive, far, other):
        path.write_text("draft")
    remove_orphans(tmp_path / "last.ckpt")
    assert orphan.exists(), "it may belong to a container with the same host name"
    for path in (orphan, alive, far, other):
        os.utime(path, (time.time() - 100,) * 2)
    remove_orphans(tmp_path / "last.ckpt")
    assert sorted(path for path in tmp_path.glob(".*")) == sorted([alive, far, other])
    os.utime(far, (time.time() - 90_000,) * 2)
    write_atomically(tmp_path / "last.ckpt", "new")
    assert sorted(Path(tmp_path).glob(".*")) == sorted([alive, other])
