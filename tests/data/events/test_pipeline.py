"""EventPipeline against tonic's transforms, with every cache, loader and order."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.event_source import MadeUp, MadeUpEvents, real_nmnist
from tonic import transforms as tonic_transforms
from torch.utils.data import DataLoader, Subset

from spikefit.data import SpikeDataModule
from spikefit.data.events.framing import EventWindows, VoxelGrid
from spikefit.data.events.pipeline import EventPipeline
from spikefit.errors import ConfigurationError, DataError
from spikefit.seeding import reseed

CACHES = ("none", "memory", "disk")


def tonic(name, **arguments):
    return {"class_path": f"tonic.transforms.{name}", "init_args": arguments}


def own(name, **arguments):
    return {"class_path": f"helpers.event_source.{name}", "init_args": arguments}


def frames_of(dataset):
    return torch.stack([frames for frames, _ in dataset.__getitems__(list(range(len(dataset))))])


@pytest.fixture(params=CACHES)
def cached(request, tmp_path):
    """Options of a pipeline for each kind of cache."""
    return {"cache": request.param, "cache_dir": str(tmp_path / "cache")}


ROW = (
    tonic("CropTime", min=5000, max=90_000),
    tonic("Downsample", spatial_factor=[0.5, 1.0]),
    tonic("RefractoryPeriod", delta=300),
    tonic("CenterCrop", size=[4, 6]),
    tonic("Denoise", filter_time=20_000),
    tonic("MergePolarities"),
)


def test_transforms_in_a_row_equal_tonic(cached):
    """Sensor sizes by hand: 12 x 10, halved to 6 x 10, cropped to 4 x 6, one polarity."""
    pipeline = EventPipeline(ROW, binary=False, **cached)
    assert pipeline.shape((12, 10, 2)) == (1, 6, 4)
    by_hand = tonic_transforms.Compose(
        [
            tonic_transforms.CropTime(min=5000, max=90_000),
            tonic_transforms.Downsample(spatial_factor=(0.5, 1.0)),
            tonic_transforms.RefractoryPeriod(delta=300),
            tonic_transforms.CenterCrop(sensor_size=(6, 10, 2), size=(4, 6)),
            tonic_transforms.Denoise(filter_time=20_000),
            tonic_transforms.MergePolarities(),
        ]
    )
    to_frame = tonic_transforms.ToFrame(sensor_size=(4, 6, 1), n_time_bins=3)
    recordings = MadeUp(events=600)
    frames = frames_of(pipeline.dataset(recordings, 3, train=False))
    for index in range(len(recordings)):
        events = by_hand(recordings[index])
        expected = torch.from_numpy(to_frame(events)).long() if len(events) else torch.zeros(3, 1, 6, 4).long()
        assert torch.equal(frames[index].long(), expected)
    assert frames.sum() > 100


def test_real_recordings_equal_tonic(data_dir, cached):
    recordings = real_nmnist(str(data_dir / "nmnist4"), "test", 12)
    dataset = EventPipeline(binary=False, **cached).dataset(recordings, 6, train=True)
    to_frame = tonic_transforms.ToFrame(sensor_size=(34, 34, 2), n_time_bins=6)
    for index in range(12):
        frames, label = dataset[index]
        assert torch.equal(frames, torch.from_numpy(to_frame(recordings[index])))
        assert label == int(recordings.labels[index])


@pytest.mark.parametrize(
    ("name", "arguments", "size"),
    [
        ("Downsample", {"spatial_factor": 0.5}, (18, 17, 2)),  # columns 0 to 34 become 0 to 17, rows 0 to 33 0 to 16
        ("Downsample", {"target_size": [7, 9]}, (7, 9, 2)),
        ("Downsample", {"time_factor": 0.001}, (35, 34, 2)),
        ("CenterCrop", {"size": 20}, (20, 20, 2)),
        ("CenterCrop", {"size": [50, 10]}, (50, 10, 2)),
        ("MergePolarities", {}, (35, 34, 1)),
        ("Denoise", {"filter_time": 1e5}, (35, 34, 2)),
        ("EventDownsampling", {"target_size": [7, 17], "downsampling_method": "integrator", "dt": 1.0,
                               "noise_threshold": 1}, (7, 17, 2)),
    ],
)  # fmt: skip
def test_the_sensor_after_a_transform_contains_every_event(name, arguments, size):
    pipeline = EventPipeline([tonic(name, **arguments)], cache="none")
    width, height, polarities = size
    assert pipeline.shape((35, 34, 2)) == (polarities, height, width)
    dataset = pipeline.dataset(MadeUp((35, 34, 2), events=3000), 2, train=False)
    frames = frames_of(dataset)  # an event outside would be an error
    assert frames.shape == (20, 2, polarities, height, width)
    assert frames.any()


def test_the_sensor_size_reaches_transforms_in_order():
    """A crop of a crop: 12 x 10 to 8 x 8 from column 2 and row 1, to 4 x 4 from column 2 and row 2 of those."""
    events = np.zeros(2, [("t", int), ("x", int), ("y", int), ("p", int)])
    events["t"], events["x"], events["y"] = [0, 10], [4, 7], [3, 6]
    recordings = MadeUp()
    recordings.__class__ = type("Fixed", (MadeUp,), {"__getitem__": lambda self, index: events})
    pipeline = EventPipeline([tonic("CenterCrop", size=8), tonic("CenterCrop", size=4)], framing=EventWindows(2))
    frames, _ = pipeline.dataset(recordings, 1, train=False)[0]
    assert frames.shape == (1, 2, 4, 4)
    assert frames.nonzero().tolist() == [[0, 0, 0, 0], [0, 0, 3, 3]]


def test_a_users_own_transform_changes_the_sensor():
    pipeline = EventPipeline([own("LeftHalf")], augment=[tonic("RandomFlipLR", p=1.0)])
    assert pipeline.shape((12, 10, 2)) == (2, 10, 6)
    flipped = frames_of(pipeline.dataset(MadeUp(), 2, train=True))
    plain = frames_of(pipeline.dataset(MadeUp(), 2, train=False))
    assert torch.equal(flipped, plain.flip(-1))


def test_audio_is_one_row_of_channels(cached):
    recordings = MadeUp((40, 1, 1))
    pipeline = EventPipeline([tonic("TimeAlignment")], augment=[tonic("DropEvent", p=0.2)], binary=False, **cached)
    assert pipeline.shape((40, 1, 1)) == (40,)
    dataset = pipeline.dataset(recordings, 5, train=True)
    frames = frames_of(dataset.without_augmentation())
    assert frames.shape == (20, 5, 40)
    to_frame = tonic_transforms.ToFrame(sensor_size=(40, 1, 1), n_time_bins=5)
    assert torch.equal(frames[7], torch.from_numpy(to_frame(recordings[7]))[:, 0])
    assert 0 < frames_of(dataset).sum() < frames.sum()


@pytest.mark.parametrize(
    ("options", "dtype", "shape"),
    [
        ({}, torch.uint8, (2, 10, 12)),
        ({"binary": False}, torch.int16, (2, 10, 12)),
        ({"framing": VoxelGrid()}, torch.float32, (1, 10, 12)),
    ],
)
def test_the_type_of_frames(options, dtype, shape, cached):
    pipeline = EventPipeline(**options, **cached)
    frames, _ = pipeline.dataset(MadeUp(), 3, train=True)[1]
    assert (frames.dtype, frames.shape, pipeline.shape((12, 10, 2))) == (dtype, (3, *shape), shape)
    assert frames.any()


RANDOM = [tonic("DropEvent", p=0.3), tonic("TimeJitter", std=2000.0), tonic("Denoise", filter_time=30_000)]


def test_random_transforms_are_drawn_anew_and_repeat_with_the_seed(cached):
    dataset = EventPipeline([tonic("CropTime", max=90_000)], augment=RANDOM, **cached).dataset(MadeUp(), 4, train=True)
    reseed(1)
    first, second = frames_of(dataset), frames_of(dataset)
    reseed(1)
    assert torch.equal(first, frames_of(dataset))
    assert not torch.equal(first, second)


def test_random_frames_do_not_depend_on_the_cache(tmp_path):
    made = []
    for cache in CACHES:
        options = {"cache": cache, "cache_dir": str(tmp_path)}
        transforms = [tonic("CropTime", max=90_000)]
        noise = [*RANDOM, tonic("UniformNoise", n=20)]
        dataset = EventPipeline(transforms, augment=noise, **options).dataset(MadeUp(), 4, train=True)
        reseed(1)
        made.append(frames_of(dataset))
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


def test_building_a_pipeline_draws_no_random_numbers():
    reseed(3)
    EventPipeline(augment=RANDOM).shape((12, 10, 2))
    drawn = np.random.rand()  # noqa: NPY002
    reseed(3)
    assert drawn == np.random.rand()  # noqa: NPY002


def test_augmentation_is_for_training_samples_only(cached):
    recordings = MadeUp()
    pipeline = EventPipeline([tonic("CropTime", max=90_000)], augment=RANDOM, **cached)
    training = pipeline.dataset(recordings, 4, train=True)
    plain = frames_of(pipeline.dataset(recordings, 4, train=False))
    read = len(recordings.reads)
    assert torch.equal(frames_of(training.without_augmentation()), plain)
    assert not torch.equal(frames_of(training), plain)
    if cached["cache"] != "none":
        assert len(recordings.reads) == read  # both came from the events that were cached for training


def test_validation_samples_of_the_training_part_are_not_augmented():
    pipeline = EventPipeline(augment=[tonic("DropEvent", p=0.9)])
    data = SpikeDataModule(MadeUpEvents(pipeline), encoding="frames", time_steps=3, val_fraction=0.5, batch_size=20)
    data.setup("fit")
    plain = EventPipeline().dataset(MadeUp(), 3, train=True)
    ((x, y),) = data.val_dataloader()
    held_out = data._parts["val"].indices
    assert torch.equal(x, torch.stack([plain[index][0] for index in held_out]))
    assert torch.equal(y, plain.labels[held_out])
    ((x, _),) = data.train_dataloader()
    assert x.sum() < 0.5 * plain.__getitems__(list(range(20)))[0][0].sum() * 20


def test_another_crop_for_evaluation(cached):
    options = {"augment": [tonic("RandomCrop", target_size=[6, 6])], **cached}
    with pytest.raises(ConfigurationError, match=r"augment: training frames .*CenterCrop to \[6, 6\]"):
        EventPipeline(**options).shape((12, 10, 2))
    pipeline = EventPipeline(evaluation=[tonic("CenterCrop", size=6)], **options)
    assert pipeline.shape((12, 10, 2)) == (2, 6, 6)
    training = pipeline.dataset(MadeUp(), 4, train=True)
    assert frames_of(training).shape == (20, 4, 2, 6, 6)
    plain = frames_of(EventPipeline([tonic("CenterCrop", size=6)]).dataset(MadeUp(), 4, train=False))
    assert torch.equal(frames_of(training.without_augmentation()), plain)


def test_evaluation_alone_makes_other_samples_of_the_training_part(cached):
    pipeline = EventPipeline(evaluation=[tonic("CropTime", max=40_000)], **cached)
    training = pipeline.dataset(MadeUp(), 4, train=True)
    assert torch.equal(frames_of(training), frames_of(EventPipeline().dataset(MadeUp(), 4, train=True)))
    other = frames_of(pipeline.dataset(MadeUp(), 4, train=False))
    assert torch.equal(frames_of(training.without_augmentation()), other)
    assert not torch.equal(frames_of(training), other)


def test_unsorted_times_are_sorted():
    """tonic's jitter leaves events out of order, and its frames then lose some."""
    jitter = {"std": 5000.0, "clip_negative": False}
    pipeline = EventPipeline(augment=[tonic("TimeJitter", **jitter)], binary=False, cache="none")
    reseed(2)
    frames, _ = pipeline.dataset(MadeUp(), 4, train=True)[0]
    reseed(2)
    events = tonic_transforms.TimeJitter(**jitter)(MadeUp()[0])
    assert (np.diff(events["t"]) < 0).any()
    to_frame = tonic_transforms.ToFrame(sensor_size=(12, 10, 2), n_time_bins=4)
    assert torch.equal(frames, torch.from_numpy(to_frame(events[np.argsort(events["t"], kind="stable")])))


def test_one_recording_does_not_change_the_next():
    """tonic's CropTime without a maximum keeps the first recording's last time and crops all others there."""
    plain = frames_of(EventPipeline().dataset(MadeUp(), 4, train=False))
    for cache in ("none", "memory"):
        dataset = EventPipeline([tonic("CropTime")], cache=cache).dataset(MadeUp(), 4, train=False)
        assert torch.equal(frames_of(dataset), plain)


DROP = [tonic("DropEvent", p=0.2)]


@pytest.mark.parametrize(
    ("cache", "augment", "context"),  # a process that is started anew takes seconds
    [
        ("none", [], "fork"),
        ("none", DROP, "fork"),
        ("memory", [], "spawn"),
        ("memory", DROP, "fork"),
        ("disk", [], "fork"),
        ("disk", DROP, "spawn"),
    ],
)
def test_processes_that_load_give_the_same_batches(tmp_path, cache, augment, context):
    dataset = EventPipeline(augment=augment, cache=cache, cache_dir=str(tmp_path)).dataset(MadeUp(), 3, train=True)
    shown = Subset(dataset, [5, 3, 19, 0, 7])

    def batches(workers):
        options = {"multiprocessing_context": context, "worker_init_fn": seed_worker} if workers else {}
        reseed(0)
        return list(DataLoader(shown, batch_size=5, num_workers=workers, **options))

    ((x, y),), ((same, labels),) = batches(0), batches(1)
    assert x.shape == (5, 3, 2, 10, 12)
    assert torch.equal(x, same)
    assert torch.equal(y, labels)
    assert y.tolist() == [1, 1, 1, 0, 1]


def seed_worker(_worker):
    reseed(0)


def test_samples_are_counted_from_the_end_too(cached):
    dataset = EventPipeline(augment=[tonic("DropEvent", p=0.0)], **cached).dataset(MadeUp(), 3, train=True)
    assert torch.equal(dataset[-1][0], dataset[19][0])
    assert len(list(dataset)) == 20
    with pytest.raises(IndexError, match="20"):
        dataset[20]
    with pytest.raises(IndexError, match="-21"):
        dataset[-21]


def test_a_pickled_data_set_with_a_cache_does_not_contain_its_recordings(cached):
    dataset = EventPipeline(**cached).dataset(MadeUp(), 3, train=True)
    copy = pickle.loads(pickle.dumps(dataset))
    assert (copy.recordings is None) == (cached["cache"] != "none")
    assert torch.equal(frames_of(copy), frames_of(dataset))


def test_cached_events_can_not_be_changed_by_a_transform(tmp_path):
    dataset = EventPipeline(augment=[own("Twice")], cache="memory").dataset(MadeUp(), 3, train=True)
    before = frames_of(dataset.without_augmentation())
    dataset._events(5)["x"][:] = 0
    assert torch.equal(frames_of(dataset.without_augmentation()), before)


def test_events_outside_the_sensor_are_an_error():
    recordings = MadeUp((12, 10, 2))
    recordings.sensor_size = (8, 10, 2)
    recordings.__class__ = type("Wide", (MadeUp,), {"__getitem__": lambda self, index: MadeUp()[index]})
    with pytest.raises(DataError, match="expected 0 to 7"):
        EventPipeline().dataset(recordings, 3, train=True)


def test_tonic_is_imported_only_for_transforms():
    code = (
        "import sys; from spikefit.data.events.pipeline import EventPipeline; EventPipeline().shape((5, 5, 2));"
        "print('tonic' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
