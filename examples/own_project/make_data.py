"""Write tiny data: images of squares and crosses (shapes.npz), recordings of bars that move (recordings/*/*/*.csv)."""

from pathlib import Path

import numpy as np

rng = np.random.default_rng(0)


def shape(label: int) -> np.ndarray:
    """A square (0) or a cross (1) of 5 x 5 pixels somewhere on 12 x 12 pixels of noise, uint8."""
    image, (y, x) = rng.integers(0, 60, (12, 12)), rng.integers(0, 8, 2)
    inside = np.arange(5) % 4 == 0 if label == 0 else np.arange(5) == 2
    image[y : y + 5, x : x + 5] += 190 * (inside[:, None] | inside[None, :])
    return image.astype(np.uint8)


def bar(label: int) -> np.ndarray:
    """Events (t, x, y, p) of a bar that moves down (0) or to the right (1) over 8 x 8 pixels in 16 ms."""
    step, along = np.divmod(np.arange(64), 8)
    x, y = (along, step) if label == 0 else (step, along)
    return np.stack([2000 * step + rng.integers(0, 2000, 64), x, y, rng.integers(0, 2, 64)], axis=1)[np.argsort(step)]


labels = {part: np.arange(count) % 2 for part, count in (("train", 80), ("test", 20))}
images = {part: np.stack([shape(label) for label in numbers]) for part, numbers in labels.items()}
np.savez("shapes.npz", **images, **{f"{part}_labels": numbers for part, numbers in labels.items()})
for part, numbers in labels.items():
    for number, label in enumerate(numbers):
        file = Path("recordings", part, ("down", "right")[label], f"{number:02}.csv")
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(file, bar(label), "%d", ",", header="t,x,y,p", comments="")
