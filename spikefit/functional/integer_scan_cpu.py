"""The neurons of a chip as a numba kernel: integers held by float64, several of which a processor handles at once.

The caller has proved that every value stays below 2**53 in magnitude, so that nothing here rounds but the leak, which
the chip rounds too. :func:`spikefit.deploy.dynamics.run_neurons` is the same in plain torch and int64.
"""

from typing import Any

import numpy as np
from numba import prange

from spikefit.functional.jit import jit, parallel

_SEGMENT = 1024  # lanes of one step: several arrays of this size stay in the first-level cache

Array = np.ndarray[Any, Any]
NONE, DECAY_FLOOR, DECAY_TRUNCATE, LINEAR = range(4)  # leaks
Rule = tuple[int, float, bool, bool, bool, float, float]  # leak, 2**decay_bits, reset to 0, bounded, wraps, low, high


@jit
def _leak(u: Array, leak: Array, kind: int, one: float) -> None:
    if kind == DECAY_FLOOR:
        for i in range(len(u)):
            u[i] = np.floor(u[i] * (one - leak[i]) / one)
    elif kind == DECAY_TRUNCATE:
        for i in range(len(u)):
            u[i] = np.trunc(u[i] * (one - leak[i]) / one)
    elif kind == LINEAR:
        for i in range(len(u)):
            u[i] = u[i] - np.copysign(min(abs(u[i]), leak[i]), u[i])


@jit
def _bound(v: Array, wraps: bool, low: float, high: float) -> int:
    outside = 0
    for i in range(len(v)):
        outside += (v[i] < low) | (v[i] > high)
    if outside and wraps:
        width = high - low + 1
        for i in range(len(v)):
            v[i] = v[i] - width * np.floor((v[i] - low) / width)
    elif outside:
        for i in range(len(v)):
            v[i] = min(max(v[i], low), high)
    return outside


@jit
def _scan(item: int, y: Array, bias: Array, theta: Array, leak: Array, rule: Rule, out: Array, counts: Array) -> int:
    kind, one, to_zero, bounded, wraps, low, high = rule
    run = len(bias)
    start = item * run
    n = min(run, y.shape[1] - start)
    moves = 1 if len(y) > 1 else 0
    u, v = np.zeros(n), np.empty(n)
    b, th, lk, c = bias[:n], theta[:n], leak[:n], counts[start : start + n]
    outside = 0
    for t in range(len(out)):
        current, o = y[t * moves, start : start + n], out[t, start : start + n]
        _leak(u, lk, kind, one)
        for i in range(n):
            v[i] = u[i] + (current[i] + b[i])
        if bounded:
            outside += _bound(v, wraps, low, high)
        for i in range(n):
            s = np.float32(1) if v[i] >= th[i] else np.float32(0)
            o[i] = s
            c[i] += s
        if to_zero:
            for i in range(n):
                w = v[i]
                u[i] = 0.0 if w >= th[i] else w
        else:
            for i in range(n):
                w = v[i]
                u[i] = w - th[i] if w >= th[i] else w
    return outside


@parallel
def _all(
    y: Array, bias: Array, theta: Array, leak: Array, rule: Rule, out: Array, counts: Array, outside: Array
) -> None:
    for item in prange(len(outside)):
        outside[item] = _scan(np.int64(item), y, bias, theta, leak, rule, out, counts)


def integer_scan(y: Array, bias: Array, theta: Array, leak: Array, rule: Rule, steps: int) -> tuple[Array, Array, int]:
    """Spikes of neurons that are driven by integer currents from rest.

    Args:
        y: float32 or float64 ``[T, lanes]``, or ``[1, lanes]`` for a current that is the same in every step; channels
            last, so that lane ``i`` belongs to channel ``i % C``.
        bias, theta, leak: float64 ``[C]``.
        rule: the leak's kind, ``2**decay_bits``, whether a spike resets to zero, and the range of the membrane.
        steps: T.

    Returns:
        float32 ``[T, lanes]`` of zeros and ones, their sums over time ``[lanes]``, and how many membranes left the
        range.
    """
    channels = len(bias)
    repeats = max(1, _SEGMENT // channels)
    tiled_bias, tiled_theta, tiled_leak = (np.tile(constant, repeats) for constant in (bias, theta, leak))
    counts = np.zeros(y.shape[1], dtype=np.float32)
    out = np.empty((steps, y.shape[1]), dtype=np.float32)
    outside = np.zeros(-(-y.shape[1] // (channels * repeats)), dtype=np.int64)
    _all(y, tiled_bias, tiled_theta, tiled_leak, rule, out, counts, outside)
    return out, counts, int(outside.sum())
