"""The kind of numbers that a network reads in a time step, declared once by the data."""

from enum import StrEnum

import torch
from torch import Tensor

from spikefit.errors import DataError

COUNT_MAX = 32767
"""The largest count of events that a frame holds."""


class InputKind(StrEnum):
    """Kind of the network's inputs, declared by the encoding of images or the framing of events.

    Attributes:
        SPIKES: 0 or 1 in every step.
        COUNTS: number of spikes in a step, an integer from 0 to :data:`COUNT_MAX`.
        GRADED: real numbers that may differ from step to step; the first layer multiplies them.
        CONSTANT: real numbers, the same in every step (directly coded images); the first layer multiplies them once.
    """

    SPIKES = "spikes"
    COUNTS = "counts"
    GRADED = "graded"
    CONSTANT = "constant"

    @property
    def graded(self) -> bool:
        """Whether the first layer multiplies real numbers, instead of adding up the weights of spikes."""
        return self in (InputKind.GRADED, InputKind.CONSTANT)

    def check(self, inputs: Tensor, where: str) -> None:
        """Raise if a batch contradicts the declared kind.

        Args:
            inputs: a batch of any shape; for ``CONSTANT`` time first, ``[T, B, ...]``.
            where: the object that declared the kind, for the error message.

        Raises:
            DataError: if it does; the message names the declared kind and the content of the batch.
        """
        found = self._contradiction(inputs)
        if found is not None:
            raise DataError(f"{where} declares inputs of the kind {self.value!r}, but a batch holds {found}.")

    def _contradiction(self, inputs: Tensor) -> str | None:
        if self is InputKind.GRADED:
            return None
        if self is InputKind.CONSTANT:
            same = inputs.stride(0) == 0 or len(inputs) == 1 or bool((inputs == inputs[:1]).all())
            return None if same else "frames that differ from step to step ('graded')"
        low, high = (float(bound) for bound in torch.aminmax(inputs)) if inputs.numel() else (0.0, 0.0)
        whole = not inputs.is_floating_point() or bool((inputs == inputs.floor()).all())
        if not whole or low < 0:
            return f"{'negative' if whole else 'fractional'} numbers ('graded')"
        if self is InputKind.SPIKES and high > 1:
            return f"counts up to {high:g} ('counts')"
        return f"a count of {high:g}, more than {COUNT_MAX}" if high > COUNT_MAX else None
