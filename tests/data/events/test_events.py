"""Event data without the real files: accepted folders, written files, and data loader workers."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from helpers import fake_data

from spikefit.data import SpikeDataModule
from spikefit.data.events import NMNIST, POKERDVS
from spikefit.data.events.pipeline import EventPipeline
from spikefit.errors import DataError


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_poker_dvs_needs_no_archive_next_to_the_recordings(tmp_path):
    """tonic 1.7 deletes the archive after unpacking, and would unpack it again each time that it is opened."""
    fake_data.write_pokerdvs(tmp_path, per_class=2)
    for archive in tmp_path.rglob("*.gz"):
        archive.unlink()
    before = files(tmp_path)
    source = POKERDVS(root=str(tmp_path), download=False)
    source.prepare()
    assert [len(source.load(part, 3)) for part in ("train", "test")] == [8, 8]
    assert files(tmp_path) == before


def test_too_few_recordings_next_to_an_archive_are_an_incomplete_extraction(tmp_path):
    fake_data.write_pokerdvs(tmp_path, per_class=2)
    with pytest.raises(DataError, match="not found"):
        POKERDVS(root=str(tmp_path), download=False).prepare()
    with pytest.raises(DataError, match="incomplete"):
        POKERDVS(root=str(tmp_path)).load("train", 3)


def test_a_part_that_is_there_is_never_downloaded_again(tmp_path, monkeypatch):
    fake_data.write_nmnist(tmp_path, per_class=1)
    wanted = []

    def download(self):
        wanted.append(self.folder_name)
        shutil.copytree(tmp_path / "NMNIST" / "Train", tmp_path / "NMNIST" / "Test", dirs_exist_ok=True)

    monkeypatch.setattr("tonic.dataset.Dataset.download", download)
    NMNIST(root=str(tmp_path)).prepare()
    assert wanted == []
    for recording in (tmp_path / "NMNIST" / "Test").rglob("*.bin"):
        recording.unlink()
    NMNIST(root=str(tmp_path)).prepare()
    assert wanted == ["Test"]


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_frames_reach_processes_that_load_whole(tmp_path, cache):
    """A process that is spawned, not forked, receives the data set pickled."""
    fake_data.write_nmnist(tmp_path, per_class=1)
    frames = NMNIST(root=str(tmp_path), pipeline=EventPipeline(cache=cache), classes=[4, 7]).load("test", 3)
    copy = pickle.loads(pickle.dumps(frames))
    assert len(copy) == 2
    for index in range(2):
        assert torch.equal(copy[index][0], frames[index][0])
        assert copy[index][1] == index


@pytest.mark.parametrize(("binary", "expected"), [(True, 1.0), (False, 3.0)])
def test_frames_by_hand(tmp_path, binary, expected):
    """Two frames of floor(99 / 2) = 49 us: three events of one pixel at 0, 1 and 2 us are one spike or a count of 3 in
    the first; one at 60 us lies in the second; the last, at 99 us, is after both, which is tonic's rounding.
    """
    fake_data.write_pokerdvs(tmp_path, per_class=5)
    events = np.array([[0, 4, 9, 1], [1, 4, 9, 1], [2, 4, 9, 1], [60, 30, 2, 0], [99, 0, 0, 0]])
    for path in tmp_path.rglob("*.npy"):
        np.save(path, events)
    source = POKERDVS(root=str(tmp_path), download=False, pipeline=EventPipeline(binary=binary))
    data = SpikeDataModule(source, encoding="frames", time_steps=2, batch_size=3)
    data.setup("test")
    x, y = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    assert (x.shape, x.dtype, y.dtype) == ((2, 3, 2, 35, 35), torch.float32, torch.int64)
    assert x[0, :, 1, 9, 4].tolist() == [expected] * 3
    assert x[1, :, 0, 2, 30].tolist() == [1.0] * 3
    assert x.sum() == 3 * (expected + 1)
