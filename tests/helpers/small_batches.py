"""Two small batches of random spikes for tests of scores; the last one is smaller."""

import torch

STEPS, SAMPLES, CLASSES = 3, 6, 3


def inputs():
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(STEPS, SAMPLES, 1, 8, 8, generator=generator) < 0.5).float()


def batches():
    x, y = inputs(), torch.arange(SAMPLES) % CLASSES
    return [(x[:, :4], y[:4]), (x[:, 4:], y[4:])]
