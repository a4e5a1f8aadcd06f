"""Tiny event data sets in the formats of the real ones, which tonic's own classes read.

The events of a recording show its label: x is 0 or label + 1, so that a test can check the label of a recording.
"""

import importlib.machinery
import sys
import types
from pathlib import Path

import h5py
import numpy as np
import scipy.io

AEDAT4 = [("t", np.uint64), ("x", np.uint16), ("y", np.uint16), ("on", bool)]


def labelled_events(rng, label, height=30, count=60, duration=100_000):
    """Columns t (microseconds), x, y, p of one recording; the first event lies at x = 0, the last at label + 1."""
    t = np.sort(rng.integers(0, duration, count))
    x = rng.integers(0, 2, count) * (label + 1)
    x[0], x[-1] = 0, label + 1
    return t, x, rng.integers(0, height, count), rng.integers(0, 2, count)


def write_bin(path: Path, t, x, y, p) -> None:
    """Five bytes an event: x, y, polarity and 23 bits of microseconds."""
    columns = (x, y, (p << 7) | (t >> 16) & 0x7F, (t >> 8) & 0xFF, t & 0xFF)
    path.write_bytes(np.stack(columns, axis=1).astype(np.uint8).tobytes())


def write_dvsgesture(root: Path, train_users: int = 5, test_users: int = 2) -> None:
    """A file a gesture of every person, ``[N, 4]`` of x, y, p and milliseconds."""
    rng = np.random.default_rng(0)
    for part, users in (("Train", range(train_users)), ("Test", range(train_users, train_users + test_users))):
        for user in users:
            folder = root / "DVSGesture" / f"ibmGesture{part}" / f"user{user + 1:02d}_lab"
            folder.mkdir(parents=True)
            for gesture in range(11):
                t, x, y, p = labelled_events(rng, gesture, 128)
                np.save(folder / f"{gesture}.npy", np.stack((x, y, p, t // 1000), axis=1))


def write_cifar10dvs(root: Path, per_class: int = 20) -> None:
    """A folder a class; what stands in the files only :func:`install_aedat`'s decoder reads."""
    rng = np.random.default_rng(0)
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    for label, name in enumerate(names):
        folder = root / "CIFAR10DVS" / name
        folder.mkdir(parents=True)
        for number in range(per_class):
            write_aedat4(folder / f"cifar10_{name}_{number}.aedat4", *labelled_events(rng, label, 128))


HEADER = b"#!AER-DAT4.0\r\n"


def write_aedat4(path: Path, t, x, y, p) -> None:
    """Events as the package aedat gives them, times counted from 1970."""
    events = np.empty(len(t), AEDAT4)
    for field, values in zip(("t", "x", "y", "on"), (t + 1_500_000_000_000_000, x, y, p), strict=True):
        events[field] = values
    with path.open("wb") as file:
        file.write(HEADER)
        np.save(file, events)


class Decoder:
    """As ``aedat.Decoder``: streams, and packets of one of them; a camera's file has frames in addition to events."""

    def __init__(self, path) -> None:
        with open(path, "rb") as file:
            file.seek(len(HEADER))
            self.events = np.load(file)

    def id_to_stream(self):
        return {0: {"type": "events", "width": 128, "height": 128}, 1: {"type": "frame", "width": 128, "height": 128}}

    def __iter__(self):
        half = len(self.events) // 2
        yield {"stream_id": 0, "events": self.events[:half]}
        yield {"stream_id": 1, "frame": {}}
        yield {"stream_id": 0, "events": self.events[half:]}


def install_aedat(monkeypatch) -> None:
    """The package aedat, with our decoder: the real one is not everywhere."""
    module = types.ModuleType("aedat")
    module.__spec__ = importlib.machinery.ModuleSpec("aedat", None)
    module.Decoder = Decoder
    monkeypatch.setitem(sys.modules, "aedat", module)


def write_ncaltech101(root: Path, classes: int = 101, per_class: int = 12) -> None:
    """N-MNIST's format, in a folder a class; recordings do not begin in the corner."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        folder = root / "NCALTECH101" / "Caltech101" / f"class_{label:03d}"
        folder.mkdir(parents=True)
        for number in range(per_class):
            t, x, y, p = labelled_events(rng, label, 150)
            write_bin(folder / f"image_{number:04d}.bin", t, x + 7, y + 5, p)


def write_asldvs(root: Path, per_class: int = 5) -> None:
    """ASL-DVS: a MATLAB file a recording, in a folder a letter; the alphabet has two letters that are motions."""
    rng = np.random.default_rng(0)
    for label in range(26):
        folder = root / "ASLDVS" / chr(97 + label)
        folder.mkdir(parents=True)
        for number in range(per_class):
            columns = dict(zip(("ts", "x", "y", "pol"), labelled_events(rng, label, 180), strict=True))
            scipy.io.savemat(folder / f"{number:04d}.mat", {name: values[:, None] for name, values in columns.items()})


def write_heidelberg(root: Path, name: str, classes: int, per_class: int = 12) -> None:
    """SHD or SSC: one HDF5 file a part, times in seconds as 16-bit floats."""
    rng = np.random.default_rng(0)
    folder = root / name
    folder.mkdir(parents=True)
    for part in ("train", "test") if name == "SHD" else ("train", "valid", "test"):
        labels = rng.permutation(np.arange(classes * per_class) % classes)
        with h5py.File(folder / f"{name.lower()}_{part}.h5", "w") as file:
            times = file.create_dataset("spikes/times", len(labels), h5py.vlen_dtype(np.float16))
            units = file.create_dataset("spikes/units", len(labels), h5py.vlen_dtype(np.uint16))
            for index, label in enumerate(labels.tolist()):
                t, x, _, _ = labelled_events(rng, label, duration=1_000_000)
                times[index], units[index] = (t / 1e6).astype(np.float16), x.astype(np.uint16)
            file["labels"] = labels.astype(np.uint16)
            file["extra/keys"] = np.array([f"word {label}" for label in range(classes)], dtype="S")
            file["extra/speaker"] = np.zeros(len(labels), np.uint16)


def write_ntidigits(root: Path, per_class: int = 12) -> None:
    """Addresses and times in seconds of every utterance, by name; some utterances are of several digits."""
    rng = np.random.default_rng(0)
    (root / "NTIDIGITS18").mkdir(parents=True)
    with h5py.File(root / "NTIDIGITS18" / "n-tidigits.hdf5", "w") as file:
        for part in ("train", "test"):
            names = [f"speaker{number}-a-{digit}" for number in range(per_class) for digit in (*"o123456789z", "12z")]
            file[f"{part}_labels"] = np.array(names, dtype="S")
            for name in names:
                label = "o123456789z".find(name.split("-")[-1])
                t, x, _, _ = labelled_events(rng, max(label, 0))
                file[f"{part}_addresses/{name}"] = x
                file[f"{part}_timestamps/{name}"] = t / 1e6


def write_recordings(root: Path, classes: tuple[str, ...] = ("left", "right"), per_class: int = 10) -> None:
    """A folder of one's own, a folder a class, in all formats but aedat4."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            t, x, y, p = labelled_events(rng, label)
            kind = number % 3
            if kind == 0:
                write_bin(root / name / f"{number}.bin", t, x, y, p)
            elif kind == 1:
                np.save(root / name / f"{number}.npy", np.stack((t, x, y, p), axis=1))
            else:
                structured = np.empty(len(t), [("x", np.int16), ("y", np.int16), ("p", bool), ("t", np.uint32)])
                for field, values in zip("txyp", (t, x, y, p), strict=True):
                    structured[field] = values
                np.save(root / name / f"{number}.npy", structured)
