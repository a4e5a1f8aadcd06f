"""Data sets that a device holds whole, so that batches are made where they are used."""

from collections.abc import Callable
from typing import Literal

import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor

from spikefit.data.batches import SampleTensors
from spikefit.data.source import LabelledDataset
from spikefit.errors import ConfigurationError, check_choice

Choice = Literal["auto"] | bool
CHUNK = 1024
"""Samples that are checked at once."""


class DeviceCache:
    """The samples of data sets on devices, each copied there once.

    Args:
        choice: ``auto``: on a CPU, where nothing is copied, and on a CUDA device of which a data set takes less than a
            quarter of the free memory; True: on every device; False: nowhere.
        name: of the data, for messages.

    Raises:
        ConfigurationError: for another choice.
    """

    def __init__(self, choice: Choice, name: str) -> None:
        check_choice("device_cache", choice, ("auto", True, False))
        self.choice, self.name = choice, name
        self._held: dict[tuple[int, torch.device], tuple[LabelledDataset, SampleTensors | None]] = {}

    def get(
        self, samples: LabelledDataset, device: torch.device, check: Callable[[Tensor], None] | None = None
    ) -> SampleTensors | None:
        """All of ``samples`` on ``device``; None where they are not to be there.

        Args:
            samples: of one part.
            device: where batches are wanted.
            check: looks at the samples as they are copied, ``[B, ...]`` at a time.

        Raises:
            ConfigurationError: where they must be there and can't.
        """
        if self.choice is False:
            return None
        key = (id(samples), device)
        if key not in self._held:
            self._held[key] = (samples, self._moved(samples, device, check))  # both: an id is of a living object
        return self._held[key][1]

    def _moved(
        self, samples: LabelledDataset, device: torch.device, check: Callable[[Tensor], None] | None
    ) -> SampleTensors | None:
        tensors = samples.tensors()
        if tensors is None:
            if self.choice is True:
                raise ConfigurationError(
                    f"device_cache: got True, but samples of {self.name} are made one by one; expected 'auto' or False "
                    "(images in memory and cached frames of events are held in one tensor)."
                )
            return None
        if device.type == "cpu":
            return tensors
        if not self._fits(tensors.rows.nbytes, device):
            return None
        moved = tensors.to(device)
        if check is not None:
            for rows in moved.rows.split(CHUNK):
                check(moved.decode(rows))
        return moved

    def _fits(self, size: int, device: torch.device) -> bool:
        room = room_on(device)
        if self.choice == "auto" and (room is None or size >= room / 4):
            free = "an unknown number" if room is None else f"{room:,}"
            rank_zero_info(f"device_cache: {self.name} stays on the host: {size:,} bytes, {free} free on {device}")
            return False
        if room is not None and size > room:
            raise ConfigurationError(
                f"device_cache: got True, but {self.name} takes {size:,} bytes and {device} has {room:,} free; "
                "expected 'auto' or False."
            )
        return True


def room_on(device: torch.device) -> int | None:
    """Bytes that are free on a CUDA device, with those that torch has reserved and does not use; None for others."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
