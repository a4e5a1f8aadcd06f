"""Batch transforms against transforms of single images with the same parameters."""

import pytest
import torch
from torchvision.transforms.v2 import functional

from spikefit.data.augment import Cutout, RandomCrop, RandomHorizontalFlip
from spikefit.errors import ConfigurationError

CPU = torch.device("cpu")
HEIGHT, WIDTH = 9, 12
EVERY = (RandomCrop(2), RandomCrop(2, "reflect"), RandomHorizontalFlip(), Cutout(4))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def samples(dtype, frames=False, batch=64):
    shape = (batch, 5, 2, HEIGHT, WIDTH) if frames else (batch, 3, HEIGHT, WIDTH)
    return torch.randint(1, 256, shape, generator=seeded(9)).to(dtype)


cases = pytest.mark.parametrize(
    ("dtype", "frames"), [(torch.uint8, False), (torch.float32, False), (torch.uint8, True), (torch.int16, True)]
)


@cases
@pytest.mark.parametrize("mode", ["zero", "reflect"])
def test_crop_is_that_of_torchvision(dtype, frames, mode):
    batch, transform = samples(dtype, frames), RandomCrop(3, mode)
    top, left = transform.draw(len(batch), CPU, seeded())
    cropped = transform(batch, seeded())
    for sample, result, row, column in zip(batch, cropped, top.tolist(), left.tolist(), strict=True):
        padded = functional.pad(sample.float(), [3], padding_mode="reflect" if mode == "reflect" else "constant")
        assert torch.equal(result, functional.crop(padded, row, column, HEIGHT, WIDTH).to(dtype))


@cases
def test_flip_is_that_of_torchvision(dtype, frames):
    batch, transform = samples(dtype, frames), RandomHorizontalFlip()
    chosen = transform.draw(len(batch), CPU, seeded())
    for sample, result, mirrored in zip(batch, transform(batch, seeded()), chosen.tolist(), strict=True):
        assert torch.equal(result, functional.horizontal_flip(sample) if mirrored else sample)
    assert 0 < chosen.sum() < len(chosen)


@cases
@pytest.mark.parametrize("side", [1, 4, 5])
def test_cutout_is_a_square_of_zeros(dtype, frames, side):
    batch, transform = samples(dtype, frames), Cutout(side)
    corners = [corner.tolist() for corner in transform.draw(len(batch), (HEIGHT, WIDTH), CPU, seeded())]
    for sample, result, top, left in zip(batch, transform(batch, seeded()), *corners, strict=True):
        expected = sample.clone()
        expected[..., max(top, 0) : top + side, max(left, 0) : left + side] = 0
        assert torch.equal(result, expected)
        assert (result == 0).any()  # the centre lies in the sample


@pytest.mark.parametrize("transform", EVERY, ids=repr)
def test_samples_are_not_written_to_and_keep_shape_and_type(transform):
    for batch in (samples(torch.uint8), samples(torch.float32, frames=True)):
        before = batch.clone()
        result = transform(batch, seeded())
        assert torch.equal(batch, before)
        assert (result.shape, result.dtype) == (batch.shape, batch.dtype)
        assert not torch.equal(result, batch)


@pytest.mark.parametrize("transform", EVERY, ids=repr)
def test_the_generator_decides_alone(transform):
    batch = samples(torch.uint8)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = transform(batch, seeded(5))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, transform(batch, seeded(5)))
    assert not torch.equal(first, transform(batch, seeded(6)))
    torch.manual_seed(5)
    assert torch.equal(first, transform(batch))  # without one, torch's global generator


def chi_square(counts):
    """Of counts that should be equal, less its mean, in standard deviations."""
    expected, freedom = counts.sum() / len(counts), len(counts) - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / (2 * freedom) ** 0.5


def test_parameters_are_uniform_and_independent():
    number = 100_000
    top, left = RandomCrop(4).draw(number, CPU, seeded())
    pairs = torch.bincount(top * 9 + left, minlength=81)
    assert len(pairs) == 81
    assert chi_square(pairs) < 4
    rows, columns = (corner + 2 for corner in Cutout(4).draw(number, (HEIGHT, WIDTH), CPU, seeded()))
    centres = torch.bincount(rows * WIDTH + columns, minlength=HEIGHT * WIDTH)
    assert len(centres) == HEIGHT * WIDTH
    assert chi_square(centres) < 4
    for p in (0.0, 0.3, 1.0):
        share = RandomHorizontalFlip(p).draw(number, CPU, seeded()).float().mean().item()
        assert share == pytest.approx(p, abs=4 * (p * (1 - p) / number) ** 0.5)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RandomCrop(0), "padding: got 0, expected at least 1"),
        (lambda: RandomCrop(2, "edge"), "mode: got 'edge', expected one of 'zero', 'reflect'"),
        (lambda: RandomHorizontalFlip(1.5), "p: got 1.5, expected a value from 0 to 1"),
        (lambda: Cutout(0), "side: got 0, expected at least 1"),
        (lambda: RandomCrop(9, "reflect")(samples(torch.uint8)), "padding with mode 'reflect' of 9 x 12: got 9, "),
        (lambda: RandomCrop(1)(torch.zeros(4, 5, 700)), r"RandomCrop got samples of shape \(5, 700\), expected images"),
        (lambda: RandomHorizontalFlip()(torch.zeros(4, 5, 700)), "RandomHorizontalFlip got samples of shape"),
        (lambda: Cutout(2)(torch.zeros(4, 5, 700)), "Cutout got samples of shape"),
    ],
)
def test_a_bad_value_is_named(make, said):
    with pytest.raises(ConfigurationError, match=said):
        make()
