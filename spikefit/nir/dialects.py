r"""How time-stepped libraries read NIR's continuous-time neurons.

NIR (Pedersen et al. 2024, doi 10.1038/s41467-024-52259-9; docstrings of ``nir.LIF`` and ``nir.IF``) describes neurons
by

.. math::
    \tau \dot v = (v_{leak} - v) + R I \quad (LIF), \qquad \dot v = R I \quad (IF), \qquad z = 1 \text{ if } v > v_{thr}

with a reset to :math:`v_{reset}`. It says neither how long a step is nor how a step is taken; each library has its own
way, here called its *dialect*. With a step ``dt`` in seconds a step of LIF is ``v <- lambda * v + G * I``, where

* ``euler``: ``lambda = 1 - dt / tau`` and ``G = R * dt / tau`` (forward Euler);
* ``exponential``: ``lambda = exp(-dt / tau)`` and ``G = R * (1 - lambda)`` (exact for a current that holds for a step),

and a step of IF is ``v <- v + R * dt * I``. A spikefit neuron has ``G = 1``.

What the libraries do, read off their sources (snnTorch 1.0.0, Norse 1.1.0, sinabs 3.1.3, SpikingJelly 2.0.0) and
checked in ``tests/interop``:

============  ======  ===========  ===========================  =====  ==============  =======
dialect       dt      step         R                            fires  reset           pooling
============  ======  ===========  ===========================  =====  ==============  =======
nir           1e-4    euler        by the equations             above  to ``v_reset``  both
snntorch      1e-4    euler        by the equations             above  to 0            average
spikingjelly  1e-4    euler        1 or ``tau / dt``            at     to ``v_reset``  average
norse         1e-3    euler        taken as 1; IF: G = 1        above  to 0            sum
sinabs        1 step  exponential  G = 1 in any case            at     subtracts       sum
============  ======  ===========  ===========================  =====  ==============  =======

snnTorch and SpikingJelly take one threshold a layer. sinabs' neurons may send several spikes in a step
(``MultiSpike``); ours send one (its ``SingleSpike``).

NIR's own documentation settles the differences so: a neuron fires *above* its threshold (SpikingJelly and sinabs fire
at it too), it is set to ``v_reset`` (sinabs subtracts the threshold), and R counts (Norse warns that it ignores R,
sinabs does not).

What goes wrong in a library, and can't be mended here:

* snnTorch reads ``IF`` as a leaky neuron with a decay of 0.9. It writes neither a reset by subtraction nor a delayed
  one, which in its ``Synaptic`` swallows the input of a step: build ``Leaky`` with ``reset_mechanism="zero"`` and
  ``Synaptic`` with ``reset_delay=False`` too.
* sinabs gives an ``IF`` that it reads a floor of minus its threshold (set its ``min_v_mem`` to None), can't read a LIF
  on a map, and writes R = 1 for a LIF with ``norm_input=False``, whose G is 1.
* Norse writes ``tau * dt`` for ``tau`` unless its ``to_nir`` is called with ``dt=1``.
* snnTorch and Norse flatten the batch too when they read a ``Flatten`` that starts at NIR's first dimension: such a
  network takes one sample at a time there.
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
    """The conventions of one library; see the module.

    Attributes:
        name: of the library.
        dt: length of a step, seconds.
        discretisation: how a step of LIF is taken.
        resistance: what R a LIF is written with: ``scaled``, so that G = 1, or ``one``, with thresholds scaled instead.
        if_gain: whether an IF adds ``R * dt * I`` (``per_second``) or ``R * I`` (``per_step``) in a step.
        fires: ``above`` the threshold, or ``at`` the threshold too.
        reset: to ``zero``, or ``subtract`` the threshold (which NIR's equations do not know).
        thresholds: whether the library takes one threshold a ``neuron``, or one a ``layer``.
        pooling: the node of average pooling that the library reads.
        nodes: those of neurons that it reads as NIR defines them.
        linear: whether it reads ``nir.Linear``; else ``nir.Affine`` with zero biases is written.
    """

    name: str
    dt: float = 1e-4
    discretisation: Discretisation = "euler"
    resistance: Literal["scaled", "one"] = "scaled"
    if_gain: Literal["per_second", "per_step"] = "per_second"
    fires: Fires = "above"
    reset: Literal["zero", "subtract"] = "zero"
    thresholds: Literal["neuron", "layer"] = "neuron"
    pooling: Literal["avg", "sum"] = "avg"
    nodes: tuple[str, ...] = tuple(NIR_LEAKS)
    linear: bool = True


DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect("nir"),
        Dialect("snntorch", thresholds="layer", nodes=("LIF",)),
        Dialect("spikingjelly", fires="at", thresholds="layer"),
        Dialect("norse", dt=1e-3, resistance="one", if_gain="per_step", pooling="sum"),
        Dialect(
            "sinabs",
            dt=1.0,
            discretisation="exponential",
            if_gain="per_step",
            fires="at",
            reset="subtract",
            pooling="sum",
            linear=False,
        ),
    )
}


def dialect_called(name: str) -> Dialect:
    """The dialect of that name.

    Raises:
        ConfigurationError: naming all of them, if there is none.
    """
    check_choice("dialect", name, DIALECTS)
    return DIALECTS[name]


def require_nir() -> Any:
    """The package ``nir``.

    Raises:
        ExchangeError: saying how to get it, when it is not installed.
    """
    try:
        return importlib.import_module("nir")
    except ImportError as error:
        raise ExchangeError(
            "NIR needs the package nir, which is not installed: pip install 'spikefit[interop]'."
        ) from error
