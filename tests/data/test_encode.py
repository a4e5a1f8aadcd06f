"""Encodings against their definitions."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from spikefit.data import encode


def test_direct_is_one_frame_in_memory():
    images = torch.rand(3, 1, 4, 4)
    frames = encode.direct(images, 5)
    assert frames.shape == (5, 3, 1, 4, 4)
    assert frames.stride(0) == 0
    assert torch.equal(frames[4], images)


def test_rate_has_the_pixels_probability():
    """10000 draws: the mean lies within 5 standard errors of the pixel."""
    images = torch.tensor([0.0, 0.25, 0.8, 1.0]).view(1, 1, 2, 2)
    spikes = encode.rate(images, 10_000, torch.Generator().manual_seed(1))
    error = (images * (1 - images) / 10_000).sqrt()
    assert ((spikes.mean(0) - images).abs() <= 5 * error).all()
    assert set(spikes.unique().tolist()) == {0.0, 1.0}


def test_latency_by_hand():
    """5 steps: 1.0 fires at 0, 0.75 at 1, 0.5 at 2, 0.01 at round(3.96) = 4, black never."""
    images = torch.tensor([1.0, 0.75, 0.5, 0.01, 0.0]).view(1, 1, 1, 5)
    spikes = encode.latency(images, 5)[:, 0, 0, 0]
    expected = torch.zeros(5, 5)
    expected[0, 0] = expected[1, 1] = expected[2, 2] = expected[4, 3] = 1
    assert torch.equal(spikes, expected)


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=8), st.integers(1, 9))
def test_latency_is_one_spike_in_order_of_brightness(pixels, steps):
    spikes = encode.latency(torch.tensor(pixels).view(1, 1, 1, -1), steps)[:, 0, 0, 0]
    assert spikes.sum(0).tolist() == [float(pixel > 0) for pixel in pixels]
    times = [int(spikes[:, index].argmax()) for index in range(len(pixels))]
    lit = sorted((pixel, time) for pixel, time in zip(pixels, times, strict=True) if pixel > 0)
    assert all(early >= late for (_, early), (_, late) in pairwise(lit))
