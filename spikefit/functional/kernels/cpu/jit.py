"""Compilation and thread count of the CPU kernels."""

import functools
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any, ParamSpec, TypeVar

import numba
import numpy as np
import torch
from numba import prange

_disabled: dict[Any, Any] = {}
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` with numba at its first call, and cache the result on disk."""
    return _compiled(function, parallel=False)


def parallel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Like :func:`jit`, with ``prange`` running on as many threads as torch uses.

    A parallel function takes several times longer to compile. With a single thread a serial one is compiled instead. A
    parallel function should only pass work items to a function that is not parallel. Pass them as ``np.int64``; else
    that function is compiled twice, for signed and for unsigned integers.
    """
    threaded = _compiled(function, parallel=True)
    # Numba names the file of its cache after the function, whatever its options.
    serial = FunctionType(function.__code__, function.__globals__, f"{function.__name__}_serial")
    serial.__module__, serial.__qualname__ = function.__module__, f"{function.__qualname__}_serial"
    alone = _compiled(serial, parallel=False)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return (alone if torch.get_num_threads() == 1 else threaded)(*args)

    return call


def _compiled(function: Callable[..., Any], parallel: bool) -> Callable[..., Any]:
    options: dict[str, Any] = {"parallel": parallel, "nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no place for the cache (read-only folder, no source file): compile in each process
        return numba.njit(**options)(function)


def opaque(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Exclude ``function`` from ``torch.compile``, which then calls it without tracing it.

    The same as ``torch.compiler.disable``, except that it does not import the compiler, which takes more than a second.
    As long as nothing else imports the compiler, nothing is traced.
    """

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if function not in _disabled:
            _disabled[function] = torch.compiler.disable(function)
        return _disabled[function](*args, **kwargs)

    return call


def use_torch_threads() -> None:
    """Set the number of threads of the kernels to that of torch."""
    threads = torch.get_num_threads()
    if threads == 1:
        return
    _start_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


@functools.cache
def _start_threads() -> None:
    """Run a first parallel kernel, then restore torch's thread count: numba may change it if both share an OpenMP."""
    threads = torch.get_num_threads()
    _start(np.zeros(1))
    torch.set_num_threads(threads)


@parallel
def _start(x: np.ndarray[Any, Any]) -> None:
    for i in prange(len(x)):
        x[i] = i
