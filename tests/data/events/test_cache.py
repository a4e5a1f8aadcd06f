"""The cache of event data: frames are correct whatever happens to a file or a process."""

import errno
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.event_source import MadeUp
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefit.data.events.framing import EventBins, VoxelGrid
from spikefit.data.events.pipeline import EventPipeline
from spikefit.errors import DataError

TESTS = Path(__file__).resolve().parents[1]
DROP = {"class_path": "tonic.transforms.DropEvent", "init_args": {"p": 0.2}}


def tonic(name, **arguments):
    return {"class_path": f"tonic.transforms.{name}", "init_args": arguments}


def frames_of(dataset):
    return torch.stack([frames for frames, _ in dataset.__getitems__(list(range(len(dataset))))])


def build(folder, recordings=None, **options):
    recordings = MadeUp() if recordings is None else recordings
    return EventPipeline(cache="disk", cache_dir=str(folder), **options).dataset(recordings, 4, train=True)


EXPECTED = frames_of(EventPipeline(cache="none").dataset(MadeUp(), 4, train=True))


def files(folder, pattern="*.cache"):
    return sorted(Path(folder).glob(pattern))


@pytest.mark.parametrize("options", [{}, {"binary": False}, {"framing": VoxelGrid()}])
def test_a_second_run_reads_no_recording(tmp_path, options):
    first = build(tmp_path, **options)
    recordings = MadeUp()
    second = build(tmp_path, recordings, **options)
    assert recordings.reads == []
    plain = EventPipeline(cache="none", **options).dataset(MadeUp(), 4, train=True)
    assert torch.equal(frames_of(second), frames_of(plain))
    assert torch.equal(frames_of(first), frames_of(plain))
    assert len(files(tmp_path)) == 1


def test_random_transforms_are_not_cached_and_what_is_before_them_is(tmp_path):
    crop = tonic("CropTime", max=90_000)
    build(tmp_path, transforms=[crop], augment=[DROP])
    recordings = MadeUp()
    again = build(tmp_path, recordings, transforms=[crop], augment=[DROP])
    assert recordings.reads == []
    assert not torch.equal(frames_of(again), frames_of(again))
    # Neither what follows the first random one nor the framing decides what events are cached.
    for other in ({"augment": [tonic("TimeJitter", std=9.0), crop]}, {"augment": [DROP], "framing": VoxelGrid()}):
        build(tmp_path, recordings, transforms=[crop], **other)
    assert recordings.reads == []
    assert len(files(tmp_path)) == 1
    build(tmp_path, recordings, augment=[DROP])
    assert len(recordings.reads) == 20


@pytest.mark.parametrize("augment", [[], [DROP]])
@pytest.mark.parametrize("bound", [{"CHUNK": 1}, {"CHUNK": 3}, {"CHUNK_EVENTS": 1}, {"CHUNK_EVENTS": 250}])
def test_how_many_recordings_are_in_memory_makes_no_difference(tmp_path, monkeypatch, bound, augment):
    whole = build(tmp_path / "whole", augment=augment)
    for name, value in bound.items():
        monkeypatch.setattr(f"spikefit.data.events.pipeline.{name}", value)
    pieces = build(tmp_path / "pieces", augment=augment)
    assert files(tmp_path / "pieces")[0].read_bytes() == files(tmp_path / "whole")[0].read_bytes()
    for dataset in (whole, pieces):
        assert torch.equal(frames_of(dataset.without_augmentation()), EXPECTED)


@pytest.mark.parametrize("umask", [0o002, 0o027, 0o077])
def test_files_and_folders_have_the_rights_of_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        build(tmp_path / "shared" / "cache")
    finally:
        os.umask(before)
    folders = [tmp_path / "shared", tmp_path / "shared" / "cache"]
    (file,) = folders[1].glob("*.cache")
    assert [path.stat().st_mode & 0o777 for path in folders] == [0o777 & ~umask] * 2
    assert file.stat().st_mode & 0o777 == 0o666 & ~umask


def test_spikes_take_a_bit_each_on_disk(tmp_path):
    """20 recordings of 4 x 2 x 10 x 12 spikes are 2400 bytes; a description and a trailer of a few hundred follow."""
    build(tmp_path)
    assert 2400 < files(tmp_path)[0].stat().st_size < 2700


@pytest.mark.parametrize("augment", [[], [DROP]])
def test_a_damaged_file_is_written_anew_with_a_warning(tmp_path, augment):
    def plain(dataset):
        return frames_of(dataset.without_augmentation())

    build(tmp_path, augment=augment)
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    damages = {
        "empty": b"",
        "too short for a trailer": whole[:9],
        "cut in the rows": whole[:100],
        "cut by one byte": whole[:-1],
        "longer": whole + b"\0",
        "a bit in the rows": bytes([whole[0] ^ 1]) + whole[1:],
        "a bit in the middle": whole[:1000] + bytes([whole[1000] ^ 128]) + whole[1001:],
        "a bit in the description": whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:],
        "a bit in the trailer": whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:],
        "something missing in the middle": whole[:500] + whole[600:],
        "another file": b"no cache at all" * 50,
    }
    for damage, content in damages.items():
        path.write_bytes(content)
        with pytest.warns(UserWarning, match="is damaged .* written again"):
            dataset = build(tmp_path, augment=augment)
        assert torch.equal(plain(dataset), EXPECTED), damage
        assert path.read_bytes() == whole, damage


@pytest.fixture(scope="module")
def damaged_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    build(folder)
    return folder, files(folder)[0].read_bytes()


@settings(max_examples=150)
@given(st.data())
def test_no_damage_reaches_the_frames(damaged_folder, data):
    """A byte somewhere, or a piece that is missing."""
    folder, whole = damaged_folder
    start = data.draw(st.integers(0, len(whole) - 1))
    length = data.draw(st.sampled_from([0, 1, 8, 200, len(whole)]))
    other = bytes([whole[start] ^ data.draw(st.integers(1, 255))]) if length == 0 else b""
    (path,) = files(folder)
    path.write_bytes(whole[:start] + other + whole[start + max(length, 1) :])
    with pytest.warns(UserWarning, match="damaged"):
        assert torch.equal(frames_of(build(folder)), EXPECTED)


def test_the_file_of_another_key_is_not_taken_for_it(tmp_path):
    build(tmp_path)
    (path,) = files(tmp_path)
    other = build(tmp_path / "other", binary=False, framing=EventBins())
    files(tmp_path / "other")[0].replace(path)
    with pytest.warns(UserWarning, match="damaged"):
        dataset = build(tmp_path)
    assert torch.equal(frames_of(dataset), EXPECTED)
    assert not torch.equal(frames_of(other), EXPECTED)


CHILD = """
import sys
from helpers.event_source import MadeUp
from spikefit.data.events import pipeline

class Waiting(MadeUp):
    def __getitem__(self, index):
        if index == 15:
            print("filling", flush=True)
            sys.stdin.readline()
        return super().__getitem__(index)

pipeline.CHUNK = 4
pipeline.EventPipeline(cache="disk", cache_dir=sys.argv[1]).dataset(Waiting(), 4, train=True)
print("filled", flush=True)
"""


@contextmanager
def filling(folder, number):
    """Processes that have written three quarters of the cache and wait for a line."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    command = [sys.executable, "-c", CHILD, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, text=True, env=environment, **pipes)) for _ in range(number)
        ]
        for process in processes:
            assert process.stdout.readline() == "filling\n"
        yield processes


def test_a_process_killed_while_it_fills_the_cache_leaves_nothing_that_is_used(tmp_path):
    with filling(tmp_path, 1) as (process,):
        assert len(files(tmp_path, "*.tmp")) == 1
        process.send_signal(signal.SIGKILL)
    assert (files(tmp_path), len(files(tmp_path, "*.tmp"))) == ([], 1)
    assert torch.equal(frames_of(build(tmp_path)), EXPECTED)
    assert (len(files(tmp_path)), files(tmp_path, "*.tmp")) == (1, [])


def test_three_processes_at_once_fill_it_rightly(tmp_path):
    """Two others are in the middle of it: neither their unfinished files nor their results disturb."""
    with filling(tmp_path, 2) as processes:
        assert torch.equal(frames_of(build(tmp_path)), EXPECTED)
        (path,) = files(tmp_path)
        first = path.stat().st_ino
        opened = build(tmp_path)
        assert len(files(tmp_path, "*.tmp")) == 2
        for process in processes:
            assert process.communicate("go on\n") == ("filled\n", None)
            assert process.returncode == 0
    assert path.stat().st_ino != first  # the last one wins
    recordings = MadeUp()
    assert torch.equal(frames_of(build(tmp_path, recordings)), EXPECTED)
    assert torch.equal(frames_of(opened), EXPECTED)
    assert (recordings.reads, files(tmp_path, "*.tmp")) == ([], [])


@pytest.mark.parametrize("kind", ["memory", "disk"])
@pytest.mark.parametrize(("augment", "needed"), [([], 2400), ([DROP], 20_000)])
def test_over_the_limit_nothing_is_cached_and_that_is_said(tmp_path, kind, augment, needed):
    options = {"augment": augment, "cache": kind, "cache_dir": str(tmp_path)}
    with pytest.warns(UserWarning, match="cache_limit: made up is not cached"):
        dataset = EventPipeline(cache_limit=needed - 1000, **options).dataset(MadeUp(), 4, train=True)
    assert torch.equal(frames_of(dataset.without_augmentation()), EXPECTED)
    assert files(tmp_path) == files(tmp_path, "*.tmp") == []
    recordings = MadeUp()
    dataset = EventPipeline(cache_limit=10 * needed, **options).dataset(recordings, 4, train=True)
    frames_of(dataset)
    assert len(recordings.reads) == 20


def test_the_limit_is_that_of_all_files_in_the_folder(tmp_path):
    build(tmp_path, cache_limit=4000)
    with pytest.warns(UserWarning, match=f"empty {tmp_path}"):
        build(tmp_path, framing=EventBins(), cache_limit=4000)
    assert len(files(tmp_path)) == 1
    recordings = MadeUp()
    build(tmp_path, recordings, cache_limit=4000)  # what is there is used
    assert recordings.reads == []


def full_disk(monkeypatch, number):
    """Writing to a file fails after the first chunk, as on a full disk."""
    real = os.fdopen

    def opened(handle, *arguments):
        file = real(handle, *arguments)

        class Full:
            written = 0

            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, data):
                self.written += 1
                if self.written > 1:
                    raise OSError(number, os.strerror(number))
                return file.write(data)

        return Full()

    monkeypatch.setattr(os, "fdopen", opened)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_clear_error_and_leaves_no_half_file(tmp_path, monkeypatch, number):
    full_disk(monkeypatch, number)
    with pytest.raises(DataError, match=f"cache_dir: the disk of {tmp_path} is full; expected free space"):
        build(tmp_path)
    assert files(tmp_path) == files(tmp_path, "*.tmp") == []
    monkeypatch.undo()
    assert torch.equal(frames_of(build(tmp_path)), EXPECTED)


def test_a_folder_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=f"cache_dir: {tmp_path}/file/cache can't be written"):
        build(tmp_path / "file" / "cache")


def test_damaged_recordings_stay_their_own_error(tmp_path):
    class Damaged(MadeUp):
        def __getitem__(self, index):
            raise DataError(f"recording {index} is damaged")

    with pytest.raises(DataError, match="recording 0 is damaged"):
        build(tmp_path, Damaged())
    assert files(tmp_path, "*.tmp") == []


def test_the_size_is_logged_once(tmp_path, caplog):
    with caplog.at_level("INFO"):
        build(tmp_path)
        build(tmp_path)
    (record,) = [record for record in caplog.records if "Cache of made up" in record.message]
    assert f"{files(tmp_path)[0].stat().st_size:,} bytes" in record.message


def test_the_size_in_memory_is_logged(caplog):
    """20 recordings of 4 x 2 x 10 x 12 spikes, a bit each."""
    with caplog.at_level("INFO"):
        EventPipeline().dataset(MadeUp(), 4, train=True)
    assert "Cache of made up in memory: 2,400 bytes" in [record.message for record in caplog.records]


def test_rows_are_read_from_the_file_when_they_are_used(tmp_path):
    """A memory map: what another process that holds the file open has mapped, this one shares."""
    dataset = build(tmp_path)
    rows = dataset._table.rows
    assert isinstance(rows.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 0
    files(tmp_path)[0].unlink()
    assert torch.equal(frames_of(dataset), EXPECTED)  # what is mapped stays


def test_the_folder_is_that_of_caches_unless_one_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    EventPipeline(cache="disk").dataset(MadeUp(), 4, train=True)
    assert len(files(tmp_path / "spikefit")) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert EventPipeline().folder == tmp_path / ".cache" / "spikefit"


def test_an_empty_part_needs_no_cache(tmp_path):
    assert len(build(tmp_path, MadeUp(number=0))) == 0
