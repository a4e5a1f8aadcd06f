"""Train what will be deployed: the network computes with the integers that a chip will have.

:func:`~spikefit.deploy.lower.lower` alone decides on the integers. :class:`ChipEmulation` lowers the network as it is
at this moment and hands every block its integers, each with the gradient of the real value that it was rounded from. So
the network fires as the lowered program does, spike for spike, and its validated accuracy is the deployed one.

Norms keep the statistics that they have when the emulation begins; their gain and shift go on learning.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikefit.deploy.bounds import exact_format
from spikefit.deploy.lower import lower
from spikefit.functional.quantize import straight_through
from spikefit.hardware.program import Population, Program, Projection
from spikefit.hardware.target import HardwareTarget
from spikefit.networks.blocks import Block, IdentitySkip, Network
from spikefit.networks.chip import ChipBlock, ChipSynapses
from spikefit.neurons import CubaLIF
from spikefit.prune.groups import input_alive, source_alive


@dataclass(frozen=True)
class ChipEmulation:
    """Makes a network compute as ``target`` will: set it as ``network.emulation``.

    Attributes:
        target: the chip.
        graded_input: whether inputs are real numbers (direct coding) instead of spikes.
    """

    target: HardwareTarget
    graded_input: bool

    def __deepcopy__(self, memo: dict[int, Any]) -> "ChipEmulation":
        """Itself: lowering copies the network that it belongs to, in every step, and nothing here changes."""
        return self

    def state_dict(self) -> dict[str, Any]:
        """Plain content for a checkpoint."""
        return {"name": self.target.name, "target": self.target.to_dict(), "graded_input": self.graded_input}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "ChipEmulation":
        """The emulation that :meth:`state_dict` described.

        Raises:
            TargetError: for a chip that this version can't read.
        """
        target = HardwareTarget.from_dict(state["target"], name=state["name"], file="checkpoint")
        return cls(target, bool(state["graded_input"]))

    def __call__(self, network: Network, time_steps: int) -> dict[str, ChipBlock]:
        """The integers of every block, differentiable."""
        on_cpu = network if _device(network).type == "cpu" else copy.deepcopy(network).cpu()
        with torch.no_grad():
            program = lower(on_cpu, time_steps, graded_input=self.graded_input, precision="target", target=self.target)
        blocks: dict[str, ChipBlock] = {}
        previous: str | None = None
        for name, _ in network.named_blocks():
            blocks[name] = _chip_block(network, program, name, previous)
            previous = name
        return blocks


def _chip_block(network: Network, program: Program, name: str, previous: str | None) -> ChipBlock:
    block, population = network.block(name), program.population(name)
    assert population.unit is not None
    assert population.bias is not None
    device = block.synapses.weight.device
    alive = None if block.neuron is None else block.neuron.alive
    unit = _scattered(population.unit, alive, device, 1.0)
    gain, bias = _folded(block, device)
    projections = {projection.name: projection for projection in program.inputs_of(name)}
    skip = None
    if block.skip is not None:
        source = network.block(str(block.skip_from))
        sending = source_alive(network, str(block.skip_from), block.skip)
        skip = _synapses(program, projections[f"{name}.skip"], block.skip, source, unit, alive, sending)
    before = None if previous is None else network.block(previous)
    return ChipBlock(
        synapses=_synapses(program, projections[name], block.synapses, before, unit, alive, input_alive(network, name)),
        skip=skip,
        bias=_rounded(bias / unit, population.bias, alive),
        unit=unit,
        threshold=_threshold(block, population, gain, unit),
        leak=_leak(block, population, gain, unit, program),
        synaptic_decay=_synaptic_decay(block),
        synaptic_leak=_registers(population.synaptic_leak, alive, device),
        max_spikes=population.max_spikes,
        model=population.model,
        reset=population.reset,
        gain=gain,
        arithmetic=program.arithmetic,
    )


def _device(network: Network) -> torch.device:
    return next(network.parameters()).device


def _folded(block: Block, device: torch.device) -> tuple[Tensor, Tensor]:
    """Gain of the norm and bias of the current in front of it, float64 ``[C]``, differentiable."""
    gain = torch.ones(block.units, dtype=torch.float64, device=device)
    bias = torch.zeros_like(gain)
    if block.norm is not None:
        gain, bias = block.norm.folded()
    for layer in (block.synapses, block.skip):
        own = getattr(layer, "bias", None)
        if own is not None:
            bias = bias + own.double()
    return gain, bias


def _synapses(
    program: Program,
    projection: Projection,
    layer: nn.Module,
    before: Block | None,
    unit: Tensor,
    outputs: Tensor | None,
    inputs: Tensor | None,
) -> ChipSynapses:
    """The integers of ``layer`` in its own shape; those of dead units are 0."""
    averaged = before is not None and before.pool > 1 and before.pool_kind == "avg"
    window = before.pool**2 if averaged and before is not None else 1
    weight = layer.weight
    assert isinstance(weight, Tensor)
    arithmetic, graded = program.arithmetic, program.is_encoder(projection)
    # A graded input arrives in units of its own, which the unit of the membrane contains.
    real = weight.double() / window * (arithmetic.input_scale if graded else 1.0)
    if isinstance(layer, IdentitySkip):
        real = real / unit
        integer = torch.zeros_like(unit)
        integer[_living(outputs, unit)] = projection.weight.flatten().to(integer)
    else:
        real = real / unit.view(-1, *[1] * (weight.dim() - 1))
        integer = torch.zeros_like(real)
        rows = _living(outputs, unit)
        columns = torch.ones(weight.shape[1], dtype=torch.bool, device=weight.device)
        if inputs is not None and getattr(layer, "groups", 1) == 1:
            columns = inputs.to(weight.device)
        part = torch.zeros_like(integer[rows])
        part[:, columns] = projection.weight.to(part)
        integer[rows] = part
    dtype = exact_format(program, projection)
    exact = torch.float64 if dtype == torch.int64 else dtype
    return ChipSynapses(
        straight_through(real, integer).to(exact),
        window,
        exact,
        arithmetic if graded else None,
    )


def _threshold(block: Block, population: Population, gain: Tensor, unit: Tensor) -> Tensor | None:
    if block.neuron is None or population.threshold is None:
        return None
    return _rounded(block.neuron.threshold / gain / unit, population.threshold, block.neuron.alive, dead=1.0)


def _leak(block: Block, population: Population, gain: Tensor, unit: Tensor, program: Program) -> Tensor | None:
    """The leak as the chip stores it: of ``lif`` what is lost in ``2**decay_bits`` parts, else membrane units."""
    if block.neuron is None or population.leak is None:
        return None
    amount = torch.as_tensor(block.neuron.leak_amount(), dtype=torch.float64, device=unit.device).expand_as(unit)
    arithmetic = program.arithmetic
    lost = -(1 - amount).log2() if arithmetic.decay == "shift" else (1 - amount) * 2**arithmetic.decay_bits
    real = lost if population.model in ("lif", "cuba_lif") else amount / gain / unit
    return _rounded(real, population.leak, block.neuron.alive)


def _synaptic_decay(block: Block) -> float | None:
    return block.neuron.synaptic_decay if isinstance(block.neuron, CubaLIF) else None


def _registers(values: Tensor | None, alive: Tensor | None, device: torch.device) -> Tensor | None:
    return None if values is None else _scattered(values, alive, device, 1.0)


def _rounded(real: Tensor, integer: Tensor, alive: Tensor | None, dead: float = 0.0) -> Tensor:
    """The integers of the living units (``dead`` for the others), with the gradient of ``real`` ``[C]``."""
    return straight_through(real, _scattered(integer, alive, real.device, dead))


def _scattered(values: Tensor, alive: Tensor | None, device: torch.device, dead: float) -> Tensor:
    """``values`` of the living units in a float64 tensor ``[C]`` of all units."""
    if alive is None:
        return values.to(device, torch.float64)
    full = torch.full((len(alive),), dead, dtype=torch.float64, device=device)
    full[alive.to(device)] = values.to(full)
    return full


def _living(alive: Tensor | None, like: Tensor) -> Tensor:
    return torch.ones(len(like), dtype=torch.bool, device=like.device) if alive is None else alive.to(like.device)
