"""Compaction: the physically smaller network that is equivalent to a pruned network."""

import copy

import torch
from torch import Tensor, nn

from spikefit.networks.blocks import Block, Network
from spikefit.networks.norms import PositiveBatchNorm
from spikefit.prune.groups import input_alive, living_groups, source_alive
from spikefit.prune.synapse_mask import attach_mask, mask_of
from spikefit.quantize.base import attach, latent_weight, quantizer_of


def compact(network: Network) -> Network:
    """A copy of ``network`` without its dead units; the remaining units fire identical spikes.

    Args:
        network: the pruned network; not changed.

    Raises:
        ConfigurationError: for a grouped convolution with dead units in a living group: groups would become unequal.

    Example:
        >>> from spikefit.networks import MLP
        >>> network = MLP((1, 8, 8), 10, hidden=[16])
        >>> network.block("fc1").neuron.alive[:4] = False
        >>> [block.units for _, block in compact(network).named_blocks()]
        [12, 10]
    """
    small = copy.deepcopy(network)
    for name, block in network.named_blocks():
        target = small.block(name)
        alive = None if block.neuron is None else block.neuron.alive
        inputs = input_alive(network, name)
        target.synapses = _slice_layer(name, block.synapses, alive, inputs)
        if isinstance(block.skip, nn.Conv2d):
            skip_inputs = source_alive(network, str(block.skip_from), block.skip)
            target.skip = _slice_layer(f"{name}.skip", block.skip, alive, skip_inputs)  # type: ignore[assignment]
        if alive is not None:
            _slice_units(target, alive)
    small.train(network.training)
    return small


def _slice_layer(
    name: str, layer: nn.Conv2d | nn.Linear, outputs: Tensor | None, inputs: Tensor | None
) -> nn.Conv2d | nn.Linear:
    weight = latent_weight(layer).detach()
    rows = torch.ones(len(weight), dtype=torch.bool) if outputs is None else outputs.cpu()
    columns = torch.ones(weight.shape[1], dtype=torch.bool) if inputs is None else inputs.cpu()
    groups = 1
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        groups = int(living_groups(name, layer, outputs, inputs).sum())
        columns = torch.ones(weight.shape[1], dtype=torch.bool)
    weight = weight[rows.to(weight.device)][:, columns.to(weight.device)].clone()
    fresh: nn.Conv2d | nn.Linear
    if isinstance(layer, nn.Conv2d):
        fresh = nn.Conv2d(
            int(columns.sum()) * groups,
            len(weight),
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            layer.dilation,  # type: ignore[arg-type]
            groups,
            bias=layer.bias is not None,
        )
    else:
        fresh = nn.Linear(weight.shape[1], len(weight), bias=layer.bias is not None)
    fresh.weight = nn.Parameter(weight)
    if layer.bias is not None:
        fresh.bias = nn.Parameter(layer.bias.detach()[rows].clone())
    quantizer = quantizer_of(layer)
    if quantizer is not None:
        # Attaching runs the quantizer once, in the layer's mode; in training mode it would adapt to the sliced weights.
        attach(fresh.eval(), quantizer.sliced(rows, columns))
    mask = mask_of(layer)
    if mask is not None:
        attach_mask(fresh.eval()).live.copy_(mask.live.cpu()[rows][:, columns])
    return fresh


def _slice_units(block: Block, alive: Tensor) -> None:
    neuron, norm = block.neuron, block.norm
    assert neuron is not None
    neuron.units = int(alive.sum())
    neuron.alive = alive[alive].clone()
    if isinstance(norm, PositiveBatchNorm):
        fresh = type(norm)(neuron.units, eps=norm.eps, momentum=norm.momentum)
        fresh = fresh.to(dtype=norm.weight.dtype, device=norm.weight.device)
        with torch.no_grad():
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(fresh, name).copy_(getattr(norm, name)[alive])
            if fresh.num_batches_tracked is not None and norm.num_batches_tracked is not None:
                fresh.num_batches_tracked.copy_(norm.num_batches_tracked)
        block.norm = fresh
