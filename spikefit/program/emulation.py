"""Train what will be deployed: the network computes with the integers that a chip will have.

:func:`~spikefit.program.fold.fold` alone decides on the integers, for training and for lowering alike. So the network
fires as the lowered program does, spike for spike, and its validated accuracy is the deployed one.

Norms keep the statistics that they have when the emulation begins; their gain and shift go on learning.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.networks.blocks import Network
from spikefit.networks.emulated import FoldedBlock
from spikefit.program.fold import fold


@dataclass
class Emulator:
    """Makes a network compute as a chip will: set it as ``network.emulation``.

    Attributes:
        context: the chip, and what the network reads.
    """

    context: DeploymentContext
    _kept: tuple[Any, dict[str, FoldedBlock]] | None = field(default=None, repr=False, compare=False)

    def forget(self) -> None:
        """Fold anew at the next call."""
        self._kept = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Emulator":
        """Another one for the same chip."""
        return Emulator(self.context)

    def state_dict(self) -> dict[str, Any]:
        """Plain content for a checkpoint."""
        chip = self.context.chip
        return {
            "name": chip.name,
            "target": chip.to_dict(),
            "time_steps": self.context.time_steps,
            "input_kind": self.context.input_kind.value,
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "Emulator":
        """The emulation that :meth:`state_dict` described.

        Raises:
            TargetError: for a chip that this version can't read.
        """
        target = HardwareTarget.from_dict(state["target"], name=state["name"], file="checkpoint")
        return cls(DeploymentContext(target, int(state["time_steps"]), InputKind(state["input_kind"])))

    def __call__(self, network: Network) -> dict[str, FoldedBlock]:
        """The integers of every block, differentiable; without gradients folded anew only after a change.

        A change is one of a parameter or a buffer that torch counts, or ``network.train()`` or ``eval()``: a write
        through ``.data`` or to a plain attribute (a threshold) is noticed at the next of these.
        """
        tensors = [] if torch.is_grad_enabled() else [*network.parameters(), *network.buffers()]
        if not tensors or any(tensor.is_inference() for tensor in tensors):  # whose changes nobody counts
            self._kept = None
            return fold(network, self.context)
        now = [(id(tensor), tensor.data_ptr(), tensor._version) for tensor in tensors]
        if self._kept is None or self._kept[0] != now:
            self._kept = now, fold(network, self.context)
        return self._kept[1]
