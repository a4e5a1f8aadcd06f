"""Keys of the cache: they change if and only if the cached content changes."""

import zlib

import numpy as np
from helpers.event_source import MadeUp, events_of

from spikefit.data.events import cache
from spikefit.data.events.framing import EventBins, EventWindows, TimeBins, TimeWindows, VoxelGrid, frame
from spikefit.data.events.pipeline import EventPipeline

DROP = {"class_path": "tonic.transforms.DropEvent", "init_args": {"p": 0.2}}


def tonic(name, **arguments):
    return {"class_path": f"tonic.transforms.{name}", "init_args": arguments}


KEYS = [
    {},
    {"steps": 5},
    {"identity": "other data"},
    {"number": 19},
    {"sensor_size": (13, 10, 2)},
    {"binary": False},
    {"framing": TimeBins(overlap=0.5)},
    {"framing": EventBins()},
    {"framing": EventBins(overlap=0.5)},
    {"framing": VoxelGrid()},
    *({"framing": TimeWindows(**own)} for own in (
        {"microseconds": 10}, {"microseconds": 11}, {"microseconds": 10, "overlap": 1},
        {"microseconds": 10, "incomplete": True},
    )),
    *({"framing": EventWindows(**own)} for own in (
        {"count": 10}, {"count": 11}, {"count": 10, "overlap": 1}, {"count": 10, "incomplete": True},
    )),
    *({"transforms": chain} for chain in (
        [tonic("Denoise", filter_time=1)],
        [tonic("Denoise", filter_time=1.5)],
        [tonic("CropTime", min=1)],
        [tonic("CropTime", max=1)],
        [tonic("CropTime", min=1, max=1)],
        [tonic("Downsample", spatial_factor=0.5)],
        [tonic("Downsample", spatial_factor=[0.5, 1.0])],
        [tonic("Downsample", time_factor=0.5)],
        [tonic("Downsample", target_size=[6, 5])],
        [tonic("CenterCrop", size=6)],
        [tonic("CenterCrop", size=[6, 5])],
        [tonic("Decimation", n=2)],
        [tonic("Decimation", n=3)],
        [tonic("DropPixel", coordinates=[[1, 2]])],
        [tonic("DropPixel", coordinates=[[2, 1]])],
        [tonic("DropPixel", coordinates=[[1, 2], [2, 1]])],
        [tonic("DropPixel", hot_pixel_frequency=50)],
        [tonic("EventDownsampling", target_size=[6, 5], downsampling_method="integrator", dt=1.0, noise_threshold=1)],
        [tonic("EventDownsampling", target_size=[6, 5], downsampling_method="integrator", dt=1.0, noise_threshold=2)],
        [tonic("EventDownsampling", target_size=[6, 5], downsampling_method="integrator", dt=2.0, noise_threshold=1)],
        [tonic("MergePolarities")],
        [tonic("TimeAlignment")],
        [tonic("RefractoryPeriod", delta=1)],
        [tonic("RefractoryPeriod", delta=2)],
        [tonic("TimeSkew", coefficient=1.5)],
        [tonic("TimeSkew", coefficient=1.5, offset=1)],
        [tonic("TimeSkew", coefficient=1.25)],
        [tonic("Denoise", filter_time=1), tonic("CropTime", max=1)],
        [tonic("CropTime", max=1), tonic("Denoise", filter_time=1)],
        [{"class_path": "helpers.event_source.TwiceAlways"}],
        [{"class_path": "helpers.event_source.TwiceAlways", "init_args": {"shift": 2}}],
        [{"class_path": "helpers.event_source.LeftHalf"}],
    )),
    {"augment": [DROP]},
    {"augment": [tonic("CropTime", max=1), DROP]},
    {"augment": [tonic("CropTime", max=2), DROP]},
]  # fmt: skip


def key(steps=4, identity="made up", sensor_size=(12, 10, 2), number=20, **options):
    recordings = MadeUp(sensor_size, number, identity=identity)
    return EventPipeline(cache="none", **options).dataset(recordings, steps, train=True).key


def test_a_key_for_every_change_of_any_option():
    keys = [key(**options) for options in KEYS]
    assert len(set(keys)) == len(KEYS)
    assert keys == [key(**options) for options in KEYS]


def test_the_versions_of_tonic_and_of_the_format_are_in_the_key(monkeypatch):
    plain = key()
    monkeypatch.setattr(cache, "FORMAT", 2)
    assert key() != plain
    monkeypatch.undo()
    monkeypatch.setattr("spikefit.data.events.pipeline.version", lambda package: "1.8.0")
    assert key() != plain


class Own(TimeBins):
    """A framing of a user's own, with a parameter that is no field."""

    def __init__(self, strength):
        super().__init__()
        object.__setattr__(self, "strength", strength)


def test_parameters_of_a_users_own_framing_are_in_the_key():
    assert len({key(framing=framing) for framing in (TimeBins(), Own(1), Own(2))}) == 3


def test_the_order_of_the_recordings_is_in_the_key():
    """A file system lists files in any order; the labels show which."""
    recordings = MadeUp()
    recordings.__class__ = type("Turned", (MadeUp,), {"labels": 1 - recordings.labels})
    assert EventPipeline(cache="none").dataset(recordings, 4, train=True).key != key()


def test_defaults_that_are_written_out_change_no_key():
    assert key() == key(framing=TimeBins(overlap=0.0), transforms=[], binary=True)
    assert key(framing=VoxelGrid(), binary=False) == key(framing=VoxelGrid())  # which is never binary
    assert key(transforms=[tonic("CropTime")]) == key(transforms=[tonic("CropTime", min=0)])


FRAMINGS = [TimeBins(), TimeBins(overlap=0.5), EventBins(), TimeWindows(30_000), EventWindows(20), VoxelGrid()]
CHECKSUMS = [1987068107, 238077204, 3594327659, 1298102838, 93830821, 404753330]


def test_frames_that_change_need_another_format():
    """A cache from before holds the old frames: whoever changes what a framing gives raises ``cache.FORMAT``."""
    events = [events_of(seed, 100, (12, 10, 2)) for seed in range(4)]
    found = []
    for framing in FRAMINGS:
        frames = frame(events, framing, (12, 10, 2), 4, binary=False)
        found.append(zlib.crc32((1024 * frames).round().astype(np.int64).tobytes()))
    assert (cache.FORMAT, found) == (1, CHECKSUMS)
