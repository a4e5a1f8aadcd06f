"""Lowering of a trained network to a :class:`~spikefit.program.ir.Program`: the fold without gradients, by population.

:mod:`spikefit.program.fold` determines every number. This module leaves out dead units and arranges the numbers as the
program that a chip runs.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spikefit.errors import ConfigurationError
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.networks.blocks import Block, IdentitySkip, Network
from spikefit.networks.emulated import FoldedBlock, FoldedSynapses
from spikefit.program.fold import fold, spikes_of_inputs
from spikefit.program.ir import Arithmetic, Population, Precision, Program, Projection
from spikefit.prune.groups import input_alive, living_groups, source_alive
from spikefit.prune.synapse_mask import masked
from spikefit.quantize.base import IntegerWeights, latent_weight, quantizer_of

INPUT = "input"


@torch.no_grad()
def lower(network: Network, context: DeploymentContext, precision: Precision = "exact") -> Program:
    """Lower ``network`` to the program that a chip runs, on the CPU.

    Args:
        network: trained, in evaluation mode; not changed. Its dead units are left out.
        context: the chip (for ``target`` precision), steps, and what the network reads.
        precision: ``exact`` (float64) or ``target`` (integers of the chip).

    Raises:
        ConfigurationError: for weights that are not finite, ``target`` precision without a chip, a norm in a readout
            without neurons, a grouped convolution with dead units in a living group, or an identity shortcut between
            blocks with different dead units.
    """
    for name, layer in network.named_synapses():
        if not bool(latent_weight(layer).isfinite().all()):
            raise ConfigurationError(
                f"layer {name}: its weights are not finite: training has diverged. Lower the learning rate or clip "
                f"gradients (trainer.gradient_clip_val)."
            )
    folded = fold(network, context, precision)
    populations = [
        Population(
            INPUT,
            network.input_shape,
            "input",
            input_kind=context.input_kind,
            max_spikes=spikes_of_inputs(context),
        )
    ]
    projections: list[Projection] = []
    shapes = {INPUT: network.input_shape}
    previous = INPUT
    for name, block in network.named_blocks():
        own = folded[name]
        alive, inputs = None if block.neuron is None else block.neuron.alive.cpu(), _on_cpu(input_alive(network, name))
        parts = [_projection(name, block.synapses, own.synapses, (previous, name), network, (alive, inputs), precision)]
        if block.skip is not None:
            source = str(block.skip_from)
            sending = source_alive(network, source, block.skip).cpu()
            if isinstance(block.skip, IdentitySkip) and alive is not None and not torch.equal(alive, sending):
                raise ConfigurationError(
                    f"block {name}: its dead units differ from those of {source!r}, to which an identity shortcut "
                    f"connects it. Prune both together, as in the groups of spikefit.prune.groups."
                )
            ends, living = (source, name), (alive, sending)
            parts.append(_projection(f"{name}.skip", block.skip, own.skip, ends, network, living, precision))
        shapes[name] = _target_shape(parts[0], shapes[previous])
        populations.append(_population(name, block, own, shapes[name], alive, precision))
        projections += parts
        previous = name
    target = context.target if precision == "target" else None
    return Program(
        tuple(populations),
        tuple(projections),
        context.time_steps,
        precision,
        None if target is None else target.name,
        Arithmetic() if target is None else target.arithmetic(),
    )


def _projection(
    name: str,
    layer: nn.Module,
    folded: FoldedSynapses | None,
    ends: tuple[str, str],
    network: Network,
    living: tuple[Tensor | None, Tensor | None],
    precision: Precision,
) -> Projection:
    """The synapses of ``layer`` from population ``ends[0]`` to ``ends[1]``, between living inputs and outputs."""
    assert folded is not None
    (source, target), (rows, columns) = ends, living
    before = None if source == INPUT else network.block(source)
    pool = 1 if before is None else before.pool
    pool_kind: Literal["sum", "max"] = "max" if before is not None and before.pool_kind == "max" else "sum"
    weight = folded.weight.cpu()
    weight = weight.round().to(torch.int64) if precision == "target" else weight
    exponent = int(folded.exponent)
    options: dict[str, Any] = {"pool": pool, "pool_kind": pool_kind, "bits": folded.bits, "exponent": exponent}
    if isinstance(layer, IdentitySkip):
        weight = (weight if columns is None else weight[columns]).view(-1, 1, 1, 1)
        return Projection(name, source, target, "conv", weight, groups=len(weight), **options)
    groups = 1
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        groups, columns = int(living_groups(name, layer, rows, columns).sum()), None
    weight = weight if rows is None else weight[rows]
    weight = weight if columns is None else weight[:, columns]
    types, stored = _quantised(layer, rows, columns)
    if stored is not None:
        options["bits"] = stored.bits if precision == "exact" else folded.bits
        options["codebook"] = None if precision == "exact" else stored.codebook.holding(weight)
    if isinstance(layer, nn.Linear):
        return Projection(name, source, target, "dense", weight, axon_types=types, **options)
    assert isinstance(layer, nn.Conv2d)
    assert isinstance(layer.padding, tuple)
    return Projection(
        name,
        source,
        target,
        "conv",
        weight,
        _pair(layer.stride),
        _pair(layer.padding),
        _pair(layer.dilation),
        groups,
        # The groups of a convolution share the columns of its weight, and therefore their types.
        axon_types=None if types is None else types.repeat(groups),
        **options,
    )


def _quantised(
    layer: nn.Module, rows: Tensor | None, columns: Tensor | None
) -> tuple[Tensor | None, IntegerWeights | None]:
    """Axon types and integers for some outputs and inputs of ``layer``; None if its quantizer defines none."""
    quantizer = quantizer_of(layer)
    if quantizer is None or quantizer.strength < 1:
        return None, None
    stored, types = quantizer.integers(latent_weight(layer)), quantizer.input_types()
    codebook = masked(layer, stored.codebook).cpu().part(rows, columns)
    types = None if types is None else types.cpu()
    return types if types is None or columns is None else types[columns], replace(stored, codebook=codebook)


def _on_cpu(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.cpu()


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _target_shape(projection: Projection, source: tuple[int, ...]) -> tuple[int, ...]:
    if projection.kind == "dense":
        return (projection.weight.shape[0],)
    pooled = projection.pooled_shape(source)
    # The meta device computes shapes only.
    weight = torch.empty_like(projection.weight, device="meta", dtype=torch.float32)
    out = nn.functional.conv2d(weight.new_empty(1, *pooled), weight, **projection.conv_options)
    return tuple(out.shape[1:])


def _population(
    name: str, block: Block, folded: FoldedBlock, shape: tuple[int, ...], alive: Tensor | None, precision: Precision
) -> Population:
    """The living neurons of a block."""

    def constants(values: Tensor | None, whole: bool = precision == "target") -> Tensor | None:
        if values is None:
            return None
        values = values.detach().cpu()
        values = values if alive is None else values[alive]
        return values.round().to(torch.int64) if whole else values.clone()

    unit = constants(folded.unit, whole=False)
    if block.neuron is None:
        return Population(name, shape, "readout", bias=constants(folded.bias), unit=unit)
    neuron = block.neuron
    added = folded.synaptic_bias
    return Population(
        name,
        shape,
        neuron.model,
        threshold=constants(folded.threshold),
        bias=constants(folded.bias),
        leak=constants(folded.leak),
        reset=neuron.reset,
        unit=unit,
        synaptic_leak=constants(folded.synaptic_leak),
        synaptic_bias=constants(added) if added is not None and bool(added.any()) else None,
        max_spikes=neuron.max_spikes,
        constants=tuple(
            (name, own) for name, values in folded.constants.items() if (own := constants(values)) is not None
        ),
    )
