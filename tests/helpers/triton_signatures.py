"""Arguments with which the library's Triton kernels are compiled ahead of time: the heaviest of each."""

from itertools import product

import triton.language as tl

from spikefit.functional.kernels.cuda import norm_scan_kernels, scan

NUMBERS = {"fp32": tl.float32, "bf16": tl.float32, "fp64": tl.float64}


def _map(data: str) -> dict[str, object]:
    compute = "fp64" if data == "fp64" else "fp32"
    pointers = {
        **dict.fromkeys(("y", "out", "grad_out", "grad"), f"*{data}"),
        **dict.fromkeys(("terms", "constants", "amount", "grad_terms", "parts", "amounts"), f"*{compute}"),
        **dict.fromkeys(("mean", "var", "gain", "bias", "grad_gain", "grad_bias"), f"*{compute}"),
        **{"alive": "*i1", "eps": "*fp64"},
    }
    sizes = ("steps", "windows", "channels", "height", "width", "tall", "wide", "pixels", "count", "blocks")
    flags = {"NORM": True, "GATED": True, "LEAK": 2, "TO_ZERO": False, "SURROGATE": 1, "LEARNS": True}
    return {
        **pointers,
        **dict.fromkeys(sizes, "i32"),
        **dict.fromkeys(("stride", "out_stride"), "i64"),
        **{**flags, "COMPUTE": NUMBERS[data], "ONE_FRAME": False, "PARTS": 128, "COLS": 64},
    }


def _norm_scan():
    kernels = norm_scan_kernels
    for data, (steps, lanes), pool in product(("bf16", "fp32"), ((4, 4), (16, 1)), (1, 2)):
        arguments = {**_map(data), "STEPS": steps, "POOL": pool}
        name = f"{data}, {steps} steps, pool {pool}"
        yield f"fire, {name}", kernels.fire, {**arguments, "ROWS": 16 // pool}
        for sums, writes in ((True, False), (False, True), (True, True)):
            passes = {
                "SUMS": sums,
                "WRITES": writes,
                "MEASURED": writes and not sums,
                "LEARNS": sums,
                "ROWS": 2 * lanes,
            }
            yield f"fire_gradient, {name}, {passes}", kernels.fire_gradient, {**arguments, **passes}
    for data in NUMBERS:
        yield f"moments, {data}", kernels.moments, {**_map(data), "ROWS": 32}
        for kernel in (kernels.affine, kernels.affine_gradient):
            yield f"{kernel.fn.__name__}, {data}", kernel, {**_map(data), "MEASURED": True, "COLS": 16}


def _scan():
    for data, leak in product(NUMBERS, (0, 1, 2)):
        compute = "fp64" if data == "fp64" else "fp32"
        arguments = {
            **dict.fromkeys(("current", "spikes", "grad_spikes", "grad_current"), f"*{data}"),
            **dict.fromkeys(("constants", "membrane", "grad_amount"), f"*{compute}"),
            **dict.fromkeys(("steps", "lanes", "stride"), "i32"),
            **{"COMPUTE": NUMBERS[data], "LEAK": leak, "TO_ZERO": leak == 1, "SURROGATE": leak, "LEARNS": True},
            "BLOCK": 512,
        }
        yield f"scan, {data}, leak {leak}", scan._forward, arguments
        yield f"scan_gradient, {data}, leak {leak}", scan._backward, arguments


SIGNATURES = [*_norm_scan(), *_scan()]
