"""Storage of a program: the one rule that decides a bundle's tensors and a report's bytes.

Weights are stored in the smallest of these layouts, from the values and indices of a projection
(:attr:`~spikefit.program.ir.Projection.stored`); all are exact:

* *plain*: the weights; integers in the narrowest signed type that holds them;
* *codebook*: a table of the layer's M values, and for every weight an index of ``ceil(log2 M)`` bits (none for M = 1);
* *group_codebook*: a table for every group of outputs that share their values, all as long as the longest;
* *row_codebook*: a table for every output;
* *axon*: for a projection whose inputs have types, a value for every output and type, and a bit for every weight that
  says whether the synapse exists. The types are stored with the projection.

Integers are divided by their common factor, such as the multiplier of lowering or a power of two that a chip applies as
a shift; the description holds this factor.

All other tensors (thresholds, biases, leaks, units) are packed by :func:`~spikefit.program.bit_packing.pack`: a
constant that all channels share takes one value.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikefit.errors import BundleError
from spikefit.input_kind import InputKind
from spikefit.program import ir as descriptions
from spikefit.program.bit_packing import DTYPES, Layout, Packed, indexed, indices_of, narrow, pack, unpack
from spikefit.program.ir import Program, Projection
from spikefit.program.stored_weights import StoredWeights, from_weights, index_width

CLASSES = {
    name: cls
    for name, cls in vars(descriptions).items()
    if isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls.__module__ == descriptions.__name__
}
_APART = ("weight", "codebook")  # fields of a projection that are encoded together


def pack_weights(projection: Projection) -> Packed:
    """The weights of ``projection`` in their smallest layout.

    Raises:
        TypeError: for weights of a dtype that is not in :data:`~spikefit.program.bit_packing.DTYPES`.
        ValueError: for a codebook that does not reproduce the weights.
    """
    weight = projection.weight.detach().cpu()
    dtype, shape = str(weight.dtype).removeprefix("torch."), tuple(weight.shape)
    if dtype not in DTYPES:
        raise TypeError(f"got a tensor of {dtype}, expected one of {', '.join(DTYPES)}")
    if not weight.numel():
        return Packed("plain", dtype, shape, 0, {"values": weight})
    stored = projection.stored
    factor = _common_divisor(stored.values)
    if factor > 1:
        weight, stored = weight // factor, dataclasses.replace(stored, values=stored.values // factor)
    plain = Packed("plain", dtype, shape, 0, {"values": narrow(weight).contiguous()}, factor)
    forms: dict[Layout, StoredWeights] = {
        "codebook": stored.merged(),
        "row_codebook": stored.by_output(),
        "group_codebook": stored,
    }
    layouts: list[tuple[Layout, Tensor, Tensor, int]] = [
        (layout, narrow(form.values), form.index, index_width(form.values.shape[1])) for layout, form in forms.items()
    ]
    if projection.axon_types is not None:
        table = _values_by_type(weight, projection.axon_types)
        layouts += [] if table is None else [("axon", narrow(table), (weight != 0).to(torch.uint8), 1)]
    layout, values, index, width = min(layouts, key=lambda entry: _size(entry[1], entry[2], entry[3]))
    if plain.bytes <= _size(values, index, width):
        return plain
    packed = indexed(layout, dtype, shape, values[0] if layout == "codebook" else values, index, width)
    return dataclasses.replace(packed, factor=factor)


def _common_divisor(values: Tensor) -> int:
    """The largest integer that divides all ``values``; 1 for real numbers, and if all are 0."""
    return 1 if values.is_floating_point() else int(np.gcd.reduce(values.flatten().cpu().numpy())) or 1


def _size(values: Tensor, index: Tensor, width: int) -> int:
    return values.numel() * values.element_size() + math.ceil(index.numel() * width / 8)


def unpack_weights(packed: Packed, axon_types: Tensor | None, group_of_output: Tensor | None) -> Tensor:
    """The weights from the result of :func:`pack_weights`.

    Args:
        packed: result of :func:`pack_weights`.
        axon_types: the projection's axon types.
        group_of_output: the groups of the projection's codebook.

    Raises:
        ValueError: when the parts do not fit together.
    """
    return _unpack_divided(packed, axon_types, group_of_output).to(DTYPES[packed.dtype]) * packed.factor


def _unpack_divided(packed: Packed, axon_types: Tensor | None, group_of_output: Tensor | None) -> Tensor:
    """The weights without their common factor."""
    if packed.layout in ("plain", "codebook"):
        return unpack(packed)
    values, shape = packed.parts["values"], packed.shape
    rows = group_of_output if packed.layout == "group_codebook" else torch.arange(shape[0])
    if rows is None or values.dim() != 2 or len(rows) != shape[0] or len(values) != int(rows.max()) + 1:
        raise ValueError(f"{packed.layout} of shape {tuple(values.shape)} does not fit weights of shape {shape}")
    if packed.layout == "axon":
        if axon_types is None:
            raise ValueError("values by type without the types of the inputs")
        weight = values[:, _types_of_columns(axon_types, shape)] * indices_of(packed, 2).view(shape[0], -1)
    else:
        weight = values[rows[:, None], indices_of(packed, values.shape[1]).view(shape[0], -1)]
    return weight.reshape(shape)


def _values_by_type(weight: Tensor, axon_types: Tensor) -> Tensor | None:
    """The value of each output for each type, ``[out, types]``; None if an output has several values of one type."""
    types, rows = _types_of_columns(axon_types, tuple(weight.shape)), weight.flatten(1)
    table = rows.new_zeros(len(rows), int(types.max()) + 1)
    outputs, columns = rows.nonzero(as_tuple=True)
    table[outputs, types[columns]] = rows[outputs, columns]
    return table if torch.equal(table[:, types] * (rows != 0), rows) else None


def _types_of_columns(types: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The type of each column of a flattened weight of ``shape``; all groups of a convolution have the same types."""
    return types[: shape[1]].repeat_interleave(math.prod(shape[2:]))


def describe(program: Program) -> tuple[Any, dict[str, Tensor]]:
    """``program`` as a description that JSON can hold, and all its tensors by the names that the description uses.

    The description is generated from the dataclasses' fields, so that a new field is stored without a change here.

    Raises:
        BundleError: when a field holds a value that can't be stored, naming it.
    """
    tensors: dict[str, Tensor] = {}
    return _encode(program, "program", tensors), tensors


def rebuild(description: Any, tensors: dict[str, Tensor]) -> Program:
    """The program from the result of :func:`describe`, equal in every field and every tensor.

    Raises:
        ValueError: when tensors do not fit together.
        KeyError: when a tensor is missing, or a class is unknown.
    """
    return _decode(description, tensors)


def _encode(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    """``value`` as JSON; its tensors are packed into ``tensors``, named by their path ``where``."""
    if isinstance(value, Tensor):
        return _encode_tensor(lambda: pack(value), where, tensors)
    if dataclasses.is_dataclass(value) and type(value).__name__ in CLASSES:
        apart = _APART if isinstance(value, Projection) else ()
        names = [field.name for field in dataclasses.fields(value) if field.name not in apart]
        fields = {name: _encode(getattr(value, name), f"{where}.{name}", tensors) for name in names}
        if isinstance(value, Projection):
            fields["weight"] = _encode_tensor(lambda: pack_weights(value), f"{where}.weight", tensors)
            fields["codebook"] = _encode_groups(value.codebook, f"{where}.codebook", tensors)
        return {"class": type(value).__name__, "fields": fields}
    if isinstance(value, tuple):
        return [_encode(entry, f"{where}.{index}", tensors) for index, entry in enumerate(value)]
    if isinstance(value, InputKind):
        return {"input_kind": value.value}
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}  # JSON has no infinity
    raise BundleError(
        f"{where}: got {value!r}, expected a tensor, a tuple, a number, text, None or one of {', '.join(CLASSES)}."
    )


def _encode_tensor(packing: Callable[[], Packed], where: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    try:
        packed = packing()
    except (TypeError, ValueError) as error:
        raise BundleError(f"{where}: {error}.") from error
    tensors.update({f"{where}.{name}": part for name, part in packed.parts.items()})
    form = {"layout": packed.layout, "dtype": packed.dtype, "shape": list(packed.shape), "bits": packed.bits}
    return {"tensor": where, **form, "factor": packed.factor}


def _encode_groups(codebook: StoredWeights | None, where: str, tensors: dict[str, Tensor]) -> Any:
    """Which outputs share values; the weights and these groups determine the codebook."""
    if codebook is None:
        return None
    groups = codebook.group_of_output
    if codebook.groups == 1:
        return "layer"
    if torch.equal(groups, torch.arange(len(groups))):
        return "output"
    return _encode(groups, f"{where}.group_of_output", tensors)


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return tuple(_decode(entry, tensors) for entry in value)
    if not isinstance(value, dict):
        return value
    if "float" in value:
        return float(value["float"])
    if "input_kind" in value:
        return InputKind(value["input_kind"])
    if "class" not in value:
        return unpack(_decode_packed(value, tensors))
    cls = CLASSES[value["class"]]
    apart = _APART if issubclass(cls, Projection) else ()
    fields = {name: _decode(entry, tensors) for name, entry in value["fields"].items() if name not in apart}
    if apart:
        packed = _decode_packed(value["fields"]["weight"], tensors)
        groups = _decode_groups(value["fields"]["codebook"], packed.shape[0], tensors)
        fields["weight"] = unpack_weights(packed, fields["axon_types"], groups)
        fields["codebook"] = None if groups is None else from_weights(fields["weight"], groups)
    return cls(**fields)


def _decode_packed(value: dict[str, Any], tensors: dict[str, Tensor]) -> Packed:
    if value["dtype"] not in DTYPES:
        raise ValueError(f"{value['tensor']}: a tensor of {value['dtype']}")
    names = ("values",) if value["layout"] == "plain" else ("values", "indices")
    parts = {name: tensors[f"{value['tensor']}.{name}"] for name in names}
    return Packed(value["layout"], value["dtype"], tuple(value["shape"]), value["bits"], parts, value["factor"])


def _decode_groups(value: Any, outputs: int, tensors: dict[str, Tensor]) -> Tensor | None:
    """The group of each output from the result of :func:`_encode_groups`; None without a codebook."""
    if value is None:
        return None
    if isinstance(value, str):
        return torch.arange(outputs) if value == "output" else torch.zeros(outputs, dtype=torch.int64)
    return unpack(_decode_packed(value, tensors))
