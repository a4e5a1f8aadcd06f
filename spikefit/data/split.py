"""Stratified splits of samples: training and test set, held-out validation samples."""

import math
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from spikefit.data.source import Part
from spikefit.errors import ConfigurationError, check_range


class Chosen(NamedTuple):
    """A selection of samples of a data set, in an order that does not depend on the file system."""

    indices: list[int]
    """Indices of the samples in the data set."""
    labels: list[int]
    """Labels of the samples, from 0."""
    groups: list[int] | None = None
    """Samples of equal numbers belong together; None for independent samples."""

    def only(self, places: Iterable[int]) -> "Chosen":
        """The samples at the given positions of this selection."""
        places = list(places)
        groups = None if self.groups is None else [self.groups[place] for place in places]
        return Chosen([self.indices[place] for place in places], [self.labels[place] for place in places], groups)


class HeldOut:
    """Split of a data set without an official test set: stratified and seeded.

    Args:
        split_seed: seed of the split.
        test_fraction: share of every class that is held out, in (0, 1).

    Raises:
        ConfigurationError: for a negative seed, or a fraction outside (0, 1).
    """

    def __init__(self, split_seed: int = 0, test_fraction: float = 0.1) -> None:
        check_range("split_seed", split_seed, 0)
        if not 0 < test_fraction < 1:
            raise ConfigurationError(f"test_fraction: got {test_fraction!r}, expected a value in (0, 1).")
        self.split_seed, self.test_fraction = split_seed, test_fraction

    def part(self, chosen: Chosen, part: Part) -> Chosen:
        """The training or test set of ``chosen``; samples of one group stay together.

        Raises:
            ConfigurationError: if one of the sets would lack a class.
        """
        try:
            train, test = stratified_split(chosen.labels, self.test_fraction, self.split_seed, chosen.groups)
        except ValueError as error:
            raise ConfigurationError(
                f"test_fraction: {self.test_fraction} of {len(chosen.labels)} samples can't hold every class ({error})."
            ) from error
        return chosen.only((train if part == "train" else test).tolist())


def stratified_split(labels: Any, fraction: float, seed: int, groups: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Split samples into kept and held-out ones, with equal shares of every class.

    Args:
        labels: labels of the samples, ``[N]``.
        fraction: share to hold out, in (0, 1), or a number of samples. With groups it is a share, met as closely as
            whole groups allow.
        seed: seed of the split.
        groups: ``[N]``; samples of one group are kept or held out together. None for independent samples.

    Returns:
        Indices of the kept and of the held-out samples.

    Raises:
        ValueError: if one side can't contain every class.
    """
    from sklearn.model_selection import train_test_split

    indices, labels = np.arange(len(labels)), np.asarray(labels)
    if groups is None:
        kept, held_out = train_test_split(indices, test_size=fraction, random_state=seed, stratify=labels)
        return np.sort(kept), np.sort(held_out)
    held_out = np.zeros(len(indices), bool)
    held_out[_grouped(labels, np.asarray(groups), fraction, seed)] = True
    for side, chosen in (("kept", ~held_out), ("held out", held_out)):
        if len(np.unique(labels[chosen])) < len(np.unique(labels)):
            raise ValueError(f"no split by group has every class among the samples {side}")
    return indices[~held_out], indices[held_out]


def _grouped(labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Indices to hold out: whole stratified group folds, as many as come closest to ``fraction``."""
    from sklearn.model_selection import StratifiedGroupKFold

    wanted = math.ceil(1 / min(fraction, 1 - fraction))
    count = min(max(20, wanted), len(np.unique(groups)), int(np.unique(labels, return_counts=True)[1].max()))
    if count < 2:
        raise ValueError("there is one group only")
    with warnings.catch_warnings():  # classes with fewer samples than folds are fine, as long as both sides have them
        warnings.simplefilter("ignore", UserWarning)
        split = StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(labels, labels, groups)
        folds = sorted((held_out for _, held_out in split), key=len)  # small folds first, for a fine choice of the sum
    sizes = np.cumsum([len(fold) for fold in folds[:-1]])
    nearest = int(np.abs(sizes - fraction * len(labels)).argmin())
    return np.concatenate(folds[: nearest + 1])
