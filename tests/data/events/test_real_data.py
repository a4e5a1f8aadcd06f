"""The loading code on real files: FashionMNIST, POKER-DVS and two parts of N-MNIST."""

import pytest
import torch

from spikefit.data import SpikeDataModule
from spikefit.data.events import NMNIST, POKERDVS
from spikefit.data.events.pipeline import EventPipeline
from spikefit.data.images import FashionMNIST
from spikefit.errors import DataError


def test_fashion_mnist_equals_torchvision(data_dir):
    from torchvision import datasets

    data = SpikeDataModule(FashionMNIST(root=str(data_dir), download=False), batch_size=500)
    data.prepare_data()
    data.setup("test")
    reference = datasets.FashionMNIST(str(data_dir), train=False, download=False)
    x, y = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    assert torch.equal((x[0, :, 0] * 255).round().to(torch.uint8), reference.data[:500])
    assert torch.equal(y, reference.targets[:500])
    assert (float(x.min()), float(x.max())) == (0.0, 1.0)


@pytest.mark.parametrize("part", ["train", "test"])
def test_every_image_of_fashion_mnist_equals_torchvision(data_dir, part):
    from torchvision import datasets

    images = FashionMNIST(root=str(data_dir), download=False).load(part, 4)
    reference = datasets.FashionMNIST(str(data_dir), train=part == "train", download=False)
    assert images.images.dtype == torch.uint8
    assert torch.equal(images.images[:, 0], reference.data)
    assert torch.equal(images.labels, reference.targets)


def test_poker_dvs_frames_equal_tonic(data_dir):
    """Counts equal tonic's own ToFrame; the spikes are where a count is not zero."""
    import tonic

    reference = tonic.datasets.POKERDVS(str(data_dir / "pokerdvs"), train=False)
    to_frame = tonic.transforms.ToFrame(sensor_size=(35, 35, 2), n_time_bins=6)
    counting = EventPipeline(binary=False, cache="none")
    counts = POKERDVS(root=str(data_dir), download=False, pipeline=counting).load("test", 6)
    source = POKERDVS(root=str(data_dir), download=False)
    spikes, indices = source.load("test", 6), source.recordings("test").indices
    assert len(spikes) == 20
    assert spikes.labels.tolist() == sorted(spikes.labels.tolist())
    for index in range(20):
        events, label = reference[indices[index]]
        expected = torch.from_numpy(to_frame(events))
        assert torch.equal(counts[index][0].long(), expected.long())
        assert torch.equal(spikes[index][0].bool(), expected > 0)
        assert spikes[index][1] == int(label)
    assert sorted(set(spikes.labels.tolist())) == [0, 1, 2, 3]


def test_poker_dvs_has_its_official_parts(data_dir):
    data = SpikeDataModule(POKERDVS(root=str(data_dir), download=False), encoding="frames", time_steps=4, batch_size=7)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    sizes = [sum(len(y) for _, y in loader) for loader in (data.train_dataloader(), data.val_dataloader())]
    assert sizes == [43, 5]
    x, _ = data.on_after_batch_transfer(list(data.test_dataloader())[-1], 0)
    assert x.shape == (4, 6, 2, 35, 35)


@pytest.mark.parametrize(
    ("folder", "classes", "train", "test"),
    [("nmnist4", [6, 7, 8, 9], 1600, 400), ("nmnist10", None, 1000, 100)],
)
def test_a_part_of_nmnist_is_enough(data_dir, folder, classes, train, test):
    source = NMNIST(root=str(data_dir / folder), classes=classes, download=False, pipeline=EventPipeline(cache="none"))
    source.prepare()
    parts = {part: source.load(part, 3) for part in ("train", "test")}
    assert (len(parts["train"]), len(parts["test"])) == (train, test)
    names = sorted({path.parent.name for path in (data_dir / folder / "NMNIST" / "Test").glob("*/*.bin")})
    digits = [int(name) for name in names]
    assert sorted(set(parts["test"].labels.tolist())) == list(range(len(digits)))
    frames, label = parts["test"][5]
    assert frames.shape == (3, 2, 34, 34)
    recordings = source.recordings("test")
    path = recordings.dataset.data[recordings.indices[5]]
    assert int(str(path).split("/")[-2]) == digits[label]


def test_missing_digits_are_named(data_dir):
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        NMNIST(root=str(data_dir / "nmnist4"), classes=[0, 1, 6], download=False).load("test", 3)


def test_nothing_is_written_next_to_the_data(data_dir):
    before = sorted(str(path) for path in (data_dir / "pokerdvs").rglob("*"))
    POKERDVS(root=str(data_dir), download=False, pipeline=EventPipeline(cache="none")).load("train", 3)
    assert sorted(str(path) for path in (data_dir / "pokerdvs").rglob("*")) == before
