r"""Dialects of NIR: how time-stepped libraries discretise its continuous-time neurons.

NIR (Pedersen et al. 2024, doi 10.1038/s41467-024-52259-9; docstrings of ``nir.LIF`` and ``nir.IF``) describes neurons
by

.. math::
    \tau \dot v = (v_{leak} - v) + R I \quad (LIF), \qquad \dot v = R I \quad (IF), \qquad z = 1 \text{ if } v > v_{thr}

with a reset to :math:`v_{reset}`. It specifies neither the length of a step nor the discretisation; each library has
its own conventions, called its *dialect* here. With a step ``dt`` in seconds, a step of LIF is
``v <- lambda * v + G * I``, where

* ``euler``: ``lambda = 1 - dt / tau`` and ``G = R * dt / tau`` (forward Euler);
* ``exponential``: ``lambda = exp(-dt / tau)`` and ``G = R * (1 - lambda)`` (exact for a current that holds for a step),

and a step of IF is ``v <- v + R * dt * I``. A spikefit neuron has ``G = 1``.

Conventions of the libraries, according to their source code (snnTorch 1.0.0, Norse 1.1.0, sinabs 3.1.3,
SpikingJelly 2.0.0), checked in ``tests/interop``:

============  ======  ===========  ===========================  =====  ==============  =======
dialect       dt      step         R                            fires  reset           pooling
============  ======  ===========  ===========================  =====  ==============  =======
nir           1e-4    euler        by the equations             above  to ``v_reset``  both
snntorch      1e-4    euler        by the equations             above  to 0            average
spikingjelly  1e-4    euler        1 or ``tau / dt``            at     to ``v_reset``  average
norse         1e-3    euler        taken as 1; IF: G = 1        above  to 0            sum
sinabs        1 step  exponential  G = 1 in any case            at     subtracts       sum
============  ======  ===========  ===========================  =====  ==============  =======

snnTorch and SpikingJelly support one threshold per layer. Neurons of sinabs may send several spikes in a step
(``MultiSpike``); neurons of spikefit send one (``SingleSpike`` in sinabs).

NIR's documentation settles these differences as follows: a neuron fires *above* its threshold (SpikingJelly and sinabs
also fire at the threshold), the membrane is set to ``v_reset`` (sinabs subtracts the threshold), and R is used (Norse
ignores R with a warning, sinabs without one).

Problems of the libraries that can't be fixed here:

* No library writes whether its neurons reset to ``v_reset`` or subtract the threshold, which is the same in the
  continuous time of NIR but not in steps. SpikingJelly refuses to export neurons that subtract, the others export both
  alike: the dialect's reset is then assumed, with a warning, unless the option ``reset`` or the nodes' metadata (which
  ``spikefit.nir.write`` adds) name one.
* snnTorch reads ``IF`` as a leaky neuron with a decay of 0.9. Its default, ``reset_mechanism="subtract"``, subtracts
  the threshold after the leak of the next step; neurons of spikefit do as it does with ``reset_delay=False``. A delayed
  reset in ``Synaptic`` discards the input of a step. Neither is written: build ``Leaky`` with
  ``reset_mechanism="zero"``, and ``Synaptic`` also with ``reset_delay=False``.
* sinabs limits the membrane of an ``IF`` that it reads to at least minus the threshold (set ``min_v_mem`` to None),
  can't read a LIF on a map, and writes R = 1 for a LIF with ``norm_input=False``, whose G is 1.
* Norse writes ``tau * dt`` for ``tau`` unless its ``to_nir`` is called with ``dt=1``.
* snnTorch and Norse also flatten the batch when they read a ``Flatten`` that starts at NIR's first dimension: they run
  such a network with one sample at a time.
"""

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from spikefit.errors import ExchangeError, check_choice
from spikefit.functional.neuron_models import NIR_LEAKS

Discretisation = Literal["euler", "exponential"]
Fires = Literal["above", "at"]


@dataclass(frozen=True)
class Dialect:
    """The NIR conventions of one library; see the module's documentation.

    Attributes:
        name: name of the library.
        dt: length of a step, seconds.
        discretisation: how a step of LIF is discretised.
        resistance: R of a written LIF: ``scaled``, so that G = 1, or ``one``, with thresholds scaled instead.
        if_gain: whether an IF adds ``R * dt * I`` (``per_second``) or ``R * I`` (``per_step``) in a step.
        fires: ``above`` the threshold only, or also ``at`` the threshold.
        reset: to ``zero``, or ``subtract`` the threshold (which NIR's equations do not include).
        exported: resets of the neurons that the library exports alike, its default first.
        thresholds: whether the library supports one threshold per ``neuron`` or per ``layer``.
        pooling: the node of average pooling that the library reads.
        nodes: the neuron nodes that the library reads as NIR defines them.
        linear: whether the library reads ``nir.Linear``; otherwise ``nir.Affine`` with zero biases is written.

    Example:
        >>> dialect_called("sinabs").reset, dialect_called("norse").dt
        ('subtract', 0.001)
    """

    name: str
    dt: float = 1e-4
    discretisation: Discretisation = "euler"
    resistance: Literal["scaled", "one"] = "scaled"
    if_gain: Literal["per_second", "per_step"] = "per_second"
    fires: Fires = "above"
    reset: Literal["zero", "subtract"] = "zero"
    exported: tuple[Literal["zero", "subtract"], ...] = ("zero", "subtract")
    thresholds: Literal["neuron", "layer"] = "neuron"
    pooling: Literal["avg", "sum"] = "avg"
    nodes: tuple[str, ...] = tuple(NIR_LEAKS)
    linear: bool = True


DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect("nir"),
        Dialect("snntorch", exported=("subtract", "zero"), thresholds="layer", nodes=("LIF",)),
        Dialect("spikingjelly", fires="at", exported=("zero",), thresholds="layer"),
        Dialect("norse", dt=1e-3, resistance="one", if_gain="per_step", pooling="sum"),
        Dialect(
            "sinabs",
            dt=1.0,
            discretisation="exponential",
            if_gain="per_step",
            fires="at",
            reset="subtract",
            exported=("subtract", "zero"),
            pooling="sum",
            linear=False,
        ),
    )
}


def dialect_called(name: str) -> Dialect:
    """The dialect called ``name``.

    Raises:
        ConfigurationError: for an unknown name; lists all dialects.
    """
    check_choice("dialect", name, DIALECTS)
    return DIALECTS[name]


def require_nir() -> Any:
    """The package ``nir``, imported.

    Raises:
        ExchangeError: when it is not installed; says how to install it.
    """
    try:
        return importlib.import_module("nir")
    except ImportError as error:
        raise ExchangeError(
            "NIR needs the package nir, which is not installed: pip install 'spikefit[interop]'."
        ) from error
