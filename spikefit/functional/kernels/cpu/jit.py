"""How the CPU kernels are compiled, and how many threads they use."""

import functools
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numba
import numpy as np
import torch
from numba import prange

_disabled: dict[Any, Any] = {}
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` compiled by numba at its first call, and kept on disk for the next process."""
    return _compiled(function, parallel=False)


def parallel(function: Callable[..., Any]) -> Callable[..., Any]:
    """:func:`jit` with ``prange`` over several threads.

    What is parallel compiles several times more slowly: let it do no more than hand out work items to a function that
    is not, and pass them as ``np.int64``, or that function is compiled for signed and for unsigned numbers.
    """
    return _compiled(function, parallel=True)


def _compiled(function: Callable[..., Any], parallel: bool) -> Callable[..., Any]:
    options: dict[str, Any] = {"parallel": parallel, "nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder that a compiled kernel may be kept in: compile anew in each process
        return numba.njit(**options)(function)


def opaque(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """``function``, which ``torch.compile`` calls as it is instead of looking into it.

    This is ``torch.compiler.disable``, but for the import of the compiler, a second and more: without it nobody looks.
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
    """Let the kernels use as many threads as torch does."""
    threads = torch.get_num_threads()
    _start_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


@functools.cache
def _start_threads() -> None:
    """Run a first parallel kernel: it may set the thread count of an OpenMP that torch shares, which is put back."""
    threads = torch.get_num_threads()
    _start(np.zeros(1))
    torch.set_num_threads(threads)


@parallel
def _start(x: np.ndarray[Any, Any]) -> None:
    for i in prange(len(x)):
        x[i] = i
