"""Energy of an inference, estimated with a named energy model.

``energy = synops * E_synop + updates * E_update + MACs * E_mac + relays + hops * E_hop + static power * time``. A model
omits the terms that it does not have. A term with an unknown constant is None and listed as unknown, never zero.

Relays (:mod:`spikefit.hardware.placement.relays`) are neurons of the chip, but not of the network: the term ``relays``
has the prices of their synops and updates, and the chip's static power also lasts for the ticks that they add.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from spikefit.errors import ConfigurationError, check_choice
from spikefit.hardware.energy_of_memory import CONSTANTS, memory_terms
from spikefit.hardware.placement import Placement
from spikefit.hardware.sourced_value import SourcedValue, sourced_values_of
from spikefit.hardware.target import HardwareTarget
from spikefit.program.ir import LayerActivity, Program

EnergyModelName = Literal["target", "horowitz45", "memory"]
ENERGY_MODELS: tuple[EnergyModelName, ...] = get_args(EnergyModelName)

HOROWITZ_AC_J = SourcedValue(0.9e-12, "float32 addition at 45 nm: Horowitz 2014, ISSCC", "P")
HOROWITZ_MAC_J = SourcedValue(4.6e-12, "float32 multiplication and addition at 45 nm: Horowitz 2014, ISSCC", "P")


@dataclass(frozen=True)
class EnergyEstimate:
    """Energy of one inference, in joule.

    Attributes:
        model: name of the energy model.
        total_j: sum of the known terms; None when none is known.
        terms: ``synops``, ``updates``, ``encoder`` (multiplications of graded inputs), ``memory``, ``relays``, ``hops``
            and ``static``, joule; None for an unknown term. Terms that the model does not have are absent.
        unknown: names of the unknown terms.
        per_layer: by population, the sum of its known terms; static power, hops and relays belong to no layer.
        layer_terms: by population, the terms that belong to it.
    """

    model: str
    total_j: float | None
    terms: dict[str, float | None]
    unknown: tuple[str, ...]
    per_layer: dict[str, float]
    layer_terms: dict[str, dict[str, float | None]] = field(default_factory=dict)


def estimate(
    target: HardwareTarget,
    activities: Sequence[LayerActivity],
    placement: Placement | None,
    time_steps: int,
    model: EnergyModelName = "target",
    program: Program | None = None,
    relay_synops: float | None = None,
) -> EnergyEstimate:
    """Estimate the energy of one inference.

    Args:
        target: the chip.
        activities: activity of each population, averaged over inferences.
        placement: provides the hops per spike and the relays; None if the network was not placed.
        time_steps: steps of the inference, for static power.
        model: ``target`` uses the chip's own constants. ``horowitz45`` counts operations in 45 nm CMOS (0.9 pJ per
            accumulate, 4.6 pJ per multiply-accumulate, without memory and neuron updates), as most papers do.
            ``memory`` (:mod:`spikefit.hardware.energy_of_memory`) is the only model that shows the savings of narrow
            weights.
        program: the simulated program; required for the model ``memory``.
        relay_synops: synaptic operations of the relays, averaged over inferences; None if they were not counted.

    Raises:
        ConfigurationError: for an unknown model, or ``memory`` without a program.

    Example:
        >>> layer = LayerActivity("fc1", neurons=16, synapses=1024, spikes=8.0, synops=1000.0, macs=0.0, updates=64.0)
        >>> found = estimate(HardwareTarget.load("loihi"), [layer], None, 4, model="horowitz45")
        >>> f"{found.total_j:.1e} J", found.unknown
        ('9.0e-10 J', ())
    """
    check_choice("model", model, ENERGY_MODELS)
    layers: dict[str, dict[str, float | None]]
    if model == "memory":
        if program is None:
            raise ConfigurationError("program: got None, expected the simulated program for the energy model 'memory'.")
        layers = {layer.name: {**memory_terms(program, layer)} for layer in activities}
        names = ["synops", "updates", "encoder", "memory"]
    else:
        prices = _prices(target, model)
        layers, names = {layer.name: _layer_terms(layer, prices) for layer in activities}, list(prices)
    terms = {name: _total([layer[name] for layer in layers.values()]) for name in names}
    if model == "target":
        terms |= _chip_terms(target, activities, placement, time_steps, relay_synops)
    shares = {name: _known(parts.values()) for name, parts in layers.items()}
    return EnergyEstimate(
        model,
        _known(terms.values()),
        terms,
        tuple(name for name, value in terms.items() if value is None),
        {name: share for name, share in shares.items() if share is not None},
        layers,
    )


def constants(target: HardwareTarget, model: EnergyModelName) -> dict[str, SourcedValue[Any]]:
    """The constants of ``model`` by name; an unknown constant has the value None, one that does not apply is absent.

    Raises:
        ConfigurationError: for an unknown model.
    """
    check_choice("model", model, ENERGY_MODELS)
    if model == "memory":
        return dict(CONSTANTS)
    if model == "horowitz45":
        return {"accumulate_j": HOROWITZ_AC_J, "multiply_accumulate_j": HOROWITZ_MAC_J}
    return {path.removeprefix("energy."): figure for path, figure in sourced_values_of(target.energy, "energy")}


def unknown_energy(group: str, unknown: Iterable[str]) -> dict[str, float]:
    """Metrics that say which terms an energy lacks: their number, and one metric of value 1 for each term.

    Loggers take numbers only, so that the names of the terms are in the names of the metrics.

    Example:
        >>> unknown_energy("deploy", ["hops", "static"])
        {'deploy/energy_unknown_terms': 2.0, 'deploy/energy_unknown/hops': 1.0, 'deploy/energy_unknown/static': 1.0}
    """
    named = {f"{group}/energy_unknown/{term}": 1.0 for term in unknown}
    return {f"{group}/energy_unknown_terms": float(len(named)), **named}


def _prices(target: HardwareTarget, model: EnergyModelName) -> dict[str, float | None]:
    """Energy per operation, joule, by the term that counts it."""
    figures: dict[str, SourcedValue[float] | None]
    if model == "horowitz45":
        figures = {"synops": HOROWITZ_AC_J, "encoder": HOROWITZ_MAC_J}
    else:
        constants = target.energy
        figures = {
            "synops": constants.synop_j,
            "updates": constants.update_j,
            "encoder": constants.encoder_mac_j,
        }
    return {name: figure.value for name, figure in figures.items() if figure is not None}


def _layer_terms(layer: LayerActivity, prices: dict[str, float | None]) -> dict[str, float | None]:
    counts = {"synops": layer.synops, "updates": layer.updates, "encoder": layer.macs}
    return {name: _product(counts[name], price) for name, price in prices.items()}


def _chip_terms(
    target: HardwareTarget,
    activities: Sequence[LayerActivity],
    placement: Placement | None,
    time_steps: int,
    relay_synops: float | None,
) -> dict[str, float | None]:
    """The terms of relays, hops and static power, if the chip has their constants.

    The hops of a network with relays are unknown, because the mesh does not route spikes through relays.
    """
    constants, terms = target.energy, dict[str, float | None]()
    relaying = target.limits.axons_out_per_neuron is not None
    relays, added = (None, None) if relaying else (0, 0)
    if placement is not None:
        relays, added = placement.splitter_neurons, placement.relay_ticks
    if relaying:
        performed = 0.0 if relays == 0 else relay_synops
        prices = ((performed, constants.synop_j), (_product(relays, time_steps), constants.update_j))
        terms["relays"] = _total([_product(count, price.value) for count, price in prices if price is not None])
    if constants.hop_j is not None:
        per_spike = None if placement is None or relays != 0 else placement.hops_per_spike
        spikes = sum(layer.spikes for layer in activities)
        terms["hops"] = _product(_product(spikes, per_spike), constants.hop_j.value)
    if constants.static_w is not None:
        step = None if constants.time_step_s is None else constants.time_step_s.value
        ticks = None if added is None else time_steps + added
        terms["static"] = _product(_product(ticks, step), constants.static_w.value)
    return terms


def _product(count: float | None, price: float | None) -> float | None:
    """``count * price``; None if one is unknown, but 0 if either is 0."""
    if count == 0 or price == 0:
        return 0.0
    return None if count is None or price is None else count * price


def _total(values: Sequence[float | None]) -> float | None:
    """The sum of ``values``; None if any of them is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _known(values: Iterable[float | None]) -> float | None:
    """The sum of the known ``values``; None if none is known, or if the known ones sum to 0 and others are unknown."""
    listed = list(values)
    total = sum(value for value in listed if value is not None)
    return None if not listed or (None in listed and total == 0) else total
