"""Energy of an inference, under a named model.

``energy = synops * E_synop + updates * E_update + MACs * E_mac + hops * E_hop + static power * time``. A
model leaves out the terms that it does not have; a term with an unknown constant is None and named, never
zero.
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
        terms: ``synops``, ``updates``, ``encoder`` (multiplications of graded inputs), ``memory``, ``hops``,
            ``static``: joule, or None for an unknown one; a term that the model does not have is absent.
        unknown: names of the unknown terms.
        per_layer: by population, its known share; static power and hops belong to no layer.
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
) -> EnergyEstimate:
    """Energy of one inference.

    Args:
        target: the chip.
        activities: of each population, averaged over inferences.
        placement: gives the hops of a spike; None when it was not placed.
        time_steps: steps of the inference, for static power.
        model: ``target``, the chip's own constants, or ``horowitz45``, operations of 45 nm CMOS (0.9 pJ an
            accumulate, 4.6 pJ a multiply-accumulate; neither memory nor neuron updates), which most papers
            print; or ``memory`` (:mod:`spikefit.hardware.energy_of_memory`), which alone shows what narrow weights
            save.
        program: what was simulated; needed for the model ``memory``.

    Raises:
        ConfigurationError: for an unknown model, or ``memory`` without a program.
    """
    check_choice("model", model, ENERGY_MODELS)
    layers: dict[str, dict[str, float | None]]
    if model == "memory":
        if program is None:
            raise ConfigurationError("program: got None, expected what was simulated for the energy model 'memory'.")
        layers = {layer.name: {**memory_terms(program, layer)} for layer in activities}
        names = ["synops", "updates", "encoder", "memory"]
    else:
        prices = _prices(target, model)
        layers, names = {layer.name: _layer_terms(layer, prices) for layer in activities}, list(prices)
    terms = {name: _total([layer[name] for layer in layers.values()]) for name in names}
    if model == "target":
        terms |= _chip_terms(target, activities, placement, time_steps)
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
    """What ``model`` multiplies counts with, by name; a value of None is unknown, what is left out does not apply.

    Raises:
        ConfigurationError: for an unknown model.
    """
    check_choice("model", model, ENERGY_MODELS)
    if model == "memory":
        return dict(CONSTANTS)
    if model == "horowitz45":
        return {"accumulate_j": HOROWITZ_AC_J, "multiply_accumulate_j": HOROWITZ_MAC_J}
    return {path.removeprefix("energy."): figure for path, figure in sourced_values_of(target.energy, "energy")}


def _prices(target: HardwareTarget, model: EnergyModelName) -> dict[str, float | None]:
    """Joule an operation, by the term that counts it."""
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
    target: HardwareTarget, activities: Sequence[LayerActivity], placement: Placement | None, time_steps: int
) -> dict[str, float | None]:
    """Hops and static power, as far as the chip has them."""
    constants, terms = target.energy, {}
    if constants.hop_j is not None:
        per_spike = None if placement is None else placement.hops_per_spike
        spikes = sum(layer.spikes for layer in activities)
        terms["hops"] = _product(_product(spikes, per_spike), constants.hop_j.value)
    if constants.static_w is not None:
        step = None if constants.time_step_s is None else constants.time_step_s.value
        terms["static"] = _product(_product(time_steps, step), constants.static_w.value)
    return terms


def _product(count: float | None, price: float | None) -> float | None:
    """Nothing costs nothing, whatever its price."""
    if count == 0 or price == 0:
        return 0.0
    return None if count is None or price is None else count * price


def _total(values: Sequence[float | None]) -> float | None:
    """The sum; unknown as soon as one of ``values`` is."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _known(values: Iterable[float | None]) -> float | None:
    """The sum of the known ``values``; None when nothing is known: no zero hides an unknown."""
    listed = list(values)
    total = sum(value for value in listed if value is not None)
    return None if not listed or (None in listed and total == 0) else total
