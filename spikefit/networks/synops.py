"""Counts the synaptic operations of a network's forward pass, differentiable."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spikefit.functional.quantize import round_ste, scale_gradient
from spikefit.functional.synops import conv_synops, dense_synops, live_synapses, summed
from spikefit.input_kind import InputKind
from spikefit.networks.emulated import FoldedBlock, FoldedSynapses

if TYPE_CHECKING:
    from spikefit.networks.blocks import Block


@dataclass(frozen=True)
class SynopCounter:
    """Counts the synaptic operations that each layer received in one pass, as the simulator of a program counts them.

    Spikes times live synapses: in bounds, between living units, and not zero after quantisation and masks. Spikes carry
    their surrogate gradient. The operations of the first layer on real-valued inputs are multiplications; a constant
    image is counted once.

    Attributes:
        input_kind: what the network reads.
        priced: names of the layers whose weights also receive a gradient
            (:func:`~spikefit.functional.synops.live_synapses`).
        synapse_price: factor of that gradient.
    """

    input_kind: InputKind
    priced: frozenset[str] = frozenset()
    synapse_price: float = 1.0

    def arriving(
        self,
        x: Tensor,
        before: "Block | None",
        skip: Tensor | None,
        skip_from: "Block | None",
        chip: FoldedBlock | None,
    ) -> list[Tensor]:
        """Spikes that arrive at a block's layer and its shortcut, by position, summed over samples and steps: float32.

        To be called before the block. Then the gradient of the layer comes first in the backward pass, and that of the
        sum is added to it in place.

        Args:
            x: the block's input ``[T, B, ...]``.
            before: the block that sent ``x``; None for the network's input.
            skip: its residual input.
            skip_from: the block that sent ``skip``.
            chip: the block's numbers on a chip, if the network computes with them.
        """
        sent = [self._inputs(x, chip) if before is None else _spikes(x, before, chip is not None)]
        if skip is not None and skip_from is not None:
            sent.append(_spikes(skip, skip_from, chip is not None))
        return sent

    def received(self, name: str, block: "Block", sent: list[Tensor], chip: FoldedBlock | None) -> list[Tensor]:
        """Operations of a block's layer, then of its shortcut, summed over the batch: float64 scalars.

        Args:
            name: name of the block.
            block: the block.
            sent: the result of :meth:`arriving`.
            chip: the block's numbers on a chip, if the network computes with them.
        """
        found = [self._synops(name, block, block.synapses, sent[0], None if chip is None else chip.synapses)]
        if block.skip is not None:
            folded = None if chip is None else chip.skip
            found.append(self._synops(f"{name}.skip", block, block.skip, sent[1], folded))
        return found

    def _inputs(self, x: Tensor, chip: FoldedBlock | None) -> Tensor:
        """Spikes (or real numbers that are not zero) of each input, summed over samples and steps."""
        if chip is not None and chip.synapses.arrives is not None:
            x = chip.synapses.arrives.units(x)
        if self.input_kind.graded:
            x = (x[:1] if self.input_kind is InputKind.CONSTANT else x) != 0
        return summed(x)

    def _synops(
        self, name: str, block: "Block", layer: nn.Module, sent: Tensor, folded: FoldedSynapses | None
    ) -> Tensor:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        weight = scale_gradient(weight, self.synapse_price) if name in self.priced else weight.detach()
        live = live_synapses(weight)
        if folded is not None:  # a weight that the chip rounds to zero is no synapse
            live = live * (folded.weight.detach() != 0)
        if block.neuron is not None:
            live = live * block.neuron.alive.view(-1, *[1] * max(0, weight.dim() - 1))
        if isinstance(layer, nn.Conv2d):
            return conv_synops(sent, live, layer)
        if isinstance(layer, nn.Linear):
            return dense_synops(sent, live)
        return (sent.double().flatten(1).sum(1) * live.double()).sum()  # one synapse per neuron


def _spikes(x: Tensor, sender: "Block", in_integers: bool) -> Tensor:
    """Spikes of each position after the pooling of ``sender``, summed over samples and steps: float32."""
    window = 1 if in_integers or sender.pool_kind == "max" else sender.pool**2
    if window & (window - 1) == 0:  # an exact factor
        return summed(x) * window
    if x.dtype in (torch.float32, torch.float64):
        return round_ste(summed(x) * window)
    return summed(round_ste(x.float() * window))
