"""A program of a Xylo chip as the network specification of Rockpool, SynSense's library for these chips.

The specification is the dictionary that Rockpool's ``mapper`` returns (Rockpool 3.1, ``rockpool.devices.xylo``): all
hidden populations are one recurrent layer. It is written as a NumPy file, which Rockpool reads as it is::

    specification = np.load("xylo.npz")
    simulated = XyloSim.from_specification(**specification)         # rockpool.devices.xylo.syns65302, Xylo Audio 3
    config, valid, message = config_from_specification(**specification)     # for the chip; needs samna

An input spikes up to 15 times a step: ``round(15 * x)`` for a real number ``x``. A spike of a hidden neuron arrives in
the next step, so that the outputs of a step are those of the chip as many steps later as there are hidden populations.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np

from spikefit.atomic import write_atomically
from spikefit.errors import ExchangeError
from spikefit.program.ir import Population, Program

# Their types on the chip: xylosim 0.1.3, XyloLayer.h and XyloIAFNeuron.h.
WEIGHT, CONSTANT, SHIFT = np.int8, np.int16, np.uint8


def specification(program: Program) -> dict[str, np.ndarray]:
    """Rockpool's specification of a program.

    Args:
        program: in ``target`` precision, dense and feed-forward, of neurons with a synaptic current.

    Returns:
        ``weights_in`` ``[inputs, hidden, 1]``, ``weights_rec`` ``[hidden, hidden, 1]`` and ``weights_out``
        ``[hidden, outputs]``, each from source to target; ``dash_mem``, ``dash_syn``, ``threshold`` and, where they are
        not 0, ``bias`` of each hidden neuron; the same with ``_out`` of each output. ``bias_hidden`` is the name of
        ``bias`` in ``config_from_specification``. Hidden neurons that the inputs don't reach, or that reach no output,
        are left out of ``weights_in`` (the last ones) and ``weights_out`` (the first ones), as Rockpool expects.

    Raises:
        ExchangeError: for a program of another kind of chip; names what differs.
    """
    _require_xylo(program)
    source, *hidden, output = program.populations
    starts, total = {}, 0
    for population in hidden:
        starts[population.name], total = total, total + population.neurons
    inward = np.zeros((source.neurons, total), WEIGHT)
    recurrent = np.zeros((total, total), WEIGHT)
    outward = np.zeros((total, output.neurons), WEIGHT)
    for projection in program.projections:
        weights = projection.weight.reshape(len(projection.weight), -1).T.numpy().astype(WEIGHT)
        before, after = starts.get(projection.source, 0), starts.get(projection.target, 0)
        rows, columns = slice(before, before + weights.shape[0]), slice(after, after + weights.shape[1])
        if projection.target == output.name:
            outward[rows] += weights
        elif projection.source == source.name:
            inward[:, columns] += weights
        else:
            recurrent[rows, columns] += weights
    content = {
        "weights_in": inward[:, : starts[hidden[1].name] if len(hidden) > 1 else total, None],
        "weights_rec": recurrent[:, :, None],
        "weights_out": outward[starts[hidden[-1].name] :],
        "dash_mem": _of(hidden, "leak", SHIFT),
        "dash_syn": _of(hidden, "synaptic_leak", SHIFT),
        "threshold": _of(hidden, "threshold", CONSTANT),
        "dash_mem_out": _of([output], "leak", SHIFT),
        "dash_syn_out": _of([output], "synaptic_leak", SHIFT),
        "threshold_out": _of([output], "threshold", CONSTANT),
    }
    bias, bias_out = _of(hidden, "bias", CONSTANT), _of([output], "bias", CONSTANT)
    if bias.any() or bias_out.any():
        content |= {"bias": bias, "bias_hidden": bias, "bias_out": bias_out}
    return content


def write_specification(program: Program, path: str | Path) -> Path:
    """Write :func:`specification` to ``path``, such as ``xylo.npz``, atomically, and return ``path``.

    Raises:
        ExchangeError: as :func:`specification`; nothing is written.
        StorageError: if the file can't be written.
    """
    content, buffer = specification(program), io.BytesIO()
    np.savez(buffer, **content)  # type: ignore[arg-type]
    return write_atomically(Path(path), buffer.getbuffer())


def _require_xylo(program: Program) -> None:
    name = program.target or "an exact program"
    arithmetic = program.arithmetic
    if program.precision != "target" or arithmetic.decay != "shift" or len(program.populations) < 3:
        raise ExchangeError(
            f"rockpool: got a program of {name}; expected one of a Xylo chip (xylo_audio2, xylo_audio3), with at least "
            "one hidden layer."
        )
    order = [population.name for population in program.populations]
    for population in program.populations[1:]:
        if population.model != "cuba_lif" or population.reset != "subtract":
            raise ExchangeError(
                f"rockpool: {population.name} has {population.model} neurons with the reset {population.reset!r}; a "
                "Xylo chip has CubaLIF neurons with the reset 'subtract'."
            )
    for projection in program.projections:
        if projection.kind != "dense" or projection.pool > 1 or bool(projection.exponent):
            raise ExchangeError(f"rockpool: {projection.name}: expected dense synapses without pooling.")
        if order.index(projection.target) != order.index(projection.source) + 1:
            raise ExchangeError(
                f"rockpool: {projection.name}: skips a layer; on the chip its spikes would arrive earlier than those "
                "of the layers between."
            )


def _of(populations: list[Population], name: str, dtype: Any) -> np.ndarray:
    """A constant of each neuron of ``populations``, in order."""
    return np.concatenate([_each(population, name) for population in populations]).astype(dtype)


def _each(population: Population, name: str) -> np.ndarray:
    values = getattr(population, name)
    channels = len(values)
    return np.repeat(values.numpy(), population.neurons // channels)
