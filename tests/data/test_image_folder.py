"""Own images: what is read equals what Pillow reads, and whatever is wrong with a folder names the folder or file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.fake_images import write_image_folder
from PIL import Image

from spikefit.data import SpikeDataModule
from spikefit.data.images import ImageFolder
from spikefit.errors import ConfigurationError, DataError


@pytest.fixture
def both(tmp_path):
    """A folder with a training and a test set."""
    write_image_folder(tmp_path / "train")
    write_image_folder(tmp_path / "test", per_class=3, seed=1)
    return tmp_path


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_images_equal_those_that_pillow_reads_and_resizes(both, channels, mode):
    loaded = ImageFolder(str(both), size=(12, 9), channels=channels).load("train", 4)
    files = [file for name in ("cat", "dog") for file in sorted((both / "train" / name).iterdir())]
    expected = [
        np.asarray(Image.open(file).convert(mode).resize((9, 12), Image.Resampling.BILINEAR)).reshape(12, 9, channels)
        for file in files
    ]
    assert loaded.images.dtype == torch.uint8
    assert torch.equal(loaded.images.permute(0, 2, 3, 1), torch.from_numpy(np.stack(expected)))
    assert loaded.labels.tolist() == [0] * 10 + [1] * 10


def test_an_image_of_the_wanted_size_keeps_its_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 2**16, (5, 7), dtype=np.uint16)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")  # 16 bits a pixel
    loaded = ImageFolder(str(tmp_path), size=(5, 7), channels=1).load("train", 4)
    assert torch.equal(loaded.images[0, 0], torch.from_numpy((pixels // 256).astype(np.uint8)))


def test_transparent_and_palette_images_lose_no_colour(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (4, 4, 4), dtype=np.uint8)
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
    Image.fromarray(colours).save(tmp_path / "train" / "a" / "1.png")
    palette = Image.fromarray(colours[..., :3]).quantize(4)
    palette.save(tmp_path / "train" / "b" / "1.png", transparency=0)
    loaded = ImageFolder(str(tmp_path), size=(4, 4)).read("train")
    assert torch.equal(loaded.images[0].permute(1, 2, 0), torch.from_numpy(colours[..., :3]))
    assert torch.equal(loaded.images[1].permute(1, 2, 0), torch.from_numpy(np.asarray(palette.convert("RGB")).copy()))


@pytest.mark.parametrize("below", [".", "train"])
def test_without_a_test_set_a_seeded_share_of_every_class_is_held_out(tmp_path, below):
    write_image_folder(tmp_path / below)
    data = ImageFolder(str(tmp_path), (8, 8), test_fraction=0.3, split_seed=3)
    data.prepare()
    parts = [data.load(part, 4) for part in ("train", "test")]
    assert [torch.bincount(part.labels).tolist() for part in parts] == [[7, 7], [3, 3]]
    whole = data.read("train").images
    taken = torch.cat([part.images for part in parts])
    assert sorted(map(str, taken.tolist())) == sorted(map(str, whole.tolist()))
    again = ImageFolder(str(tmp_path), (8, 8), test_fraction=0.3, split_seed=3).load("test", 4)
    assert torch.equal(again.images, parts[1].images)
    other = ImageFolder(str(tmp_path), (8, 8), test_fraction=0.3, split_seed=4).load("test", 4)
    assert not torch.equal(other.images, parts[1].images)


def test_a_validation_folder_is_the_validation_set(both):
    assert not ImageFolder(str(both)).has_validation
    write_image_folder(both / "valid", per_class=2, seed=2)
    data = SpikeDataModule(ImageFolder(str(both), (8, 8)), batch_size=4)
    data.prepare_data()
    data.setup("fit")
    assert sum(len(y) for _, y in data.val_dataloader()) == 4
    assert sum(len(y) for _, y in data.train_dataloader()) == 20


def test_batches_are_made_on_the_device_as_for_the_built_in_sets(both):
    data = SpikeDataModule(
        ImageFolder(str(both), (8, 8), channels=1), batch_size=5, val_fraction=0.2, device_cache=True
    )
    assert (data.num_classes, data.input_shape) == (2, (1, 8, 8))
    data.setup("fit")
    x, y = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert x.shape == (4, 5, 1, 8, 8)
    assert x.max() <= 1
    assert len(data._parts["train"]) == 16
    assert set(y.tolist()) <= {0, 1}


def test_every_file_is_decoded_once_by_the_process_that_prepares(both, monkeypatch):
    opened, real = [], Image.open
    monkeypatch.setattr(Image, "open", lambda path: opened.append(str(path)) or real(path))
    data = SpikeDataModule(ImageFolder(str(both), (8, 8)))
    data.prepare_data()
    for stage in ("fit", "test"):
        data.setup(stage)
    assert len(opened) == len(set(opened)) == 26


def test_hidden_files_and_those_of_the_system_are_ignored(both):
    before = ImageFolder(str(both), (8, 8)).load("train", 4).images
    (both / "train" / ".cache").mkdir()
    (both / "train" / "notes.txt").write_text("text")
    for name in ("._00.png", "Thumbs.db", ".DS_Store"):
        (both / "train" / "cat" / name).write_bytes(b"no image")
    assert torch.equal(ImageFolder(str(both), (8, 8)).load("train", 4).images, before)


def test_given_classes_set_the_labels_and_ignore_other_folders(both):
    write_image_folder(both / "train", ("bird",))
    data = ImageFolder(str(both), (8, 8), classes=["dog", "cat"])
    assert data.num_classes == 2
    own = ImageFolder(str(both), (8, 8), classes=["bird", "cat", "dog"]).read("train")
    assert torch.equal(data.load("train", 4).images, own.images[[*range(20, 30), *range(10, 20)]])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def wide(path: Path) -> None:
    path.unlink()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(path.with_suffix(".tif"))


DAMAGES = {
    "text": (lambda path: path.write_bytes(b"text"), r"00\.png is damaged: it is not an image that Pillow can read"),
    "cut": (cut, r"00\.png is damaged: "),
    "empty": (lambda path: path.write_bytes(b""), r"00\.png is damaged: "),
    "32 bits": (wide, r"00\.tif is damaged: it has pixels of 32 bits \(Pillow's mode F\), expected 8 or 16"),
    "other file": (
        lambda path: path.rename(path.with_suffix(".csv")),
        r"00\.csv is not an image, expected one of",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_image_of_the_test_set_is_named_before_training(both, name):
    damage, message = DAMAGES[name]
    damage(both / "test" / "dog" / "00.png")
    with pytest.raises(DataError, match=rf"test/dog/{message}"):
        SpikeDataModule(ImageFolder(str(both))).prepare_data()


def test_a_file_that_may_not_be_read_is_not_called_damaged(both, monkeypatch):
    real = Image.open

    def refuse(path):
        if str(path).endswith("cat/00.png"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(DataError, match=r"train/cat/00\.png can't be read: Permission denied"):
        ImageFolder(str(both)).prepare()


def test_the_classes_of_train_and_test_must_be_equal(both):
    (both / "test" / "dog").rename(both / "test" / "wolf")
    with pytest.raises(DataError, match=r"test has the classes cat, wolf, expected cat, dog, those of train"):
        ImageFolder(str(both)).prepare()
    with pytest.raises(DataError, match=r"test has the classes cat, wolf, expected dog, as given by classes"):
        ImageFolder(str(both), classes=["dog"]).prepare()


def test_an_empty_class_a_missing_folder_and_a_missing_training_set_are_named(both):
    (both / "train" / "eagle").mkdir()
    (both / "test" / "eagle").mkdir()
    with pytest.raises(DataError, match=r"train/eagle has no image"):
        ImageFolder(str(both)).prepare()
    with pytest.raises(DataError, match=r"nowhere is missing or has no folders .*ROOT/train/CLASS"):
        _ = ImageFolder(str(both / "nowhere")).num_classes
    (both / "train").rename(both / "training")
    with pytest.raises(DataError, match=r"has the set test, but no set train"):
        ImageFolder(str(both)).prepare()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 8)}, r"size: got \[0, 8\]"),
        ({"channels": 2}, "channels: got 2"),
        ({"classes": ["a", "a"]}, r"classes: got \['a', 'a'\]"),
        ({"test_fraction": 1.0}, "test_fraction: got 1.0"),
    ],
)
def test_options_that_are_not_allowed(options, message):
    with pytest.raises(ConfigurationError, match=message):
        ImageFolder("anywhere", **options)


def test_too_few_images_to_hold_every_class_out(tmp_path):
    write_image_folder(tmp_path, per_class=1)
    with pytest.raises(ConfigurationError, match=r"test_fraction: 0\.2 of 2 samples can't hold every class"):
        ImageFolder(str(tmp_path)).load("test", 4)
