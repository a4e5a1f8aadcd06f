"""Collection of the data of a report's pictures, from networks, programs, placements and samples."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d

from spikefit.deploy.report.picture_data import (
    DIGITS,
    RELAYS,
    CodebookEntry,
    CoreMapEntry,
    Histogram,
    RasterRows,
    RatesEntry,
    SampleEntry,
    TrainingRecord,
)
from spikefit.hardware.placement import CoreLoad, Placement
from spikefit.networks.blocks import Network
from spikefit.program.ir import Program
from spikefit.program.simulate import Simulation
from spikefit.prune.groups import live_synapses
from spikefit.quantize.base import Quantizer, latent_weight, quantizer_of

BINS = 48
MAX_VALUES = 32  # values of a codebook that are told apart; more are binned
MAX_ROWS, MAX_ROWS_PER_LAYER, MAX_STEPS = 128, 32, 128  # of a raster
MAX_SIDE = 32  # of the picture of an input
MAX_CLASSES = 128  # of a confusion matrix
MAX_CORES = 4096
SATURATED = 0.95


def histogram(values: Tensor, bins: int = BINS, low: float | None = None, high: float | None = None) -> Histogram:
    """The histogram of ``values``, from ``low`` (default: the smallest) to ``high`` (default: the largest).

    Example:
        >>> histogram(torch.tensor([0.0, 1.0, 1.0]), bins=2)
        Histogram(low=0.0, high=1.0, counts=(1, 2))
    """
    values = values.detach().flatten().double().cpu()
    if not len(values):
        return Histogram(0.0, 1.0, (0,) * bins)
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts = torch.histc(values, bins, low, high).long().tolist()
    return Histogram(_short(low), _short(high), tuple(counts))


def layer_weights(network: Network) -> dict[str, Histogram]:
    """Histograms of the latent weights of the living synapses, by layer."""
    return {
        name: histogram(latent_weight(layer)[live_synapses(network, name)]) for name, layer in network.named_synapses()
    }


def codebook_values(quantizer: Quantizer) -> tuple[float, ...]:
    """The values of a quantizer that has a table of them, ascending; empty for another one, or for too many values."""
    values = getattr(quantizer, "values", None)
    if not callable(values):
        return ()
    distinct = values().detach().double().cpu().unique().tolist()
    return tuple(map(_short, distinct)) if len(distinct) <= MAX_VALUES else ()


def codebooks(network: Network, record: TrainingRecord | None = None) -> tuple[CodebookEntry, ...]:
    """Weights and values of every layer with weights, in network order.

    Args:
        network: the deployed network.
        record: its training, for the weights before compression.
    """
    before = {} if record is None or record.before is None else record.before
    first = {} if record is None or record.first_values is None else record.first_values
    return tuple(
        _codebook(network, name, layer, before.get(name), tuple(first.get(name, ())))
        for name, layer in network.named_synapses()
    )


@torch.no_grad()
def _codebook(
    network: Network, name: str, layer: nn.Module, before: Histogram | None, first: tuple[float, ...]
) -> CodebookEntry:
    latent, live, quantizer = latent_weight(layer).detach(), live_synapses(network, name), quantizer_of(layer)
    kind, tables, binned = None, 1, False
    values, counts = tuple[float, ...](), tuple[int, ...]()
    if quantizer is not None and quantizer.strength == 1 and bool(live.any()):
        kind, tables = type(quantizer).__name__, len(getattr(quantizer, "codebook", (0,)))
        used = quantizer.quantize(latent)[live].double().cpu()
        distinct, found = used.unique(return_counts=True)
        binned = len(distinct) > MAX_VALUES
        if binned:
            bins = histogram(used)
            centres = [(low + high) / 2 for low, high in zip(bins.edges, bins.edges[1:], strict=False)]
            values, counts = tuple(map(_short, centres)), bins.counts
        else:
            values, counts = tuple(map(_short, distinct.tolist())), tuple(found.tolist())
    return CodebookEntry(name, kind, tables, histogram(latent[live]), values, counts, binned, before, first)


def rates(program: Program, fired: Mapping[str, Tensor], samples: int) -> tuple[RatesEntry, ...]:
    """Firing rates of the spiking populations.

    Args:
        program: the simulated program.
        fired: number of spikes of each neuron over all samples, by population.
        samples: number of samples.
    """
    found = []
    for population in program.populations:
        if not population.spiking or population.name not in fired:
            continue
        rate = fired[population.name].flatten().double() / (samples * program.time_steps)
        high = 1.0 if population.max_spikes == 1 else max(1.0, float(rate.max()) if len(rate) else 1.0)
        saturated = int((rate >= SATURATED * population.max_spikes).sum())
        entry = RatesEntry(
            population.name, histogram(rate, 20, 0.0, high), int((rate == 0).sum()), saturated, len(rate)
        )
        found.append(entry)
    return tuple(found)


def confusion_counts(labels: Tensor, predicted: Tensor, classes: int) -> Tensor | None:
    """Number of samples by label and predicted class, int64 ``[classes, classes]``; None for too many classes."""
    if classes > MAX_CLASSES:
        return None
    return torch.bincount(labels.long() * classes + predicted.long(), minlength=classes**2).view(classes, classes)


def sample_entry(program: Program, simulation: Simulation, inputs: Tensor, label: int, sample: int) -> SampleEntry:
    """A sample with its raster.

    Args:
        program: the simulated program.
        simulation: of this sample alone, with its spikes recorded.
        inputs: ``[T, 1, ...]``.
        label: its class.
        sample: its position in the test set.
    """
    logits = simulation.logits[0]
    scores, classes = logits.topk(min(3, len(logits)))
    spiking = [population for population in program.populations if population.spiking]
    most = max(4, min(MAX_ROWS_PER_LAYER, MAX_ROWS // max(1, len(spiking))))
    picture, over_time = _picture(inputs[:, 0])
    return SampleEntry(
        sample=sample,
        label=label,
        predicted=int(logits.argmax()),
        scores=tuple(map(_short, scores.tolist())),
        classes=tuple(classes.tolist()),
        steps=len(inputs),
        picture=picture,
        over_time=over_time,
        rows=tuple(_raster(population.name, simulation.spikes[population.name][:, 0], most) for population in spiking),
    )


def _raster(name: str, spikes: Tensor, most: int) -> RasterRows:
    """Rows of at most ``most`` neurons, evenly spaced among those of ``spikes`` ``[T, ...]``."""
    flat = spikes[:MAX_STEPS].flatten(1)
    neurons = flat.shape[1]
    shown = torch.linspace(0, neurons - 1, min(most, neurons)).round().long()
    counts = flat[:, shown].T.long().clamp(max=len(DIGITS) - 1).tolist()
    rows = tuple("".join(DIGITS[count] if count else "." for count in row) for row in counts)
    return RasterRows(name, neurons, tuple(shown.tolist()), rows)


def _picture(inputs: Tensor) -> tuple[tuple[str, ...], bool]:
    """Rows of hexadecimal digits for the inputs ``[T, ...]`` of a sample, and whether the columns are steps."""
    over_time = inputs.dim() != 4
    image = inputs.double().flatten(1).T if over_time else inputs.double().mean(dim=(0, 1))
    sides = [min(side, MAX_SIDE if not over_time else MAX_STEPS) for side in image.shape]
    image = adaptive_max_pool2d(image[None, None], (min(sides[0], MAX_SIDE), sides[1]))[0, 0]
    low, high = image.min(), image.max()
    levels = ((image - low) / (high - low) * 15).round().long() if bool(high > low) else torch.zeros_like(image).long()
    return tuple("".join(DIGITS[level] for level in row) for row in levels.tolist()), over_time


def core_map(placement: Placement) -> CoreMapEntry | None:
    """Content and position of the cores in use; None without cores."""
    cores = placement.cores[:MAX_CORES]
    if not cores:
        return None
    layers = list(dict.fromkeys(name for core in cores for name in core.populations))
    layers += [RELAYS] if any(core.splitters for core in cores) else []
    mesh = placement.positions is not None
    columns = max(1, round(len(cores) ** 0.5 + 0.499))
    places = placement.positions[:MAX_CORES].tolist() if mesh else [divmod(i, columns) for i in range(len(cores))]  # type: ignore[index]
    return CoreMapEntry(
        mesh=mesh,
        used=placement.cores_used,
        layers=tuple(layers),
        content=tuple(_content(core, layers) for core in cores),
        fill=tuple(round(100 * max(core.utilisation.values(), default=0.0)) for core in cores),
        row=tuple(int(row) for row, _ in places),
        column=tuple(int(column) for _, column in places),
    )


def _content(core: CoreLoad, layers: list[str]) -> tuple[int, ...]:
    held = [(layers.index(part.population), len(part.neurons)) for part in core.parts]
    held += [(layers.index(RELAYS), core.splitters)] if core.splitters else []
    return tuple(number for pair in sorted(held, key=lambda pair: -pair[1]) for number in pair)


def _short(value: float) -> float:
    """``value`` with six significant digits, for a small file."""
    return float(f"{value:.6g}")
