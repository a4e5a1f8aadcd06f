"""Framings against tonic's own, and by hand where tonic has no result."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tonic import transforms

from spikefit.data.events import accumulate
from spikefit.data.events.framing import EventBins, EventWindows, TimeBins, TimeWindows, VoxelGrid, frame
from spikefit.errors import ConfigurationError, DataError

SENSOR = (5, 4, 2)
DTYPE = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])


def recording(times, seed=0, sensor=SENSOR):
    """Events at these times, anywhere."""
    rng = np.random.default_rng(seed)
    events = np.zeros(len(times), DTYPE)
    for name, high in zip("xyp", sensor, strict=True):
        events[name] = rng.integers(0, high, len(times))
    events["t"] = np.sort(np.asarray(times, dtype=int))
    return events


@st.composite
def batches(draw, fewest=0):
    """Recordings of a batch, bursts and gaps included; the first event lies anywhere."""
    times = st.one_of(st.integers(0, 40), st.integers(0, 10_000), st.just(7))
    length = st.one_of(st.integers(fewest, 3), st.integers(fewest, 60))
    batch = []
    for number in range(draw(st.integers(1, 4))):
        n = draw(length)
        start = draw(st.sampled_from([0, 1, 123_456_789_012]))
        batch.append(recording([start + draw(times) for _ in range(n)], number))
    return batch


def tonic_frames(events, steps, **options):
    """The first T of tonic's frames, padded with empty ones; tonic has no frame for a recording without events."""
    frames = np.zeros((steps, *SENSOR[::-1]), int)
    if len(events):
        own = transforms.ToFrame(sensor_size=SENSOR, **options)(events.copy())[:steps]
        frames[: len(own)] = own
    return frames


def agree(batch, framing, steps, **options):
    expected = np.stack([tonic_frames(events, steps, **options) for events in batch])
    counts = frame(batch, framing, SENSOR, steps, binary=False)
    spikes = frame(batch, framing, SENSOR, steps, binary=True)
    assert (counts.dtype, spikes.dtype) == (np.int16, np.uint8)
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(spikes, expected > 0)


@pytest.fixture(params=[1 << 16, 40, 7], autouse=True, scope="module")
def turn(request):
    """How many events are framed at once makes no difference."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accumulate, "TURN", request.param)
        yield


@given(batches(), st.integers(1, 9), st.sampled_from([0.0, 0.0, 0.1, 0.25, 0.5, 0.9]))
def test_bins_of_time_equal_tonic(batch, steps, overlap):
    agree(batch, TimeBins(overlap), steps, n_time_bins=steps, overlap=overlap)


@given(batches(), st.integers(1, 9), st.sampled_from([0.0, 0.0, 0.1, 0.25, 0.5, 0.9]))
def test_bins_of_events_equal_tonic(batch, steps, overlap):
    agree(batch, EventBins(overlap), steps, n_event_bins=steps, overlap=overlap)


@given(batches(), st.integers(1, 9), st.integers(1, 3000), st.booleans(), st.data())
def test_windows_of_time_equal_tonic(batch, steps, window, incomplete, data):
    overlap = data.draw(st.one_of(st.just(0), st.integers(0, window - 1)))
    options = {"time_window": window, "overlap": overlap, "include_incomplete": incomplete}
    # tonic counts every window, also those after T: keep their number within reason
    batch = [events for events in batch if not len(events) or np.ptp(events["t"]) // (window - overlap) < 2000]
    if batch:
        agree(batch, TimeWindows(window, overlap, incomplete), steps, **options)


@given(batches(), st.integers(1, 9), st.integers(1, 70), st.booleans(), st.data())
def test_windows_of_events_equal_tonic(batch, steps, count, incomplete, data):
    overlap = data.draw(st.one_of(st.just(0), st.integers(0, count - 1)))
    options = {"event_count": count, "overlap": overlap, "include_incomplete": incomplete}
    agree(batch, EventWindows(count, overlap, incomplete), steps, **options)


@given(batches(fewest=2), st.integers(1, 9))
def test_voxel_grids_equal_tonic(batch, steps):
    lasting = [events for events in batch if np.ptp(events["t"]) > 0]  # tonic divides by a duration of 0
    assume(lasting)
    expected = np.stack([transforms.ToVoxelGrid(SENSOR, steps)(events) for events in lasting])
    frames = frame(lasting, VoxelGrid(), SENSOR, steps, binary=False)
    assert frames.dtype == np.float32
    np.testing.assert_array_equal(frames, expected.astype(np.float32))


@pytest.mark.parametrize("framing", [TimeBins(), EventBins(), TimeWindows(10), EventWindows(2), VoxelGrid()])
def test_a_batch_is_its_recordings_one_by_one(framing):
    batch = [
        recording(times, seed) for seed, times in enumerate([[], [3], range(0, 99, 3), [], [8, 8, 8], [1, 90], []])
    ]
    together = frame(batch, framing, SENSOR, 3, binary=False)
    alone = np.concatenate([frame([events], framing, SENSOR, 3, binary=False) for events in batch])
    np.testing.assert_array_equal(together, alone)
    assert together.any()
    assert not together[[0, 3, 6]].any()


def test_by_hand():
    """Times 0, 4, 5, 9, 10 in two frames of floor(10 / 2) = 5: two events, two events, and 10 lies after both."""
    events = np.zeros(5, DTYPE)
    events["t"], events["x"], events["y"], events["p"] = [0, 4, 5, 9, 10], [1, 1, 2, 3, 4], 3, [0, 0, 1, 0, 1]
    frames = frame([events], TimeBins(), SENSOR, 2, binary=False)[0]
    expected = np.zeros((2, 2, 4, 5), int)
    expected[0, 0, 3, 1] = 2
    expected[1, 1, 3, 2] = expected[1, 0, 3, 3] = 1
    np.testing.assert_array_equal(frames, expected)


def test_voxel_grid_by_hand():
    """Times 0, 5, 10 and T = 2: u = 0, 1, 2. The first is in frame 0, the second in 1, the third after both."""
    events = np.zeros(4, DTYPE)
    events["t"], events["x"], events["p"] = [0, 2, 5, 10], [0, 1, 2, 3], [1, 0, 1, 1]
    frames = frame([events], VoxelGrid(), SENSOR, 2, binary=False)[0]
    assert frames.shape == (2, 1, 4, 5)
    np.testing.assert_allclose(frames[0, 0, 0], [1, -0.6, 0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(frames[1, 0, 0], [0, -0.4, 1, 0, 0], rtol=1e-6)


def test_a_voxel_grid_of_an_instant_is_in_the_first_frame():
    events = np.zeros(2, DTYPE)
    events["t"], events["p"] = 40, 1
    frames = frame([events], VoxelGrid(), SENSOR, 3, binary=False)[0]
    assert frames[0, 0, 0, 0] == frames.sum() == 2


def test_counts_stop_at_the_largest_of_int16():
    """tonic's frames wrap to negative counts here."""
    events = np.zeros(40_001, DTYPE)
    events["t"][-1] = 10
    frames = frame([events], EventBins(), SENSOR, 1, binary=False)
    assert frames.max() == 32767
    assert frames.min() == 0


@pytest.mark.parametrize("types", ["uint8", "int16", "uint16", "uint32", "int64"])
def test_the_type_of_a_field_does_not_matter(types):
    events = recording(range(50))
    dtype = np.dtype([("t", "uint32"), ("x", types), ("y", types), ("p", bool)])
    other = np.empty(len(events), dtype)
    for name in dtype.names:
        other[name] = events[name]
    for framing in (TimeBins(), VoxelGrid()):
        np.testing.assert_array_equal(
            frame([other], framing, SENSOR, 3, binary=False), frame([events], framing, SENSOR, 3, binary=False)
        )


@pytest.mark.parametrize("polarity", [0, 1])
def test_audio_equals_tonic(polarity):
    events = np.zeros(30, np.dtype([("t", int), ("x", int), ("p", int)]))
    events["t"], events["x"], events["p"] = np.arange(30) * 7, np.arange(30) % 11, polarity
    frames = frame([events], TimeBins(), (11, 1, 1), 4, binary=False)
    expected = transforms.ToFrame(sensor_size=(11, 1, 1), n_time_bins=4)(events.copy())
    np.testing.assert_array_equal(frames[0].reshape(4, 1, 11), expected)


def test_two_polarities_on_a_sensor_with_one_are_an_error_as_in_tonic():
    events = recording(range(9), sensor=(5, 4, 1))
    other = events.copy()
    other["p"] = 1  # another name for the same polarity
    frames = frame([events, other], TimeBins(), (5, 4, 1), 2, binary=False)
    np.testing.assert_array_equal(frames[0], frames[1])
    events["p"][4] = 1
    with pytest.raises(DataError, match="one polarity"):
        frame([events], TimeBins(), (5, 4, 1), 2, binary=False)


@pytest.mark.parametrize(("field", "value"), [("x", 5), ("x", -1), ("y", 4), ("y", -3), ("p", 2), ("p", -1)])
@pytest.mark.parametrize("framing", [TimeBins(), VoxelGrid()])
def test_an_event_outside_the_sensor_is_named(framing, field, value):
    events = recording(range(9))
    events[field][3] = value
    with pytest.raises(DataError, match=f"{field}={value}, expected 0 to"):
        frame([recording([1, 2]), events], framing, SENSOR, 2, binary=True)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: TimeBins(overlap=1.0), "overlap: got 1.0, expected at least 0 and less than 1"),
        (lambda: EventBins(overlap=-0.1), "overlap: got -0.1"),
        (lambda: TimeWindows(0), "microseconds: got 0"),
        (lambda: TimeWindows(10, overlap=10), "overlap: got 10, expected at least 0 and less than microseconds"),
        (lambda: EventWindows(0), "count: got 0"),
        (lambda: EventWindows(3, overlap=4), "less than count"),
        (lambda: VoxelGrid().channels(1), "VoxelGrid needs events of 2 polarities, got 1"),
    ],
)
def test_a_bad_value_is_named(make, named):
    with pytest.raises(ConfigurationError, match=named):
        make()
