"""The fields of a chip description, by section: limits, weights, neurons, layers and energy."""

from dataclasses import dataclass
from typing import Annotated, Literal

from spikefit.functional.neuron_models import MODELS
from spikefit.hardware.sourced_value import (
    BITS,
    BOOLEAN,
    COUNT,
    INTEGER,
    POSITIVE,
    Amount,
    Count,
    Integer,
    Positive,
    PositiveAmount,
    SourcedValue,
    any_of,
    choice,
    key_of,
    some,
)

UniqueValuesScope = Literal["neuron", "core", "layer"]

_REGISTERED = "import the module that registers your own neuron first, see spikefit.functional.neuron_models"


@dataclass(frozen=True)
class Limits:
    """Sizes of a chip; the name of a count says whether it is per chip, core or neuron.

    :data:`~spikefit.hardware.chip_rules.CHECKED_BY` lists the families of chips for which each limit is checked.
    ``kernel_entries``, ``neuron_entries`` and ``bias_entries`` list the memory sizes of each core (layer_per_core
    chips). ``axons_out_per_neuron`` is the number of axons that a neuron can send to (1 on TrueNorth). ``inputs``,
    ``hidden_neurons`` and ``outputs`` apply to chips that treat the first and the last layer differently.
    ``threshold_configurations_per_core`` and ``decay_configurations_per_core`` are the numbers of distinct values that
    the neurons of a core may have.
    """

    cores: Positive = None
    neurons_per_core: Count = None
    neurons_per_chip: Count = None
    inputs: Count = None
    hidden_neurons: Count = None
    outputs: Count = None
    synapses_per_chip: Count = None
    fan_in: Count = None
    fan_out: Count = None
    axons_in_per_core: Count = None
    axons_out_per_core: Count = None
    axons_out_per_neuron: Count = None
    synapse_bits_per_core: Count = None
    threshold_configurations_per_core: Count = None
    decay_configurations_per_core: Count = None
    destination_layers: Count = None
    kernel_entries: Annotated[SourcedValue[tuple[int, ...]] | None, some(COUNT)] = None
    neuron_entries: Annotated[SourcedValue[tuple[int, ...]] | None, some(COUNT)] = None
    bias_entries: Annotated[SourcedValue[tuple[int, ...]] | None, some(COUNT)] = None


@dataclass(frozen=True)
class UniqueValues:
    """Limit on the number of distinct weights of a neuron, core or layer, and whether zero counts."""

    count: Annotated[SourcedValue[int], POSITIVE]
    scope: Annotated[SourcedValue[UniqueValuesScope], choice("neuron", "core", "layer")]
    zero_is_free: Annotated[SourcedValue[bool], BOOLEAN]


@dataclass(frozen=True)
class Weights:
    """Stored weights: signed integers of one of ``bits`` widths, times ``2**exponent``.

    Attributes:
        bits: widths that the chip stores, ascending.
        min, max: range of a stored integer of the widest width.
        exponent_min, exponent_max: range of the exponent at the widest width.
        left_aligned: whether a narrower weight occupies the upper bits of a wide one, so that its smallest exponent
            grows by the difference of the widths.
        sign_by_source: whether all weights that leave a neuron must have the same sign.
        unique_values: limit on distinct weights; omitted if there is none.
    """

    bits: Annotated[SourcedValue[tuple[int, ...]], some(BITS)]
    min: Annotated[SourcedValue[int], INTEGER]
    max: Annotated[SourcedValue[int], INTEGER]
    exponent_min: Integer = None
    exponent_max: Integer = None
    left_aligned: Annotated[SourcedValue[bool] | None, BOOLEAN] = None
    sign_by_source: Annotated[SourcedValue[bool] | None, BOOLEAN] = None
    unique_values: UniqueValues | None = None


@dataclass(frozen=True)
class NeuronLimits:
    """Neuron models of a chip and the ranges of their registers, in units of the membrane's least significant bit.

    Attributes:
        models: names of the neuron models (:mod:`spikefit.functional.neuron_models`) that the chip computes natively,
            each with an integer form; [] for a chip without integrate-and-fire neurons.
        resets: resets that the chip computes natively.
        cells_for_subtract: hardware neurons that one neuron with ``subtract`` reset takes (1 if omitted).
        threshold_step, threshold_offset: thresholds are ``offset + k * step``.
        bias_mantissa_max: a bias is a mantissa of at most this magnitude, times a power of two.
        leak_max: largest linear leak.
        bias_shares_leak_register: whether one register holds either the bias or the linear leak of a neuron, so that a
            neuron can't have both (it can if omitted).
        decay: how a membrane decays, ``scale`` (the default) or ``shift``; see
            :class:`~spikefit.program.ir.Arithmetic`.
        decay_bits: fraction bits of a ``scale`` decay.
        shift_max: largest shift of a ``shift`` decay; the smallest is 1.
        spikes_max: how often a neuron may fire in one step (once if omitted).
    """

    models: Annotated[SourcedValue[tuple[str, ...]], any_of(key_of(MODELS, _REGISTERED))]
    resets: Annotated[SourcedValue[tuple[str, ...]], any_of(choice("subtract", "zero"))]
    cells_for_subtract: Positive = None
    threshold_min: Integer = None
    threshold_max: Integer = None
    threshold_step: Positive = None
    threshold_offset: Integer = None
    bias_min: Integer = None
    bias_max: Integer = None
    bias_mantissa_max: Positive = None
    leak_max: Count = None
    bias_shares_leak_register: Annotated[SourcedValue[bool] | None, BOOLEAN] = None
    state_min: Integer = None
    state_max: Integer = None
    overflow: Annotated[SourcedValue[Literal["saturate", "wrap"]] | None, choice("saturate", "wrap")] = None
    decay: Annotated[SourcedValue[Literal["scale", "shift"]] | None, choice("scale", "shift")] = None
    decay_bits: Annotated[SourcedValue[int] | None, BITS] = None
    shift_max: Positive = None
    spikes_max: Positive = None
    decay_rounding: Annotated[SourcedValue[Literal["toward_zero", "floor"]] | None, choice("toward_zero", "floor")] = (
        None
    )


@dataclass(frozen=True)
class LayerLimits:
    """Layers that a chip supports.

    Attributes:
        kinds: kinds of layers, ``conv`` and ``dense``.
        kernel_max, strides, padding_max, dilation_max: limits of a convolution (with ``dense_as_conv``, a dense layer
            after a map counts as a kernel as large as the map).
        pooling: ``sum`` (free if weights can be repeated) and ``max``, which needs hardware.
        pool_sizes: sides of the window; omitted if any size is supported.
        input_size_max, output_size_max: largest sides of a map.
        channels_max: largest number of channels of a layer.
        readouts: ``membrane`` and ``spikes``.
        graded_input: whether the ``host`` or the ``chip`` multiplies real-valued inputs.
        input_scale, input_min, input_max: rounding of graded inputs: real value of a unit, and range in units
            (symmetric if the minimum is omitted).
        input_spikes_max: how many spikes of one input the chip accepts in a step; further spikes are lost (unlimited
            if omitted).
        readout_spikes_max: how often a neuron of a spiking readout may fire in one step (as any other if omitted).
        biases_after_neurons: False if spikes take a step from layer to layer, so that a bias after the first layer
            would charge membranes before the first spikes arrive.
    """

    kinds: Annotated[SourcedValue[tuple[str, ...]], some(choice("conv", "dense"))]
    readouts: Annotated[SourcedValue[tuple[str, ...]], some(choice("membrane", "spikes"))]
    pooling: Annotated[SourcedValue[tuple[str, ...]], some(choice("sum", "max"))]
    graded_input: Annotated[SourcedValue[Literal["host", "chip"]], choice("host", "chip")]
    input_scale: PositiveAmount = None
    input_min: Integer = None
    input_max: Count = None
    input_spikes_max: Positive = None
    readout_spikes_max: Positive = None
    biases_after_neurons: Annotated[SourcedValue[bool] | None, BOOLEAN] = None
    dense_as_conv: Annotated[SourcedValue[bool] | None, BOOLEAN] = None
    kernel_max: Count = None
    strides: Annotated[SourcedValue[tuple[int, ...]] | None, some(POSITIVE)] = None
    padding_max: Count = None
    dilation_max: Count = None
    pool_sizes: Annotated[SourcedValue[tuple[int, ...]] | None, some(POSITIVE)] = None
    input_size_max: Count = None
    output_size_max: Count = None
    channels_max: Count = None


@dataclass(frozen=True)
class EnergyConstants:
    """Energy constants in joule, watt and second. A constant that is omitted is contained in another one."""

    synop_j: Amount = None
    update_j: Amount = None
    hop_j: Amount = None
    encoder_mac_j: Amount = None
    static_w: Amount = None
    time_step_s: PositiveAmount = None
