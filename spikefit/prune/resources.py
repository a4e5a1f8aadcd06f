"""Neurons, synapses and energy of a network as functions of its living units and synapses.

Each quantity is a sum over units and over synapses. It is counted once and then evaluated for many choices of units,
without lowering the network for each choice. The counts equal those of the lowered program (``exact`` precision):
synapses in bounds with a non-zero weight, and synops as spikes times actual fan-out.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikefit.errors import TargetError
from spikefit.functional.synops import conv_uses
from spikefit.hardware.sourced_value import SourcedValue, known
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.networks.blocks import IdentitySkip, Network
from spikefit.networks.sizes import block_shapes
from spikefit.prune.groups import UnitGroup
from spikefit.prune.scores.base import Batch
from spikefit.prune.scores.recording import recorded_spikes

INPUT = "input"
Masks = dict[str, Tensor]


@dataclass(frozen=True)
class Connection:
    """Synapses that connect two blocks.

    Attributes:
        name: name of the layer, such as ``conv2`` or ``conv2.skip``.
        layer: the layer with the weights; an :class:`IdentitySkip` has one synapse per neuron.
        source: name of the sending block, or ``input``.
        target: name of the receiving block.
    """

    name: str
    layer: nn.Conv2d | nn.Linear | IdentitySkip
    source: str
    target: str


@dataclass(frozen=True)
class Pairs:
    """Amounts that belong to pairs of units of two blocks, float64 ``[target units, source units]``.

    If the source is the input, which is never pruned, there is one column.
    """

    source: str
    target: str
    amount: Tensor


@dataclass(frozen=True)
class ResourceUse:
    """A size of the network, divided into amounts of units, amounts of pairs of units, and a fixed amount.

    Attributes:
        own: by block, the amount of each single unit.
        pairs: amounts that vanish as soon as either unit of the pair dies.
        fixed: amount that does not depend on the units.
        by_weight: ``{layer: amount}``, the amount of one live synapse (one entry of the weight, over all positions of a
            map); float64, the shape of the weight.

    Example:
        >>> from spikefit.networks import MLP
        >>> network = MLP((1, 8, 8), 10, hidden=[16])
        >>> synapses(network).total(alive_by_block(network))
        1184.0
    """

    own: dict[str, float]
    pairs: tuple[Pairs, ...]
    fixed: float
    by_weight: dict[str, Tensor]

    def total(self, alive: Masks) -> float:
        """The size with the living units ``alive`` (by block, bool ``[units]``; see :func:`alive_by_block`)."""
        size = self.fixed + sum(own * int(alive[name].sum()) for name, own in self.own.items())
        for pairs in self.pairs:
            size += float(alive[pairs.target].double() @ pairs.amount @ alive[pairs.source].double())
        return size

    def per_unit(self, groups: list[UnitGroup], alive: Masks) -> dict[str, Tensor]:
        """The decrease of the size when one living unit of a group dies, in all blocks of the group.

        Returns:
            ``{group: [units]}``, float64; 0 for dead units.
        """
        shares = {name: alive[name].double() * own for name, own in self.own.items()}
        group_of = {name: group.name for group in groups for name in group.blocks}
        shared: dict[str, Tensor] = {}
        for pairs in self.pairs:
            between = alive[pairs.target].double()[:, None] * pairs.amount * alive[pairs.source].double()
            shares[pairs.target] = shares[pairs.target] + between.sum(1)
            if pairs.source == INPUT:
                continue
            shares[pairs.source] = shares[pairs.source] + between.sum(0)
            tied = group_of.get(pairs.target)
            if tied is not None and tied == group_of.get(pairs.source):  # both ends are the same unit: count it once
                shared[tied] = shared.get(tied, 0) + between.diagonal()
        return {
            group.name: torch.stack([shares[name] for name in group.blocks]).sum(0) - shared.get(group.name, 0)
            for group in groups
        }


@dataclass(frozen=True)
class Traffic:
    """Spikes that each block sends to the next, summed over batches.

    Attributes:
        sent: by block, sums over samples and steps of the spikes after the block's pooling (window sums, or their OR),
            float32 ``[C, H, W]`` or ``[N]``; for a real-valued ``input`` the number of values that are not zero, where
            a constant image counts once.
        samples: number of samples in the sums.
        steps: steps of an inference.
        input_kind: what the network reads.
    """

    sent: dict[str, Tensor]
    samples: int
    steps: int
    input_kind: InputKind


@torch.no_grad()
def measure_traffic(network: Network, batches: Iterable[Batch], input_kind: InputKind) -> Traffic:
    """Run ``batches`` (inputs ``[T, B, ...]`` and labels) through ``network`` and sum the spikes that its blocks send.

    Raises:
        ValueError: if there is no batch.
    """
    sent: dict[str, Tensor] = {}
    samples, steps = 0, 0
    with recorded_spikes(network) as spikes:
        for inputs, _ in batches:
            network(inputs)
            frames = inputs[:1] if input_kind is InputKind.CONSTANT else inputs
            signals = {INPUT: frames != 0 if input_kind.graded else frames}
            for name, fired in spikes.items():
                block = network.block(name)
                window = block.pool**2 if block.pool_kind == "avg" else 1
                signals[name] = (block.pooled(fired) * window).round()
            for name, signal in signals.items():
                sent[name] = sent.get(name, 0) + signal.float().sum((0, 1))
            samples, steps = samples + inputs.shape[1], len(inputs)
    if not samples:
        raise ValueError("traffic: got no batch, expected at least one.")
    return Traffic(sent, samples, steps, input_kind)


def alive_by_block(network: Network) -> Masks:
    """Masks of the living units by block, bool ``[units]`` on the CPU; all True for the input and a plain readout."""
    alive = {INPUT: torch.ones(1, dtype=torch.bool)}
    for name, block in network.named_blocks():
        neuron = block.neuron
        alive[name] = torch.ones(block.units, dtype=torch.bool) if neuron is None else neuron.alive.detach().cpu()
    return alive


def with_groups(alive: Masks, groups: list[UnitGroup], masks: Masks) -> Masks:
    """``alive`` by block, updated with the masks of ``groups`` (``{group: bool [units]}``)."""
    return alive | {name: masks[group.name].cpu() for group in groups for name in group.blocks}


def neurons(network: Network) -> ResourceUse:
    """Number of living neurons, every position of a map counted; equals ``neurons`` of the lowered program."""
    return ResourceUse(_places(network), (), 0.0, {})


@torch.no_grad()
def synapses(network: Network) -> ResourceUse:
    """Number of live synapses, in bounds and not zero, as in a deployment report; needs evaluation mode."""
    arriving = {}
    for name, shape in map_shapes(network).items():
        pool = 1 if name == INPUT else network.block(name).pool
        pooled = shape if pool == 1 else (shape[0], *(side // pool for side in shape[1:]))
        arriving[name] = torch.full(pooled, float(pool**2), dtype=torch.float64)
    by_weight, pairs = _count(network, arriving)
    return ResourceUse(dict.fromkeys(_places(network), 0.0), pairs, 0.0, by_weight)


@torch.no_grad()
def energy(network: Network, target: HardwareTarget, found: Traffic) -> ResourceUse:
    """Energy of an inference, joule: synops, updates and static power, at the rates of ``found``.

    :func:`terms_left_out` names what it does not contain. Needs evaluation mode.

    Raises:
        TargetError: when a required constant is unknown.
    """
    synop, update = known_price(target, "synop_j"), known_price(target, "update_j")
    first = synop
    if found.input_kind.graded:
        on_chip = target.layers.graded_input.value == "chip"
        first = known_price(target, "encoder_mac_j") if on_chip else 0.0
    arriving = {
        name: sent.double().cpu() / found.samples * (first if name == INPUT else synop)
        for name, sent in found.sent.items()
    }
    by_weight, pairs = _count(network, arriving)
    own = {name: update * found.steps * places for name, places in _places(network).items()}
    seconds, watt = known(target.energy.time_step_s), known(target.energy.static_w)
    fixed = 0.0 if seconds is None or watt is None else found.steps * seconds * watt
    return ResourceUse(own, pairs, fixed, by_weight)


def terms_left_out(target: HardwareTarget, input_kind: InputKind) -> dict[str, str]:
    """Terms of a deployment's energy that :func:`energy` leaves out although they need not be 0, each with the reason.

    Args:
        target: the chip.
        input_kind: what the network reads.

    Example:
        >>> list(terms_left_out(HardwareTarget.load("loihi"), InputKind.SPIKES))
        ['hops', 'static']
    """
    constants, found = target.energy, dict[str, str]()
    if input_kind.graded and target.layers.graded_input.value == "host":
        found |= _left_out("encoder", constants.encoder_mac_j, "encoder_mac_j", "the host multiplies the inputs")
    if target.limits.axons_out_per_neuron is not None:
        found["relays"] = "they depend on the whole placement"
    found |= _left_out("hops", constants.hop_j, "hop_j", "they depend on the whole placement")
    for name in ("static_w", "time_step_s"):
        figure: SourcedValue[float] | None = getattr(constants, name)
        if known(constants.static_w) != 0 and constants.static_w is not None and known(figure) is None:
            found.setdefault("static", f"energy.{name} is unknown")
    return found


def _left_out(term: str, figure: SourcedValue[float] | None, constant: str, otherwise: str) -> dict[str, str]:
    """``term`` with the reason why it is left out, unless it is 0 or contained in another one."""
    if figure is None or figure.value == 0:
        return {}
    return {term: f"energy.{constant} is unknown" if figure.value is None else otherwise}


def known_price(target: HardwareTarget, constant: str) -> float:
    """An energy constant, joule; 0 for a constant that is contained in another one.

    Raises:
        TargetError: for an unknown constant.
    """
    figure: SourcedValue[float] | None = getattr(target.energy, constant)
    if figure is None:
        return 0.0
    if figure.value is None:
        raise TargetError(
            f"target {target.name}: energy.{constant} is unknown, so that the energy can't be computed; use a target "
            "whose constants are known, or count synapses."
        )
    return figure.value


def require_prices(target: HardwareTarget) -> None:
    """Check that the chip's energy constants of synapses and neurons are known.

    Raises:
        TargetError: when a required constant is unknown.
    """
    for constant in ("synop_j", "update_j"):
        known_price(target, constant)


def connections(network: Network) -> Iterator[Connection]:
    """All connections between blocks, shortcuts included, in network order."""
    previous = INPUT
    for name, block in network.named_blocks():
        yield Connection(name, block.synapses, previous, name)
        if block.skip is not None:
            yield Connection(f"{name}.skip", block.skip, str(block.skip_from), name)
        previous = name


def map_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Shape of the ``input`` and of each block's neurons before pooling, ``(C, H, W)`` or ``(N,)``."""
    shapes = {INPUT: network.input_shape}
    for name, (shape, _) in block_shapes(network).items():
        assert shape is not None, "every layer is a convolution or linear"
        shapes[name] = shape
    return shapes


def _places(network: Network) -> dict[str, float]:
    """Number of neurons in one unit of each block: the positions of its map."""
    return {name: float(math.prod(shape[1:])) for name, shape in map_shapes(network).items() if name != INPUT}


def _count(network: Network, arriving: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[Pairs, ...]]:
    """Amounts of each weight and of each pair of units when ``arriving`` (by source, its pooled map) is sent."""
    by_weight, pairs = {}, []
    for connection in connections(network):
        layer, sent = connection.layer, arriving[connection.source]
        live = (layer.weight != 0).cpu()
        if isinstance(layer, IdentitySkip):
            amount = torch.diag(sent.flatten(1).sum(1) * live)
        else:
            by_weight[connection.name] = live * _uses(layer, sent)
            amount = _by_unit(layer, by_weight[connection.name], len(sent))
        if connection.source == INPUT:
            amount = amount.sum(1, keepdim=True)
        pairs.append(Pairs(connection.source, connection.target, amount))
    return by_weight, tuple(pairs)


def _uses(layer: nn.Conv2d | nn.Linear, sent: Tensor) -> Tensor:
    """The sum of ``sent`` (``[C, H, W]`` or ``[N]``) over the uses of each weight; broadcastable to the weight."""
    if isinstance(layer, nn.Linear):
        return sent.reshape(1, -1)
    taps = conv_uses(sent, layer)
    return taps.unflatten(0, (layer.groups, -1)).repeat_interleave(layer.out_channels // layer.groups, dim=0)


def _by_unit(layer: nn.Conv2d | nn.Linear, amount: Tensor, units: int) -> Tensor:
    """``amount`` of each weight, summed by pair of units: ``[out, units of the source]``."""
    if isinstance(layer, nn.Linear):
        return amount.unflatten(1, (units, -1)).sum(2)
    return torch.block_diag(*amount.sum((2, 3)).chunk(layer.groups))
