"""Energy of a training step's inferences, differentiable, from the synaptic operations of the pass."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikefit.errors import ConfigurationError, TargetError
from spikefit.functional.synops import conv_synops
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.sourced_value import known
from spikefit.networks.blocks import Network
from spikefit.prune.resources import INPUT, connections, known_price, map_shapes, terms_left_out


@dataclass(frozen=True)
class Prices:
    """Energy of each operation, joule; None for a constant that the chip's description does not know.

    Attributes:
        synop: of a synaptic operation.
        update: of a neuron in a time step.
        encoder: of a multiplication of a real-valued input; 0 where the host multiplies.
        static: of the whole inference, static power.
        unknown: terms of the energy that are left out, each with the reason.
    """

    synop: float | None
    update: float | None
    encoder: float | None
    static: float
    unknown: dict[str, str]


def prices(context: DeploymentContext) -> Prices:
    """The prices of the run's chip."""
    chip = context.chip
    unknown = terms_left_out(chip, context.input_kind)
    found: dict[str, float | None] = {"synop_j": None, "update_j": None, "encoder_mac_j": 0.0}
    on_chip = context.input_kind.graded and chip.layers.graded_input.value == "chip"
    for constant, term in (("synop_j", "synops"), ("update_j", "updates"), ("encoder_mac_j", "encoder")):
        if constant == "encoder_mac_j" and not on_chip:
            continue
        try:
            found[constant] = known_price(chip, constant)
        except TargetError:
            found[constant] = None
            unknown[term] = f"energy.{constant} is unknown"
    seconds, watt = known(chip.energy.time_step_s), known(chip.energy.static_w)
    static = 0.0 if seconds is None or watt is None else context.time_steps * seconds * watt
    return Prices(found["synop_j"], found["update_j"], found["encoder_mac_j"], static, unknown)


def single_spike_synops(network: Network, graded: bool) -> float:
    """Synops if every input and neuron of the network fired once: its number of synapses, no weight being zero.

    Args:
        network: dead units count as living ones, so that the number does not change in training.
        graded: whether the inputs are real numbers, whose multiplications are no synops.
    """
    shapes, total = map_shapes(network), 0.0
    for connection in connections(network):
        shape, layer = shapes[connection.source], connection.layer
        pool, window = 1, 1
        if connection.source != INPUT:
            before = network.block(connection.source)
            pool, window = before.pool, before.pool**2 if before.pool_kind == "avg" else 1
        elif graded:
            continue
        sent = torch.ones(shape[0], *(side // pool for side in shape[1:]))
        if isinstance(layer, nn.Conv2d):
            total += window * conv_synops(sent, torch.ones(layer.weight.shape), layer).item()
        elif isinstance(layer, nn.Linear):
            total += window * layer.in_features * layer.out_features
        else:
            total += window * sent.numel()
    return max(1.0, total)


@dataclass(frozen=True)
class EnergyUse:
    """What an inference takes, averaged over a batch and extrapolated to all time steps: float64 scalars.

    Attributes:
        synops: synaptic operations.
        energy: joule; None without a chip, or if the price of a synop is unknown. Unknown terms are left out.
        relative: energy (or synops) relative to that of one spike of every neuron.
    """

    synops: Tensor
    energy: Tensor | None
    relative: Tensor


class EnergyMeter:
    """Energy of the inferences of one network on one chip; what does not change in a run is computed once.

    Args:
        network: the network.
        context: the chip, which may be None, and what the network reads.

    Attributes:
        price: prices of the chip; None without a chip, or if it does not know that of a synop.
        reference: synops if every neuron fired once.
    """

    def __init__(self, network: Network, context: DeploymentContext) -> None:
        self.network, self.context = network, context
        found = None if context.target is None else prices(context)
        self.price = found if found is not None and found.synop else None  # 0: contained in another constant
        self.reference = single_spike_synops(network, context.input_kind.graded)
        shapes = map_shapes(network)
        self._places = {name: math.prod(shapes[name][1:]) for name, _ in network.named_blocks()}

    def fixed(self) -> Tensor:
        """Energy that does not depend on spikes, as far as known: float64 scalar on the network's device.

        It is that of the updates of living neurons, every position of a map counted, and of static power.
        """
        assert self.price is not None
        counts = [
            next(self.network.parameters()).new_full((), block.units * self._places[name], dtype=torch.float64)
            if block.neuron is None
            else block.neuron.alive.sum(dtype=torch.float64) * self._places[name]
            for name, block in self.network.named_blocks()
        ]
        updates = self.context.time_steps * (self.price.update or 0.0)
        return torch.stack(counts).sum() * updates + self.price.static

    def use(self, counts: Tensor, samples: int, steps: int) -> EnergyUse:
        """Energy from the operations of one pass.

        Args:
            counts: operations of each layer, summed over the batch, as ``network(x, counter)`` returns them.
            samples: batch size.
            steps: time steps of the pass, which may be fewer than those of an inference.
        """
        graded, rates = self.context.input_kind.graded, self.context.time_steps / steps
        per_sample = counts / samples
        synops = per_sample[1 if graded else 0 :].sum() * rates
        if self.price is None or self.price.synop is None:
            return EnergyUse(synops, None, synops / self.reference)
        energy = synops * self.price.synop + self.fixed()
        if graded and self.price.encoder:
            once = self.context.input_kind == "constant"
            energy = energy + per_sample[0] * (self.price.encoder if once else self.price.encoder * rates)
        return EnergyUse(synops, energy, energy / (self.reference * self.price.synop))


def require_budget(owner: str, context: DeploymentContext) -> None:
    """Raise unless the energy of a budget can be computed.

    Raises:
        ConfigurationError: without a chip.
        TargetError: if the price of a synop or of an update is unknown.
    """
    if context.target is None:
        raise ConfigurationError(f"{owner}: got a budget in joule, but the run has no chip. Expected hardware: CHIP.")
    chip = context.target
    for constant in ("synop_j", "update_j"):
        try:
            price = known_price(chip, constant)
        except TargetError as error:
            raise TargetError(
                f"{owner}: target {chip.name}: energy.{constant} is unknown, so that the energy can't be computed. "
                "Use a target whose constants are known, or weight, which then counts synops."
            ) from error
        if constant == "synop_j" and price == 0:
            raise TargetError(
                f"{owner}: target {chip.name}: energy.synop_j is 0 or contained in another constant, so that fewer "
                "spikes save no energy. Use weight, which then counts synops."
            )
