"""Tiny files in the formats of the real data sets, to test the loading code without them."""

import pickle
import struct
from pathlib import Path

import numpy as np


def write_mnist(root: Path, name: str, samples: int = 120) -> None:
    """idx files as MNIST and Fashion-MNIST have them."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        images = rng.integers(0, 256, (samples, 28, 28), dtype=np.uint8)
        header = struct.pack(">IIII", 2051, samples, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = (np.arange(samples) % 10).astype(np.uint8)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, samples) + labels.tobytes())


def write_cifar(root: Path, fine: bool, samples: int = 40) -> None:
    """Pickled batches as CIFAR-10 and CIFAR-100 have them."""
    rng = np.random.default_rng(0)
    folder = root / ("cifar-100-python" if fine else "cifar-10-batches-py")
    folder.mkdir(parents=True)
    names = ["train", "test"] if fine else [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    classes = 100 if fine else 10
    for name in names:
        count = 10 * classes if fine else samples
        batch = {
            "data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
            "fine_labels" if fine else "labels": [i % classes for i in range(count)],
        }
        (folder / name).write_bytes(pickle.dumps(batch))
    key = "fine_label_names" if fine else "label_names"
    (folder / ("meta" if fine else "batches.meta")).write_bytes(pickle.dumps({key: [str(i) for i in range(classes)]}))


def write_nmnist(root: Path, per_class: int = 12) -> None:
    """Recordings of 5-byte events: x, y, polarity and 23 bits of microseconds."""
    rng = np.random.default_rng(0)
    for part in ("Train", "Test"):
        for digit in range(10):
            folder = root / "NMNIST" / part / str(digit)
            folder.mkdir(parents=True)
            for number in range(per_class):
                times = np.sort(rng.integers(0, 300_000, 200))
                events = bytearray()
                for time in times.tolist():
                    x, y, p = (int(rng.integers(0, high)) for high in (34, 34, 2))
                    events += bytes([x, y, (p << 7) | (time >> 16) & 0x7F, (time >> 8) & 0xFF, time & 0xFF])
                (folder / f"{number:05d}.bin").write_bytes(bytes(events))


def write_pokerdvs(root: Path, per_class: int = 8) -> None:
    """Recordings as arrays of t, x, y, p."""
    rng = np.random.default_rng(0)
    for part in ("pips_train", "pips_test"):
        (root / "pokerdvs" / "POKERDVS").mkdir(parents=True, exist_ok=True)
        (root / "pokerdvs" / "POKERDVS" / f"{part}.tar.gz").write_bytes(b"")
        for name in ("cl", "he", "di", "sp"):
            folder = root / "pokerdvs" / "POKERDVS" / part / name
            folder.mkdir(parents=True)
            for number in range(per_class):
                columns = [np.sort(rng.integers(0, 30_000, 150)), *(rng.integers(0, h, 150) for h in (35, 35, 2))]
                np.save(folder / f"{number}.npy", np.stack(columns, axis=1))
