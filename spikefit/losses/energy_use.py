"""Energy of a training step's inferences, differentiable, from the synaptic operations of the pass."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikefit.errors import ConfigurationError, TargetError
from spikefit.functional.synops import conv_synapses
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
    shapes, total = map_shapes(network), 0
    for connection in connections(network):
        shape, layer = shapes[connection.source], connection.layer
        if connection.source == INPUT:
            if graded:
                continue
            pool, window = 1, 1
        else:
            before = network.block(connection.source)
            pool, window = before.pool, before.pool**2 if before.pool_kind == "avg" else 1
        sides = tuple(side // pool for side in shape[1:])
        if isinstance(layer, nn.Conv2d):
            total += window * conv_synapses(sides, layer)
        elif isinstance(layer, nn.Linear):
            total += window * layer.in_features * layer.out_features
        else:
            total += window * shape[0] * math.prod(sides)
    return float(max(1, total))


def living_neurons(network: Network) -> Tensor:
    """Number of living neurons, every position of a map counted: float64 scalar on the network's device."""
    shapes, counts = map_shapes(network), []
    for name, block in network.named_blocks():
        places = math.prod(shapes[name][1:])
        if block.neuron is None:
            counts.append(next(network.parameters()).new_full((), places * block.units, dtype=torch.float64))
        else:
            counts.append(block.neuron.alive.sum(dtype=torch.float64) * places)
    return torch.stack(counts).sum()


def fixed_energy(network: Network, context: DeploymentContext) -> Tensor:
    """Energy of an inference that does not depend on spikes: neuron updates and static power, as far as known."""
    price = prices(context)
    return living_neurons(network) * (context.time_steps * (price.update or 0.0)) + price.static


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


def energy_use(network: Network, context: DeploymentContext, counts: Tensor, samples: int, steps: int) -> EnergyUse:
    """Energy from the operations of one pass.

    Args:
        network: the network.
        context: the chip, which may be None, and what the network reads.
        counts: operations of each layer, summed over the batch, as ``network(x, counter)`` returns them.
        samples: batch size.
        steps: time steps of the pass, which may be fewer than those of an inference.
    """
    per_sample = counts / samples
    graded = context.input_kind.graded
    rates = context.time_steps / steps
    synops = per_sample[1:].sum() * rates if graded else per_sample.sum() * rates
    reference = single_spike_synops(network, graded)
    if context.target is None:
        return EnergyUse(synops, None, synops / reference)
    price = prices(context)
    if not price.synop:  # unknown, or contained in another constant
        return EnergyUse(synops, None, synops / reference)
    energy = synops * price.synop + fixed_energy(network, context)
    if graded and price.encoder:
        once = context.input_kind == "constant"
        energy = energy + per_sample[0] * (price.encoder if once else price.encoder * rates)
    return EnergyUse(synops, energy, energy / (reference * price.synop))


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
