"""Fitting of a network to the limits of a chip, with other quantizers and fewer units.

This module handles limits on sizes and weights. :func:`~spikefit.deploy.deployment.require_structure` handles features
that a chip lacks (a neuron model, a pooling, a readout).
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikefit.errors import ConfigurationError
from spikefit.hardware.check_chip_capacity import check
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.finding import Finding
from spikefit.hardware.placement import place
from spikefit.hardware.sourced_value import known
from spikefit.hardware.target import HardwareTarget
from spikefit.networks.blocks import Network
from spikefit.program.lower import lower
from spikefit.prune.groups import UnitGroup, set_alive
from spikefit.prune.selection import Masks, select, select_within
from spikefit.quantize import AxonCodebook, Codebook
from spikefit.quantize.base import Quantizer, latent_weight, quantizer_of
from spikefit.quantize.described import built, described

Scores = dict[str, Tensor]
STORED_BITS = (2, 4, 8)  # of a codebook's values


def findings_on(network: Network, context: DeploymentContext) -> list[Finding]:
    """All limits of the chip that ``network`` violates, including those of the placement."""
    program = lower(network, context, "target")
    return [*check(context.chip, program), *place(context.chip, program, hops=False).findings]


def solvable_by_pruning(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that pruning enough units resolves."""
    return [finding for finding in findings if finding.prune_blocks]


class Trial:
    """Checks masks of living units against a chip, on a copy of a network.

    Args:
        network: the network; not changed.
        context: the chip, steps of an inference, and what the network reads.
        groups: the groups that may lose units.

    Example:
        >>> from spikefit.input_kind import InputKind
        >>> from spikefit.networks import MLP
        >>> from spikefit.prune.groups import unit_groups
        >>> network = MLP((1, 8, 8), 10, hidden=[16])
        >>> context = DeploymentContext(HardwareTarget.load("loihi"), 4, InputKind.SPIKES)
        >>> Trial(network, context, unit_groups(network)).findings({"fc1": torch.ones(16, dtype=torch.bool)})
        []
    """

    def __init__(self, network: Network, context: DeploymentContext, groups: list[UnitGroup]) -> None:
        self.network = copy.deepcopy(network).cpu().eval()
        self.context, self.groups = context, groups

    def findings(self, masks: Masks) -> list[Finding]:
        """The findings for a network with the living units ``masks`` that further pruning can resolve."""
        for group in self.groups:
            set_alive(self.network, group, masks[group.name])
        return solvable_by_pruning(findings_on(self.network, self.context))


def masks_that_fit(trial: Trial, scores: Scores, alive: Masks, min_units: int) -> tuple[Masks, list[Finding]]:
    """Masks of living units with which a network fits a chip, and the findings that remain if none suffice.

    For one finding after another, the fewest units with the lowest scores are removed from the blocks that the finding
    names. Removing units never violates a limit that held, but may reveal a hidden finding, so this is repeated until
    no finding is left.

    Args:
        trial: a trial of the network.
        scores: ``{group: [units]}``.
        alive: ``{group: bool [units]}``; dead units stay dead.
        min_units: smallest number of units that every group keeps.
    """
    masks = {name: mask.clone() for name, mask in alive.items()}
    findings = trial.findings(masks)
    # Findings that name few blocks come first, because they leave fewer units to choose from.
    while findings:
        finding = min(findings, key=lambda finding: len(finding.prune_blocks))
        chosen = [group for group in trial.groups if set(group.blocks) & set(finding.prune_blocks)]
        smaller = _with_fewer_units(trial, finding, chosen, scores, masks, min_units)
        if all(torch.equal(smaller[name], masks[name]) for name in masks):
            break
        masks = smaller
        findings = trial.findings(masks)
    return masks, findings


def _with_fewer_units(
    trial: Trial, finding: Finding, chosen: list[UnitGroup], scores: Scores, masks: Masks, min_units: int
) -> Masks:
    """``masks`` without the fewest units of ``chosen`` that resolve ``finding``, or without all removable ones."""

    def violated(part: Masks) -> float:
        left = trial.findings({**masks, **part})
        return float(any((other.limit, other.where) == (finding.limit, finding.where) for other in left))

    own = {group.name: masks[group.name] for group in chosen}
    return {**masks, **select_within(scores, chosen, own, min_units, violated, 0.0)}


def fewest_units(groups: list[UnitGroup], alive: Masks, min_units: int) -> Masks:
    """Masks that keep ``min_units`` living units of each group, or all its living units if these are fewer."""
    return select({group.name: torch.zeros(group.units) for group in groups}, groups, alive, 0, min_units)


def towards(masks: Masks, goal: Masks, scores: Scores, removed: int) -> Masks:
    """``masks`` without the ``removed`` units of lowest score among those that are dead in ``goal``."""
    going = [
        (float(scores[name][unit]), position, unit)
        for position, (name, mask) in enumerate(masks.items())
        for unit in (mask & ~goal[name]).nonzero().flatten().tolist()
    ]
    names = list(masks)
    left = {name: mask.clone() for name, mask in masks.items()}
    for _, position, unit in sorted(going)[:removed]:
        left[names[position]][unit] = False
    return left


def suited_quantizers(
    network: Network, target: HardwareTarget, replacement: type[Quantizer] | None = None
) -> dict[str, dict[str, Any]]:
    """New quantizers for layers whose current quantizers ``target`` can't support, by layer, as descriptions.

    A quantizer of any class with at most as many values and bits as the chip allows is kept. If the chip limits the
    number of values, a layer without a quantizer gets a codebook. If the values belong to a neuron and their index to
    the axon (TrueNorth), layers after the first get an ``AxonCodebook``, which takes one axon per source. If all layers
    share the values of a single core, each layer gets an equal part of them.

    Args:
        network: the network with the user's quantizers.
        target: the chip.
        replacement: class of the new quantizers, instead of codebooks; its ``options_for`` gives their options.

    Raises:
        ConfigurationError: if the chip can't support the quantizers of ``replacement`` either.
    """
    rule = target.weights.unique_values
    count = None if rule is None else known(rule.count)
    if count is not None and rule is not None and known(rule.scope) == "core" and target.family == "single_core":
        count = max(2, count // len(list(network.named_synapses())))  # fewest of a codebook
    widest = max((bits for bits in STORED_BITS if bits <= target.widest_bits), default=STORED_BITS[0])
    by_axon = target.family == "crossbar" and rule is not None and known(rule.scope) == "neuron"
    wanted: dict[str, dict[str, Any]] = {}
    for position, (name, layer) in enumerate(network.named_synapses()):
        quantizer = quantizer_of(layer)
        bits = min(getattr(quantizer, "bits", widest), widest)
        own = not isinstance(quantizer, Codebook | AxonCodebook)
        if own and quantizer is not None and _holds(target, count, quantizer, latent_weight(layer)) is None:
            continue
        if isinstance(quantizer, Codebook):
            levels = min(
                quantizer.levels, count or quantizer.levels, 2**bits - 1 - (quantizer.zero in ("free", "none"))
            )
            if levels < quantizer.levels or bits < quantizer.bits:
                wanted[name] = {"class": "Codebook", **quantizer.options, "levels": levels, "bits": bits}
        elif isinstance(quantizer, AxonCodebook):
            types = min(quantizer.types, count or quantizer.types)
            if types < quantizer.types or bits < quantizer.bits:
                wanted[name] = {"class": "AxonCodebook", "types": types, "bits": bits}
        elif count is not None or quantizer is not None:
            # The membrane has the unit of the weights: with 8 bits, biases and leaks exceed narrow registers.
            narrow, free = min(bits, 4), rule is not None and bool(known(rule.zero_is_free))
            levels = min(count or 2**narrow, 2**narrow - 1 - free)
            zero = "free" if free else "counted"
            wanted[name] = {"class": "Codebook", "levels": levels, "bits": narrow, "zero": zero}
            if by_axon and position > 0:
                wanted[name] = {"class": "AxonCodebook", "types": count, "bits": narrow}
    if replacement is not None:
        layers = dict(network.named_synapses())
        for name in wanted:
            wanted[name] = _replaced(target, count, replacement, name, latent_weight(layers[name]))
    return wanted


def _replaced(
    target: HardwareTarget, count: int | None, kind: type[Quantizer], name: str, weight: Tensor
) -> dict[str, Any]:
    """Description of a quantizer of ``kind`` for the layer ``name``, which ``target`` supports."""
    description = described(kind, kind.options_for(count, target.widest_bits))
    excess = _holds(target, count, built(description, weight), weight)
    if excess is not None:
        raise ConfigurationError(
            f"quantizer: got {kind.__name__}, which gives layer {name} {excess}. Let its options_for(levels, bits) "
            "return options with which it keeps to that, or choose another class."
        )
    return description


def _holds(target: HardwareTarget, count: int | None, quantizer: Quantizer, weight: Tensor) -> str | None:
    """None if ``target`` can store the weights of ``quantizer``, else how they exceed it."""
    with torch.no_grad():
        bits = quantizer.scale_and_bits(weight.detach())[1]
    levels = 2**bits if quantizer.levels is None else quantizer.levels
    if bits <= target.widest_bits and (count is None or levels <= count):
        return None
    allowed = f"integers of {target.widest_bits} bits" + ("" if count is None else f", {count} values")
    return f"up to {levels} values, integers of {bits} bits; {target.name} stores {allowed}"
