"""Cache of whole data sets in device memory, from which batches are made on the device."""

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
"""Samples that are checked at a time."""


class DeviceCache:
    """Samples of data sets in device memory, each copied once.

    Args:
        choice: ``auto``: on a CPU, where nothing is copied, and on a CUDA device if a data set takes less than a
            quarter of its free memory; True: on every device; False: never.
        name: name of the data set, for messages.

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
        """Return all of ``samples`` on ``device``; None if they are not to be cached there.

        Args:
            samples: one set of a data set.
            device: device where batches are needed.
            check: called with samples ``[B, ...]`` as they are copied; raises if they are not valid.

        Raises:
            ConfigurationError: if they must be cached (``choice`` is True) but can't be.
        """
        if self.choice is False:
            return None
        key = (id(samples), device)
        if key not in self._held:
            self._held[key] = (
                samples,
                self._moved(samples, device, check),
            )  # keeps `samples` alive: its id stays valid
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
        free = room_on(device)
        if self.choice == "auto" and (free is None or size >= free / 4):
            shown = "an unknown number" if free is None else f"{free:,}"
            rank_zero_info(f"device_cache: {self.name} stays on the host: {size:,} bytes, {shown} free on {device}")
            return False
        if free is not None and size > free:
            raise ConfigurationError(
                f"device_cache: got True, but {self.name} takes {size:,} bytes and {device} has {free:,} free; "
                "expected 'auto' or False."
            )
        return True


def room_on(device: torch.device) -> int | None:
    """Free bytes of a CUDA device, including memory that torch has reserved but does not use; None for others."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
