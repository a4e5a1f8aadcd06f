"""Exact simulation of a program, step by step, with counts of its operations.

Integer sums are computed by floating-point kernels only if a bound proves that they are exact: if the largest possible
sum of magnitudes stays below 2**24 (float32) or 2**53 (float64), every partial sum in any order is an integer that the
format holds. Otherwise they are computed in int64. The same holds for membranes: the kernel of
:mod:`spikefit.functional.kernels.cpu.integer_scan_kernels` computes them in float64 if no value can exceed 2**53.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from spikefit.functional.fan_out import count_synops
from spikefit.input_kind import InputKind
from spikefit.networks.memory_format import channels_last
from spikefit.program.exact_format import exact_format, float_suffices
from spikefit.program.ir import LayerActivity, Population, Program, Projection
from spikefit.program.simulate_neurons import per_channel, run_neurons, scan_neurons, synaptic_currents


@dataclass(frozen=True)
class Simulation:
    """Result of simulating one batch.

    Attributes:
        logits: ``[B, classes]``: mean membrane input of a readout population (in the network's own units), or spike
            counts.
        activity: one entry per population after the input, averaged over the batch.
        samples: batch size B.
        fired: how often each neuron fired in the whole batch, by spiking population, float64, in its shape.
        spikes: by population, ``[T, B, ...]``; empty unless ``record`` was set.
        membranes: by population, before the reset, ``[T, B, ...]``; empty unless ``record`` was set.
    """

    logits: Tensor
    activity: tuple[LayerActivity, ...]
    samples: int
    fired: dict[str, Tensor]
    spikes: dict[str, Tensor]
    membranes: dict[str, Tensor]


class Simulator:
    """Simulates a program exactly, with kernels in the narrowest exact format.

    Args:
        program: in either precision.

    Example:
        >>> from spikefit.hardware.deployment_context import DeploymentContext
        >>> from spikefit.networks import MLP
        >>> from spikefit.program.lower import lower
        >>> program = lower(MLP((1, 8, 8), 10, hidden=[16]).eval(), DeploymentContext(None, 4, InputKind.SPIKES))
        >>> simulation = Simulator(program)(torch.ones(4, 2, 1, 8, 8))
        >>> simulation.logits.shape, [(layer.name, layer.neurons) for layer in simulation.activity]
        (torch.Size([2, 10]), [('fc1', 16), ('readout', 10)])
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._shapes = {population.name: population.shape for population in program.populations}
        self._fan_out = {projection.name: program.fan_out(projection) for projection in program.projections}
        self._synapses = {name: int(fan_out.sum()) for name, fan_out in self._fan_out.items()}
        self._pooled_fan_out = {
            projection.name: replace(projection, pool=1).fan_out(
                projection.pooled_shape(self._shapes[projection.source])
            )
            for projection in program.projections
            if projection.pool_kind == "max" and projection.pool > 1
        }
        self._weights = {p.name: kernel_weight(p, exact_format(program, p)) for p in program.projections}
        self._scanned = {
            population.name
            for population in program.populations[1:]
            if population.spiking and float_suffices(program, population)
        }
        self._windows = {name: _window(program.outputs_of(name)) for name in self._scanned}

    @torch.no_grad()
    def __call__(self, inputs: Tensor, record: bool = False) -> Simulation:
        """Simulate a batch.

        Args:
            inputs: ``[T, B, ...]``, spikes or real values; a constant image may be expanded in time (stride 0).
            record: whether to keep all spikes and membranes.

        Raises:
            DataError: for inputs that contradict the kind that the program declares.
        """
        program = self.program
        if program.populations[0].input_kind is not None:
            program.populations[0].input_kind.check(inputs, "the program")
        steps, samples = inputs.shape[:2]
        signals: dict[str, Tensor] = {program.populations[0].name: self._encode(inputs)}
        activity: list[LayerActivity] = []
        spikes: dict[str, Tensor] = {}
        membranes: dict[str, Tensor] = {}
        logits = torch.empty(0)
        sent: dict[str, Tensor] = {}
        pooled: set[str] = set()
        for population in program.populations[1:]:
            projections = program.inputs_of(population.name)
            parts = [
                self._current(projection, signals[projection.source], projection.source in pooled)
                for projection in projections
            ]
            if population.name in self._scanned and not record:
                current = sum(parts[1:], parts[0])
                window = self._windows[population.name]
                fired, sent[population.name], overflows = scan_neurons(
                    population, current, program.arithmetic, steps, window
                )
                pooled |= {population.name} if window > 1 else set()
            else:
                wide = torch.int64 if program.arithmetic.integer else torch.float64
                delivered: Tensor = sum(part.to(wide) for part in parts)  # type: ignore[assignment]
                delivered = delivered.expand(steps, *delivered.shape[1:])
                if population.synaptic_bias is not None:
                    delivered = delivered + per_channel(population.synaptic_bias, population)
                filtered, clipped = synaptic_currents(population, delivered, program.arithmetic)
                current = self._biased(population, filtered)
                fired, membrane, overflows = run_neurons(population, current, program.arithmetic, record)
                overflows += clipped
                if record:
                    spikes[population.name], membranes[population.name] = fired, membrane
            signals[population.name] = fired
            activity.append(self._activity(population, projections, signals, sent, steps, samples, overflows))
            if population is program.populations[-1]:
                logits = self._logits(population, fired if population.spiking else current, fired)
        fired_of = {name: counts for name, counts in sent.items() if program.population(name).spiking}
        return Simulation(logits, tuple(activity), samples, fired_of, spikes, membranes)

    def _encode(self, inputs: Tensor) -> Tensor:
        """Inputs as the chip receives them: real numbers in the program's units, spikes up to the chip's maximum.

        A constant image becomes one frame that is expanded in time.
        """
        source, arithmetic = self.program.populations[0], self.program.arithmetic
        constant = source.input_kind is InputKind.CONSTANT
        frames = inputs[:1] if constant else inputs
        if not arithmetic.integer:
            signal = frames.to(torch.float64)
        elif source.graded:
            signal = arithmetic.input_units(frames.double())
        else:
            signal = frames.to(torch.float32).clamp(max=source.max_spikes)
        return signal.expand(len(inputs), *signal.shape[1:]) if constant else signal

    def _current(self, projection: Projection, signal: Tensor, pooled: bool) -> Tensor:
        """Synaptic current ``[T, B, *target]`` in the projection's exact format; ``[1, ...]`` for a constant signal."""
        signal = signal[:1] if _is_constant(signal) else signal
        weight = self._weights[projection.name]
        folded = signal.flatten(0, 1) if pooled else pool(signal.flatten(0, 1), projection)
        folded = folded.to(torch.float64 if weight.dtype == torch.int64 else weight.dtype)
        return propagate(projection, folded, weight).unflatten(0, signal.shape[:2])

    def _biased(self, population: Population, current: Tensor) -> Tensor:
        assert population.bias is not None
        return current + per_channel(population.bias, population)

    def _logits(self, population: Population, current: Tensor, fired: Tensor) -> Tensor:
        if population.spiking:
            return fired.sum(dim=0).double()
        assert population.unit is not None
        return current.sum(dim=0).double() * population.unit / self.program.time_steps

    def _activity(
        self,
        population: Population,
        projections: Sequence[Projection],
        signals: dict[str, Tensor],
        sent: dict[str, Tensor],
        steps: int,
        samples: int,
        overflows: int,
    ) -> LayerActivity:
        """Operation counts of a population; ``sent`` caches how often each neuron of a source has fired."""
        synops = macs = 0
        for projection in projections:
            signal = signals[projection.source]
            if self.program.is_encoder(projection):
                # A constant image drives a constant current, which is computed once.
                signal = (signal[:1] if _is_constant(signal) else signal) != 0
                macs += int(count_synops(signal, self._fan_out[projection.name]).sum())
            elif projection.name in self._pooled_fan_out:
                pooled = pool(signal.flatten(0, 1), projection).unflatten(0, signal.shape[:2])
                synops += int(count_synops(pooled, self._pooled_fan_out[projection.name]).sum())
            else:
                if projection.source not in sent:
                    sent[projection.source] = signal.sum(dim=(0, 1), dtype=torch.float64)
                synops += int((sent[projection.source] * self._fan_out[projection.name]).sum())
        if population.spiking and population.name not in sent:
            sent[population.name] = signals[population.name].sum(dim=(0, 1), dtype=torch.float64)
        return LayerActivity(
            name=population.name,
            neurons=population.neurons,
            synapses=sum(self._synapses[projection.name] for projection in projections),
            spikes=float(sent[population.name].sum()) / samples if population.spiking else 0.0,
            synops=synops / samples,
            macs=macs / samples,
            updates=float(population.neurons * steps),
            overflows=overflows / samples,
        )


def pool(signal: Tensor, projection: Projection) -> Tensor:
    """Pool spikes ``[N, C, H, W]`` as the projection does: sums over windows, or their OR."""
    if projection.pool == 1:
        return signal
    if projection.pool_kind == "max":
        return F.max_pool2d(signal, projection.pool)
    return F.avg_pool2d(signal, projection.pool, divisor_override=1)


def kernel_weight(projection: Projection, dtype: torch.dtype) -> Tensor:
    """The weights of ``projection`` in the dtype and memory layout that :func:`propagate` expects."""
    weight = projection.weight.to(dtype)
    return weight if projection.kind == "dense" or dtype == torch.int64 else channels_last(weight)


def propagate(projection: Projection, signal: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums of ``signal`` ``[N, ...]`` in the dtype of ``weight``; int64 sums are always exact."""
    if weight.dtype != torch.int64:
        if projection.kind == "dense":
            return signal.flatten(1) @ weight.T
        return F.conv2d(channels_last(signal), weight, **projection.conv_options)
    if projection.kind == "dense":
        return signal.flatten(1).to(torch.int64) @ weight.T
    return _integer_conv(projection, signal, weight)


def _integer_conv(projection: Projection, signal: Tensor, weight: Tensor) -> Tensor:
    """Convolution in int64, as a product with unfolded patches, one group at a time."""
    groups = projection.groups
    size = (weight.shape[2], weight.shape[3])
    options = projection.conv_options
    patches = F.unfold(signal, size, options["dilation"], options["padding"], options["stride"]).to(torch.int64)
    patches = patches.unflatten(1, (groups, -1))
    kernels = weight.flatten(1).unflatten(0, (groups, -1))
    sums = torch.stack([kernels[group] @ patches[:, group] for group in range(groups)], dim=1).flatten(1, 2)
    height = (signal.shape[2] + 2 * options["padding"][0] - options["dilation"][0] * (size[0] - 1) - 1) // options[
        "stride"
    ][0] + 1
    return sums.unflatten(2, (height, -1))


def _window(outputs: Sequence[Projection]) -> int:
    """Side of the window of sum pooling that all ``outputs`` share; 1 if they differ."""
    windows = {projection.pool if projection.pool_kind == "sum" else 1 for projection in outputs}
    return windows.pop() if len(windows) == 1 else 1


def merge_activity(parts: Sequence[tuple[Sequence[LayerActivity], int]]) -> tuple[LayerActivity, ...]:
    """Average the activity of several batches, each given with its number of samples."""
    total = sum(samples for _, samples in parts)
    merged = []
    for layers in zip(*(activity for activity, _ in parts), strict=True):
        means = {
            field: sum(getattr(layer, field) * samples for layer, (_, samples) in zip(layers, parts, strict=True))
            / total
            for field in ("spikes", "synops", "macs", "updates", "overflows")
        }
        merged.append(replace(layers[0], **means))
    return tuple(merged)


def _is_constant(signal: Tensor) -> bool:
    return len(signal) > 1 and signal.stride(0) == 0
