"""Error messages for missing, packed, damaged or unreadable files, and that nothing is written without permission."""

import gzip
import hashlib
import shutil
import tarfile
import zipfile
from functools import partial

import numpy as np
import pytest
from helpers import fake_data, fake_events

from spikefit.data.events import (
    CIFAR10DVS,
    NCALTECH101,
    NMNIST,
    NTIDIGITS18,
    POKERDVS,
    SHD,
    SSC,
    DVSGesture,
    TonicDataset,
)
from spikefit.errors import ConfigurationError, DataError

SMNIST = partial(TonicDataset, "tonic.datasets.SMNIST", 10, (99, 1, 1))
# source, archive of the first part and its checksum, as tonic has them, where it goes, whether tonic knows an address
ARCHIVES = {
    NMNIST: ("train.zip", "20959b8e626244a1b502305a9e6e2031", "NMNIST", True),
    POKERDVS: ("pips_train.tar.gz", "412bcfb96826e4fcb290558e8c150aae", "pokerdvs/POKERDVS", False),
    DVSGesture: ("ibmGestureTrain.tar.gz", "3a8f0d4120a166bac7591f77409cb105", "DVSGesture", True),
    CIFAR10DVS: ("CIFAR10DVS.zip", "ce3a4a0682dc0943703bd8f749a7701c", "CIFAR10DVS", True),
    NCALTECH101: ("N-Caltech101-archive.zip", "66201824eabb0239c7ab992480b50ba3", "NCALTECH101", True),
    SHD: ("shd_train.h5.zip", "f3252aeb598ac776c1b526422d90eecb", "SHD", True),
    SSC: ("ssc_train.h5.zip", "d102be95e7144fcc0553d1f45ba94170", "SSC", True),
    NTIDIGITS18: ("n-tidigits.hdf5", "360a2d11e5429555c9197381cf6b58e0", "NTIDIGITS18", True),
}
BY_ARCHIVE = pytest.mark.parametrize("source", ARCHIVES, ids=lambda source: source.name)


@pytest.fixture(autouse=True)
def reader(monkeypatch):
    fake_events.install_aedat(monkeypatch)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_arguments, **_options):
        raise OSError("no route to host\nsecond line")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("requests.get", refuse)


def refusal(source):
    with pytest.raises(DataError) as caught:
        source.prepare()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@BY_ARCHIVE
def test_a_missing_archive_is_named_with_its_checksum_and_its_place(source, tmp_path):
    filename, checksum, folder, has_address = ARCHIVES[source]
    message = refusal(source(root=str(tmp_path), download=False))
    for words in ("not found in", source.expected, "Set download to true", "SPIKEFIT_DATA_DIR"):
        assert words in message
    address = "from https://" if has_address else "tonic knows no download address"
    assert f"Put {filename} (MD5 {checksum}; {address}" in message
    assert f") into {tmp_path / folder}" in message
    assert list(tmp_path.iterdir()) == [], "nothing is written"


@BY_ARCHIVE
def test_loading_what_was_never_prepared_writes_nothing(source, tmp_path):
    filename, checksum, _, _ = ARCHIVES[source]
    with pytest.raises(DataError, match="missing or incomplete") as caught:
        source(root=str(tmp_path), download=True).load("train", 2)
    assert f"{filename} (MD5 {checksum}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@BY_ARCHIVE
def test_an_archive_of_another_checksum_is_damaged(source, tmp_path):
    filename, checksum, folder, _ = ARCHIVES[source]
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / filename).write_bytes(b"half of it")
    message = refusal(source(root=str(tmp_path), download=False))
    assert "damaged" in message
    if source is not NTIDIGITS18:  # what is downloaded is the file itself: it is opened, not hashed
        found = hashlib.md5(b"half of it").hexdigest()
        assert f"its MD5 is {found}, expected {checksum}. Delete it" in message


@BY_ARCHIVE
def test_a_failed_download_names_reason_and_file(source, tmp_path, no_network):
    filename, checksum, _, _ = ARCHIVES[source]
    message = refusal(source(root=str(tmp_path)))
    assert "the download failed" in message
    if source is not POKERDVS:  # which tonic does not download
        assert "no route to host" in message
    assert checksum in message
    assert filename in message
    assert source.expected in message


def packed(folder, archive):
    """``folder`` in an archive, as a download leaves it; its checksum."""
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    shutil.rmtree(folder)
    return hashlib.md5(archive.read_bytes()).hexdigest()


def test_an_archive_that_is_there_is_unpacked_without_a_network(tmp_path, monkeypatch, no_network):
    """Only when ``download`` allows to write."""
    fake_events.write_dvsgesture(tmp_path, train_users=10, test_users=10)
    for part in ("train", "test"):
        name = f"ibmGesture{part.title()}"
        checksum = packed(tmp_path / "DVSGesture" / name, tmp_path / "DVSGesture" / f"{name}.tar.gz")
        monkeypatch.setattr(f"tonic.datasets.DVSGesture.{part}_md5", checksum)
    before = sorted(tmp_path.rglob("*"))
    message = refusal(DVSGesture(root=str(tmp_path), download=False))
    assert "ibmGestureTrain.tar.gz is complete (MD5 " in message
    assert "unpack it there or set download to true" in message
    assert sorted(tmp_path.rglob("*")) == before
    source = DVSGesture(root=str(tmp_path), download=True)
    source.prepare()
    assert len(source.recordings("test")) == 110


def test_poker_dvs_unpacks_an_archive_that_was_put_there(tmp_path, monkeypatch, no_network):
    fake_data.write_pokerdvs(tmp_path, per_class=6)
    folder = tmp_path / "pokerdvs" / "POKERDVS"
    for part in ("train", "test"):
        checksum = packed(folder / f"pips_{part}", folder / f"pips_{part}.tar.gz")
        monkeypatch.setattr(f"tonic.datasets.POKERDVS.{part}_md5", checksum)
    source = POKERDVS(root=str(tmp_path))
    source.prepare()
    assert [len(source.recordings(part)) for part in ("train", "test")] == [24, 24]


@pytest.mark.parametrize("inside", ["", "N-Caltech101-archive/"])
def test_the_archive_inside_of_ncaltech101_is_unpacked_too(tmp_path, monkeypatch, no_network, inside):
    """tonic 1.7 leaves it packed, and would give a data set without recordings."""
    fake_events.write_ncaltech101(tmp_path / "made", classes=101, per_class=2)
    made = tmp_path / "made" / "NCALTECH101"
    with zipfile.ZipFile(tmp_path / "Caltech101.zip", "w") as archive:
        for file in made.rglob("*.bin"):
            archive.write(file, file.relative_to(made))
    folder = tmp_path / "NCALTECH101"
    folder.mkdir()
    outer = folder / "N-Caltech101-archive.zip"
    with zipfile.ZipFile(outer, "w") as archive:
        archive.write(tmp_path / "Caltech101.zip", f"{inside}Caltech101.zip")
    monkeypatch.setattr("tonic.datasets.NCALTECH101.file_md5", hashlib.md5(outer.read_bytes()).hexdigest())
    message = refusal(NCALTECH101(root=str(tmp_path), test_fraction=0.5))
    assert "the downloaded data set is incomplete" in message, "tonic's rule: 8709 recordings next to the archive"
    outer.unlink()
    source = NCALTECH101(root=str(tmp_path), download=False, test_fraction=0.5)
    source.prepare()
    assert len(source.recordings("train")) == 101


@pytest.mark.parametrize(
    ("source", "write", "file"),
    [
        (SHD, partial(fake_events.write_heidelberg, name="SHD", classes=20, per_class=1), "SHD/shd_train.h5"),
        (NTIDIGITS18, fake_events.write_ntidigits, "NTIDIGITS18/n-tidigits.hdf5"),
    ],
)
@pytest.mark.parametrize("download", [True, False])
def test_a_file_that_broke_off_is_damaged_not_missing(source, write, file, download, tmp_path, no_network):
    write(tmp_path)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[: len(content) // 2])
    message = refusal(source(root=str(tmp_path), download=download))
    assert f"{file} is damaged" in message
    assert str(tmp_path / file.split("/")[0]) in message


def test_the_file_of_another_part_is_not_enough(tmp_path):
    """tonic looks for any .h5 file next to the archive."""
    fake_events.write_heidelberg(tmp_path, "SHD", 20, per_class=1)
    (tmp_path / "SHD" / "shd_test.h5").unlink()
    (tmp_path / "SHD" / "shd_test.h5.zip").write_bytes(b"")
    assert "shd_test.h5.zip is damaged" in refusal(SHD(root=str(tmp_path), download=False))


def test_a_damaged_recording_is_named_before_training_and_when_it_is_read(tmp_path):
    fake_events.write_dvsgesture(tmp_path, train_users=1, test_users=1)
    (tmp_path / "DVSGesture" / "ibmGestureTest" / "user02_lab" / "3.npy").write_bytes(b"\x93NUMPY")
    source = DVSGesture(root=str(tmp_path), download=False)
    assert "user02_lab/3.npy is damaged" in refusal(source)
    recordings = source.recordings("test")
    with pytest.raises(DataError, match=r"user02_lab/3\.npy is damaged: can't be read"):
        [recordings[index] for index in range(len(recordings))]


def test_a_reader_that_is_not_installed_is_named_before_anything_is_downloaded(tmp_path, monkeypatch, no_network):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = refusal(CIFAR10DVS(root=str(tmp_path)))
    assert "aedat4 files are read by the package aedat, which is not installed" in message
    assert list(tmp_path.iterdir()) == []


def write_smnist(root):
    """MNIST's files, packed, in the folder that tonic looks in."""
    fake_data.write_mnist(root, "MNIST", 40)
    folder = root / "smnist"
    folder.mkdir()
    for file in (root / "MNIST" / "raw").iterdir():
        with gzip.open(folder / f"{file.name}.gz", "wb") as packed_file:
            packed_file.write(file.read_bytes())
        shutil.copy(file, folder)


def test_any_class_of_tonic_reports_what_is_missing_and_writes_nothing(tmp_path):
    message = refusal(SMNIST(root=str(tmp_path), download=False))
    assert f"{tmp_path}/smnist" in message
    assert "tonic gives no archive and no checksum" in message
    assert list(tmp_path.iterdir()) == []


def test_labels_that_only_the_recordings_have_are_read_from_them(tmp_path):
    write_smnist(tmp_path)
    source = SMNIST(root=str(tmp_path), download=False)
    source.prepare()
    assert source.recordings("train").labels.tolist() == [index % 10 for index in range(40)]
    few = TonicDataset("tonic.datasets.SMNIST", 4, (99, 1, 1), root=str(tmp_path), download=False)
    with pytest.raises(DataError, match=r"has labels \[4, 5, 6, 7, 8, 9\], expected 0 to 3; set num_classes"):
        few.recordings("train")


def test_arguments_reach_the_class(tmp_path):
    fake_data.write_nmnist(tmp_path, per_class=1)
    path = partial(TonicDataset, "tonic.datasets.NMNIST", 10, (34, 34, 2), root=str(tmp_path), download=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tonic.datasets.NMNIST._check_exists", lambda self: True)
        whole, first = path().recordings("test"), path(init_args={"first_saccade_only": True}).recordings("test")
    assert np.array_equal(first[0], whole[0][whole[0]["t"] < 100_000])
    assert 0 < len(first[0]) < len(whole[0])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"class_path": "NMNIST"}, "class_path: got 'NMNIST', expected one such as tonic.datasets"),
        ({"num_classes": 0}, "num_classes: got 0"),
        ({"sensor_size": (34, 34, 3)}, r"sensor_size: got \[34, 34, 3\], expected width, height and 1 or 2"),
        ({"part_argument": "fold"}, "part_argument: got 'fold', expected one of 'train', 'split', None"),
        ({"init_args": {"train": True}}, "init_args: got 'train', which part_argument sets"),
        ({"test_fraction": 1.0}, r"test_fraction: got 1\.0, expected a value in \(0, 1\)"),
        ({"split_seed": -1}, "split_seed: got -1"),
    ],
)
def test_a_bad_value_of_a_data_set_by_path_is_named(options, named):
    valid = {"class_path": "tonic.datasets.NMNIST", "num_classes": 10, "sensor_size": (34, 34, 2)}
    with pytest.raises(ConfigurationError, match=named):
        TonicDataset(**valid | options)


@pytest.mark.parametrize("path", ["tonic.datasets.MNISTDVS", "tonics.datasets.NMNIST"])
def test_a_class_that_does_not_exist_is_named(path):
    with pytest.raises(ConfigurationError, match=f"class_path: got '{path}', which can't be imported"):
        TonicDataset(path, 10, (34, 34, 2)).prepare()
