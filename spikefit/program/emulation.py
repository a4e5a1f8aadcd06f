"""Emulation: the network computes with the integers of a chip during training, so that what is trained is deployed.

:func:`~spikefit.program.fold.fold` alone determines the integers, both for training and for lowering. The network
therefore fires as the lowered program does, spike for spike, and its validated accuracy is the deployed one.

Norms keep the statistics that they have when the emulation begins. Their gain and shift are still trained.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from spikefit.functional.neuron_models import require_emulated, require_exact
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.networks.blocks import Network
from spikefit.networks.emulated import FoldedBlock
from spikefit.program.fold import fold


def require_emulated_neurons(network: Network) -> None:
    """Raise unless all neurons of ``network`` can be trained in a chip's integers.

    Raises:
        ConfigurationError: names the neuron and what it lacks.
    """
    for _, block in network.named_blocks():
        if block.neuron is not None:
            require_emulated(require_exact(block.neuron.entry, block.neuron.own_dynamics))


@dataclass
class Emulator:
    """Makes a network compute with the integers of a chip; assign an instance to ``network.emulation``.

    Attributes:
        context: the chip, and what the network reads.

    Example:
        >>> import torch
        >>> from spikefit.hardware.deployment_context import DeploymentContext
        >>> from spikefit.hardware.target import HardwareTarget
        >>> from spikefit.input_kind import InputKind
        >>> from spikefit.networks import MLP
        >>> network = MLP((1, 8, 8), 10, hidden=[16])
        >>> context = DeploymentContext(HardwareTarget.load("loihi"), 4, InputKind.SPIKES)
        >>> network.emulation = Emulator(context)
        >>> network(torch.ones(4, 2, 1, 8, 8)).shape
        torch.Size([4, 2, 10])
    """

    context: DeploymentContext
    _kept: tuple[Any, dict[str, FoldedBlock]] | None = field(default=None, repr=False, compare=False)

    def forget(self) -> None:
        """Discard the kept integers; the next call folds the network again."""
        self._kept = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Emulator":
        """A new emulator for the same chip."""
        return Emulator(self.context)

    def state_dict(self) -> dict[str, Any]:
        """The chip and the inputs as plain values for a checkpoint."""
        chip = self.context.chip
        return {
            "name": chip.name,
            "target": chip.to_dict(),
            "time_steps": self.context.time_steps,
            "input_kind": self.context.input_kind.value,
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "Emulator":
        """The emulator whose :meth:`state_dict` is ``state``.

        Raises:
            TargetError: for a chip that this version can't read.
        """
        target = HardwareTarget.from_dict(state["target"], name=state["name"], file="checkpoint")
        return cls(DeploymentContext(target, int(state["time_steps"]), InputKind(state["input_kind"])))

    def __call__(self, network: Network) -> dict[str, FoldedBlock]:
        """The integers of every block, differentiable; with gradients disabled they are reused until a change.

        A change is an in-place write to a parameter or buffer that torch counts, or a call of ``network.train()`` or
        ``network.eval()``. A write through ``.data`` or to a plain attribute (a threshold) is noticed at the next such
        change.
        """
        tensors = [] if torch.is_grad_enabled() else [*network.parameters(), *network.buffers()]
        if not tensors or any(tensor.is_inference() for tensor in tensors):  # inference tensors have no version counter
            self._kept = None
            return fold(network, self.context)
        now = [(id(tensor), tensor.data_ptr(), tensor._version) for tensor in tensors]
        if self._kept is None or self._kept[0] != now:
            self._kept = now, fold(network, self.context)
        return self._kept[1]
