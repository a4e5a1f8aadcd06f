"""Descriptions of chips, read from YAML with the source of every figure (:mod:`spikefit.hardware.sourced_value`).

``value: null`` says that nobody published a figure: whatever depends on it is skipped or reported as unknown. A figure
that is omitted does not apply to the chip.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import yaml

from spikefit.errors import TargetError
from spikefit.functional.neuron_models import MODELS, lacks_integer
from spikefit.hardware.chip_fields import EnergyConstants, LayerLimits, Limits, NeuronLimits, Weights
from spikefit.hardware.chip_rules import FAMILIES, refuse_contradictions, refuse_unchecked
from spikefit.hardware.sourced_value import (
    Kind,
    SourcedValue,
    choice,
    expect,
    expect_keys,
    known,
    known_or,
    read_section,
    sourced_values_of,
    to_plain,
)
from spikefit.locations import shipped_configs
from spikefit.strict_yaml import read_yaml

if TYPE_CHECKING:  # reading a description must not wait for torch
    from torch import Tensor

    from spikefit.program.ir import Arithmetic, Population

Value = TypeVar("Value")


@dataclass(frozen=True)
class HardwareTarget:
    """Description of a chip: its limits, arithmetic and energy constants.

    Attributes:
        name: name of the file without its suffix.
        description: description in one line.
        family: how networks are placed on the chip's cores, one of ``memory``, ``crossbar``, ``layer_per_core``,
            ``single_core``.
        limits, weights, neuron, layers, energy: the chip's sourced values.

    Example:
        >>> chip = HardwareTarget.load("loihi")
        >>> chip.limits.cores.value, chip.weight_range(8)
        (128, (-128, 127))
    """

    name: str
    description: str
    family: str
    limits: Limits
    weights: Weights
    neuron: NeuronLimits
    layers: LayerLimits
    energy: EnergyConstants

    @classmethod
    def load(cls, name_or_path: str | Path) -> "HardwareTarget":
        """Read the description of a chip.

        Args:
            name_or_path: a name from :func:`available_targets`, or the path of a YAML file; a path has a folder or a
                suffix.

        Raises:
            TargetError: for an unknown name, or a missing or malformed file; names the file, the field, its value and
                the allowed values.
        """
        path = chip_file(name_or_path)
        try:
            content = read_yaml(path)
        except OSError as error:
            raise TargetError(f"hardware: {path} can't be read: {error.strerror}.") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise TargetError(f"{path}: not valid YAML: {error}") from error
        return cls.from_dict(content, name=path.stem, file=str(path))

    @classmethod
    def from_dict(cls, content: Any, name: str, file: str = "target") -> "HardwareTarget":
        """The chip that plain ``content`` describes; errors are those of :meth:`load` and name ``file``."""
        sections = {f.name: f.type for f in dataclasses.fields(cls) if dataclasses.is_dataclass(f.type)}
        keys = ("description", "placement", *sections)
        expect_keys(content, keys, keys, file, "")
        expect_keys(content["placement"], ("family",), ("family",), file, "placement")
        family, description = content["placement"]["family"], content["description"]
        expect(choice(*FAMILIES), family, file, "placement.family")
        expect(Kind("text", lambda value: isinstance(value, str)), description, file, "description")
        parsed = {key: read_section(cast(type, kind), content[key], file, key) for key, kind in sections.items()}
        for model in known(parsed["neuron"].models) or ():
            if lacks_integer(MODELS[model]):
                raise TargetError(
                    f"{file}: neuron.models.value: {MODELS[model]} {lacks_integer(MODELS[model])}; no chip computes it."
                )
        refuse_unchecked(family, parsed["limits"], file)
        refuse_contradictions(parsed["limits"], parsed["weights"], parsed["neuron"], parsed["layers"], file)
        return cls(name, description, family, **parsed)

    def to_dict(self) -> dict[str, Any]:
        """The chip as plain content, which :meth:`from_dict` reads back as an equal chip."""
        sections = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = {key: to_plain(section) for key, section in sections.items() if dataclasses.is_dataclass(section)}
        return {"description": self.description, "placement": {"family": self.family}, **plain}

    def sourced_values(self) -> Iterator[tuple[str, SourcedValue[Any]]]:
        """Yield every figure that applies to the chip, with its dotted path."""
        for entry in dataclasses.fields(self):
            yield from sourced_values_of(getattr(self, entry.name), entry.name)

    @property
    def widest_bits(self) -> int:
        """Width of the widest weight, bits."""
        return max(_need(self.weights.bits))

    def stored_bits(self, bits: int) -> int:
        """The narrowest width that holds a weight of ``bits`` bits; the widest width if none does."""
        return min((width for width in _need(self.weights.bits) if width >= bits), default=self.widest_bits)

    def weight_range(self, bits: int) -> tuple[int, int]:
        """Smallest and largest stored weight of ``bits`` bits, before the exponent."""
        low, high, narrower = _need(self.weights.min), _need(self.weights.max), self.widest_bits - bits
        if narrower <= 0:
            return low, high
        symmetric = -low == high
        top = ((high + 1) >> narrower) - 1
        return (-top if symmetric else low >> narrower), top

    def largest_weight(self, bits: int) -> int:
        """The largest magnitude that a stored weight of ``bits`` bits can have with either sign."""
        low, high = self.weight_range(bits)
        return max(0, min(-low, high))

    def exponent_range(self, bits: int) -> tuple[int, int]:
        """Smallest and largest exponent of weights of ``bits`` bits; (0, 0) for a chip without exponents."""
        shift = self.widest_bits - bits if known(self.weights.left_aligned) else 0
        return known_or(0, self.weights.exponent_min) + shift, self.exponent_max + shift

    @property
    def exponent_max(self) -> int:
        """The largest exponent that weights of the widest width may have: a factor of ``2**exponent``."""
        return known_or(0, self.weights.exponent_max)

    @property
    def threshold_max(self) -> int | None:
        """The largest threshold that a membrane can reach, in membrane units; None if there is no limit."""
        limits = [known(self.neuron.threshold_max), known(self.neuron.state_max)]
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def bias_max(self) -> int | None:
        """The largest magnitude that a bias may have with either sign, in membrane units."""
        low, high = known(self.neuron.bias_min), known(self.neuron.bias_max)
        return None if low is None or high is None else min(-low, high)

    def round_threshold(self, threshold: "Tensor") -> "Tensor":
        """Round ``threshold`` (membrane units) to the nearest values that its register can hold, int64."""
        import torch

        step, offset = known_or(1, self.neuron.threshold_step), known_or(0, self.neuron.threshold_offset)
        return ((threshold.double() - offset) / step).round().to(torch.int64) * step + offset

    def round_bias(self, bias: "Tensor") -> "Tensor":
        """Round ``bias`` (membrane units) to the nearest values that its register can hold, int64."""
        import torch

        mantissa = known(self.neuron.bias_mantissa_max)
        whole = bias.double().round()
        if mantissa is None:
            return whole.to(torch.int64)
        exponent = (whole.abs() / mantissa).clamp_min(1).log2().ceil()
        step = torch.exp2(exponent)
        return ((bias.double() / step).round() * step).to(torch.int64)

    def round_decay(self, kept: "Tensor") -> "Tensor":
        """Register value of a decay that keeps the share ``kept`` of a state: lost parts, or nearest shift; int64."""
        import torch

        arithmetic = self.arithmetic()
        if arithmetic.decay == "scale":
            return ((1 - kept) * 2**arithmetic.decay_bits).round().to(torch.int64)
        shift = -(1 - kept.double()).clamp_min(2.0**-62).log2()
        return shift.round().clamp(1, known(self.neuron.shift_max)).to(torch.int64)

    def cells(self, population: "Population") -> int:
        """Number of hardware neurons that one neuron of ``population`` takes; 0 for inputs."""
        if population.model == "input":
            return 0
        subtracts = population.spiking and population.reset == "subtract"
        return known_or(1, self.neuron.cells_for_subtract) if subtracts else 1

    def all_cells(self, populations: "Iterable[Population]") -> int:
        """Number of hardware neurons that ``populations`` take together."""
        return sum(population.neurons * self.cells(population) for population in populations)

    def differing_arithmetic(self, other: "HardwareTarget") -> list[str]:
        """Dotted names of the values of weights, neurons and layers in which ``other`` differs.

        These determine a program's integers; sizes and energies do not.
        """
        ours, theirs = ({name: figure.value for name, figure in chip.sourced_values()} for chip in (self, other))
        differing = (name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name))
        return [name for name in differing if name.startswith(("weights.", "neuron.", "layers."))]

    def arithmetic(self) -> "Arithmetic":
        """The arithmetic with which the chip computes a membrane."""
        from spikefit.program.ir import Arithmetic

        plain, neuron = Arithmetic(), self.neuron
        return Arithmetic(
            integer=True,
            state_min=known(neuron.state_min),
            state_max=known(neuron.state_max),
            overflow=known_or(plain.overflow, neuron.overflow),
            decay=known_or(plain.decay, neuron.decay),
            decay_bits=known_or(plain.decay_bits, neuron.decay_bits),
            decay_rounding=known_or(plain.decay_rounding, neuron.decay_rounding),
            input_scale=known_or(plain.input_scale, self.layers.input_scale),
            input_min=known(self.layers.input_min),
            input_max=known(self.layers.input_max),
        )


def available_targets() -> list[str]:
    """Names of the chips that come with the project."""
    return sorted(path.stem for path in _shipped_folder().glob("*.yaml"))


def chip_file(name_or_path: str | Path) -> Path:
    """The YAML file of a chip; arguments and errors are those of :meth:`HardwareTarget.load`."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return path
    shipped = _shipped_folder() / f"{path.name}.yaml"
    if path.name and shipped.is_file():
        return shipped
    names = available_targets()
    close = difflib.get_close_matches(str(name_or_path).lower(), names, 1)
    raise TargetError(
        f"hardware: got {str(name_or_path)!r}, expected one of {', '.join(names)} or the path of a YAML file."
        + (f" Did you mean {close[0]}?" if close else "")
    )


def _shipped_folder() -> Path:
    return shipped_configs() / "hardware"


def _need(figure: SourcedValue[Value]) -> Value:
    """The value of a required figure."""
    return cast(Value, figure.value)
