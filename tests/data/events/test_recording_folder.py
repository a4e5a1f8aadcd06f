"""RecordingFolder: layouts, formats and error messages."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers import fake_events

from spikefit.data import SpikeDataModule
from spikefit.data.events import RecordingFolder
from spikefit.data.events.source import standard_events
from spikefit.errors import ConfigurationError, DataError

EVENTS = np.array([[0, 1, 2, 1], [5, 3, 4, 0], [9, 6, 7, 1]])  # t, x, y, p
AS_TUPLES = [tuple(row) for row in EVENTS.tolist()]


def folder(root, **options):
    valid = {"classes": ["left", "right"], "sensor_size": (34, 34, 2)}
    return RecordingFolder(str(root), **valid | options)


def one_each(root, name="a.npy", content=EVENTS):
    """One recording a class, in parts."""
    for part in ("train", "test"):
        for label in ("left", "right"):
            (root / part / label).mkdir(parents=True)
            with (root / part / label / name).open("wb") as file:
                np.save(file, content)


def test_parts_of_its_own_are_used(tmp_path):
    fake_events.write_recordings(tmp_path / "train", per_class=6)
    fake_events.write_recordings(tmp_path / "test", per_class=4)
    source = folder(tmp_path)
    source.prepare()
    parts = {part: source.recordings(part) for part in ("train", "test")}
    assert {part: recordings.labels.tolist() for part, recordings in parts.items()} == {
        "train": [0] * 6 + [1] * 6,
        "test": [0] * 4 + [1] * 4,
    }
    assert {path.parts[-3] for path in parts["test"].files} == {"test"}


def test_labels_follow_the_order_of_classes(tmp_path):
    fake_events.write_recordings(tmp_path, ("left", "right", "unused"))
    recordings = folder(tmp_path, classes=["right", "left"]).recordings("train")
    assert len(recordings) == 16
    for path, label in zip(recordings.files, recordings.labels.tolist(), strict=True):
        assert path.parent.name == ("right", "left")[label]


@pytest.mark.parametrize(
    ("columns", "order"), [(None, [0, 1, 2, 3]), ("txyp", [0, 1, 2, 3]), ("xytp", [1, 2, 0, 3]), ("pxyt", [3, 1, 2, 0])]
)
def test_columns_are_what_the_option_says(tmp_path, columns, order):
    one_each(tmp_path, content=EVENTS[:, order])
    assert folder(tmp_path, columns=columns).recordings("train")[0].tolist() == AS_TUPLES


def test_a_structured_array_names_its_columns(tmp_path):
    content = np.empty(3, [("p", bool), ("t", np.uint32), ("y", np.uint8), ("x", np.int16)])
    for column, field in enumerate("txyp"):
        content[field] = EVENTS[:, column]
    one_each(tmp_path, content=content)
    assert folder(tmp_path).recordings("train")[0].tolist() == AS_TUPLES


def test_times_may_have_another_unit(tmp_path):
    seconds = EVENTS * np.array([1e-6, 1, 1, 1])
    one_each(tmp_path, content=seconds)
    assert folder(tmp_path, tick=1e6).recordings("train")[0].tolist() == AS_TUPLES


def test_audio_has_three_columns(tmp_path):
    one_each(tmp_path, content=np.array([[0, 60, 1], [3, 2, 1]]))
    source = folder(tmp_path, sensor_size=(64, 1, 1))
    assert source.shape == (64,)
    assert source.recordings("train")[0].tolist() == [(0, 60, 0), (3, 2, 0)]


def test_n_mnist_s_format(tmp_path):
    one_each(tmp_path)
    fake_events.write_bin(tmp_path / "train" / "left" / "a.bin", *EVENTS.T)
    (tmp_path / "train" / "left" / "a.npy").unlink()
    assert folder(tmp_path).recordings("train")[0].tolist() == AS_TUPLES


def test_aedat4_counts_from_its_first_event(tmp_path, monkeypatch):
    one_each(tmp_path)
    fake_events.write_aedat4(tmp_path / "train" / "left" / "b.aedat4", *EVENTS.T)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="read by the package aedat, which is not installed; install it"):
        folder(tmp_path).prepare()
    monkeypatch.undo()
    fake_events.install_aedat(monkeypatch)
    source = folder(tmp_path)
    source.prepare()
    assert source.recordings("train")[1].tolist() == AS_TUPLES


def test_a_file_is_read_when_it_is_needed(tmp_path):
    one_each(tmp_path)
    source = folder(tmp_path)
    source.prepare()
    recordings = source.recordings("train")
    (tmp_path / "train" / "left" / "a.npy").write_bytes(b"no array")
    assert recordings[1].tolist() == AS_TUPLES
    with pytest.raises(DataError, match=r"left/a\.npy is damaged: can't be read"):
        recordings[0]


def test_pieces_of_one_recording_stay_together(tmp_path):
    """20 recordings, each of two gestures, each gesture cut into three files."""
    for label in ("left", "right"):
        (tmp_path / label).mkdir()
        for number in range(20):
            for piece in range(3):
                np.save(tmp_path / label / f"user_{number}-{piece}.npy", EVENTS)
    source = folder(tmp_path, separator="-", test_fraction=0.2)
    data = SpikeDataModule(source, "frames", time_steps=2, val_fraction=0.25)
    data.setup("fit")
    train = source.recordings("train")
    names = {
        part: {train.files[index].stem.split("-")[0] for index in data._parts[part].indices}
        for part in ("train", "val")
    }
    names["test"] = {path.stem.split("-")[0] for path in source.recordings("test").files}
    assert {part: len(chosen) for part, chosen in names.items()} == {"train": 12, "val": 4, "test": 4}
    assert len(set.union(*names.values())) == 20
    assert torch.bincount(train.labels).tolist() == [48, 48]
    alone = folder(tmp_path).recordings("test")
    assert alone.groups is None
    assert len({path.stem.split("-")[0] for path in alone.files}) > 4, "without the option files are split one by one"


def test_pieces_of_one_recording_in_both_parts_are_refused(tmp_path):
    one_each(tmp_path, "user-1.npy")
    with pytest.raises(DataError, match="pieces of the recording 'user' are in train and in test"):
        folder(tmp_path, separator="-").prepare()
    folder(tmp_path).prepare()


def missing_class(root):
    (root / "test" / "right" / "a.npy").unlink()


def missing_part(root):
    (root / "test").rename(root / "exam")


def foreign_file(root):
    (root / "train" / "left" / "notes.txt").write_text("")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing_class, "test/right is missing or empty"),
        (missing_part, "has the part train but no part test; expected train/CLASS and test/CLASS, or CLASS alone"),
        (foreign_file, "notes.txt is not a recording, expected .npy, .bin, .aedat4"),
    ],
)
def test_what_is_wrong_is_said_before_training(tmp_path, change, message):
    one_each(tmp_path)
    change(tmp_path)
    with pytest.raises(DataError) as caught:
        folder(tmp_path).prepare()
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere/left is missing or empty"):
        folder(tmp_path / "nowhere").prepare()


def test_hidden_files_are_not_looked_at(tmp_path):
    one_each(tmp_path)
    (tmp_path / "train" / "left" / ".DS_Store").write_bytes(b"")
    assert len(folder(tmp_path).recordings("train")) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (EVENTS[:, :3], r"has shape \(3, 3\), expected \[N, 4\] with columns txyp"),
        (np.zeros(3, [("t", int), ("x", int), ("p", int)]), "has no field y, expected events with t, x, y, p"),
        (EVENTS + np.array([0, 31, 0, 0]), r"event 1 lies at \(34, 4\), outside a sensor of 34 x 34"),
        (EVENTS - np.array([0, 0, 3, 0]), r"event 0 lies at \(1, -1\), outside a sensor"),
    ],
)
def test_a_recording_that_does_not_fit_is_named(tmp_path, content, message):
    one_each(tmp_path, content=content)
    with pytest.raises(DataError, match=message) as caught:
        folder(tmp_path).recordings("train")[0]
    assert "train/left/a.npy" in str(caught.value)


def test_a_file_that_broke_off_within_an_event_is_damaged(tmp_path):
    one_each(tmp_path)
    (tmp_path / "train" / "left" / "0.bin").write_bytes(b"\0" * 12)
    with pytest.raises(DataError, match=r"0\.bin is damaged: 12 bytes, expected 5 for each event"):
        folder(tmp_path).recordings("train")[0]


def test_too_few_recordings_to_hold_out_are_named(tmp_path):
    fake_events.write_recordings(tmp_path, per_class=1)
    with pytest.raises(ConfigurationError, match=r"test_fraction: 0\.2 of 2 samples can't hold every class"):
        folder(tmp_path).prepare()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": []}, r"classes: got \[\], expected the names of class folders"),
        ({"classes": ["left", "left"]}, "classes: got .* each once"),
        ({"sensor_size": (34, 0, 2)}, r"sensor_size: got \[34, 0, 2\]"),
        ({"columns": "txy"}, "columns: got 'txy', expected each of the letters txyp once"),
        ({"columns": "txyp", "sensor_size": (64, 1, 1)}, "expected each of the letters txp once"),
        ({"tick": 0.0}, r"tick: got 0\.0"),
        ({"separator": ""}, "separator: got ''"),
        ({"test_fraction": 0.0}, "test_fraction"),
    ],
)
def test_a_bad_value_is_named(tmp_path, options, message):
    with pytest.raises(ConfigurationError, match=message):
        folder(tmp_path, **options)


standard = partial(standard_events, name="it")


def test_events_are_sorted_and_equal_times_keep_their_order():
    events = np.array([(3, 1, 0, 1), (1, 2, 0, 1), (3, 3, 0, 0), (1, 4, 0, 0)], [(f, np.int16) for f in "txyp"])
    sorted_events = standard(events, (5, 5, 2))
    assert sorted_events.tolist() == [(1, 2, 0, 1), (1, 4, 0, 0), (3, 1, 0, 1), (3, 3, 0, 0)]
    assert events["t"].tolist() == [3, 1, 3, 1], "a copy"


def test_polarities_become_0_and_1_or_0_alone():
    events = np.array([(0, 0, 0, -1), (1, 0, 0, 1)], [(f, np.int8) for f in "txyp"])
    assert standard(events, (5, 5, 2))["p"].tolist() == [0, 1]
    assert standard(events, (5, 5, 1))["p"].tolist() == [0, 0]


def test_a_column_of_events_is_a_recording():
    events = np.array([[(0, 4, 3, 1)], [(1, 2, 0, 0)]], [(f, np.int64) for f in "txyp"])
    assert standard(events, (5, 5, 2)).tolist() == [(0, 4, 3, 1), (1, 2, 0, 0)]


def test_what_is_no_array_of_events_is_refused():
    with pytest.raises(DataError, match="it: has no field t, x, y, p"):
        standard(({"ts": 1}, [2]), (5, 5, 2))


def test_an_empty_recording_stays_empty():
    assert len(standard(np.empty(0, [(f, np.int8) for f in "txyp"]), (5, 5, 2))) == 0
