"""Arguments for the ahead-of-time compilation of the Triton kernels: those that use the most registers."""

import triton
import triton.language as tl

from spikefit.functional.kernels.cuda import codebook_kernels, integer_scan_kernels, norm_scan_kernels
from spikefit.functional.kernels.cuda import long_scan as scan
from spikefit.functional.kernels.cuda.integer_scan import _TILE
from spikefit.functional.kernels.cuda.norm_scan import gradient_block

NUMBERS = {"bf16": tl.float32, "fp32": tl.float32, "fp64": tl.float64}
INTEGER_RULES = (
    {"LEAK": 2, "WINDOW": 1, "MOST": 1, "TO_ZERO": False, "WRAPS": False, "MOVES": True},
    {"LEAK": 1, "WINDOW": 2, "MOST": 1, "TO_ZERO": True, "WRAPS": True, "MOVES": False},
    {"LEAK": 3, "WINDOW": 3, "MOST": 1, "TO_ZERO": False, "WRAPS": False, "MOVES": True},
    {"LEAK": 4, "WINDOW": 1, "MOST": 31, "TO_ZERO": False, "WRAPS": False, "MOVES": True},
)


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
    every = ((True, False), (False, True), (True, True))
    # A backward pass through 16 steps takes the compiler long: only the one that does most is compiled.
    for data, steps, pool, passes in (
        ("bf16", 4, 1, every),
        ("bf16", 4, 2, every),
        ("fp32", 4, 2, every),
        ("fp32", 16, 2, every[2:]),
    ):
        arguments = {**_map(data), "STEPS": steps, "POOL": pool}
        name = f"{data}, {steps} steps, pool {pool}"
        yield name, kernels.fire, {**arguments, "ROWS": 16 // pool}, 4
        for sums, writes in passes:
            options = {"SUMS": sums, "WRITES": writes, "MEASURED": writes and not sums, "LEARNS": sums}
            options["ROWS"] = gradient_block(steps) // 64
            yield f"{name}, {options}", kernels.fire_gradient, {**arguments, **options}, 4
    for data in NUMBERS:
        yield data, kernels.moments, {**_map(data), "ROWS": 32}, 4
        for kernel in (kernels.affine, kernels.affine_gradient):
            yield data, kernel, {**_map(data), "MEASURED": True, "COLS": 16}, 4


def _scan():
    for data, leak in (("bf16", 2), ("fp32", 0), ("fp32", 1), ("fp32", 2), ("fp64", 1)):
        compute = "fp64" if data == "fp64" else "fp32"
        arguments = {
            **dict.fromkeys(("current", "spikes", "grad_spikes", "grad_current"), f"*{data}"),
            **dict.fromkeys(("constants", "membrane", "grad_amount"), f"*{compute}"),
            **dict.fromkeys(("steps", "lanes", "stride"), "i32"),
            **{"COMPUTE": NUMBERS[data], "LEAK": leak, "TO_ZERO": leak == 1, "SURROGATE": leak, "LEARNS": True},
            "BLOCK": 512,
        }
        for kernel in (scan._forward, scan._backward):
            yield f"{data}, leak {leak}", kernel, arguments, 4


def _codebook():
    kernels = codebook_kernels
    names = ("weight", "codebook", "out", "x", "scale", "limits", "grad", "grad_codebook", "grad_scale")
    for data, levels in (("fp32", 4), ("bf16", 256), ("fp32", 256), ("fp64", 256)):
        double = data == "fp64"
        arguments = {
            **dict.fromkeys(("count", "blocks", "chunk", "chunks"), "i32"),
            **dict.fromkeys(("index", "rank"), "*u8"),
            **dict.fromkeys(names, f"*{data}"),
            **{"parts": "*fp64" if double else "*fp32", "COMPUTE": NUMBERS[data], "BLOCK": 1024},
            **{"LEVELS": levels, "PADDED": levels, "LANES": 8192 // levels, "BITS": (levels - 1).bit_length()},
        }
        for kernel, warps in ((kernels.lookup, 4), (kernels.gather, 4), (kernels.sum_by_index, 8)):
            yield f"{data}, {levels} values", kernel, arguments, warps
        for learned in (True, False) if data != "bf16" else ():
            options = {"WITH_ZERO": int(not learned), "ZERO": int(learned), "LEARNED": learned, "DOUBLE": double}
            options["PADDED"] = levels if learned else 2 * levels
            for kernel in (kernels.grid_values, kernels.grid_gradient):
                yield f"{data}, {levels} values, learned {learned}", kernel, {**arguments, **options}, 4


def _integer_scan():
    kernels = integer_scan_kernels
    for data, rule in (*(("fp32", rule) for rule in INTEGER_RULES), ("fp64", INTEGER_RULES[-1])):
        members = triton.next_power_of_2(rule["WINDOW"] ** 2)
        arguments = {
            **dict.fromkeys(("bias", "threshold", "leak", "slope", "sums"), "*fp64"),
            **dict.fromkeys(("current", "grad_current"), f"*{data}"),
            **{"kept": f"*{data}" if rule["MOST"] == 1 else "*fp64", "spikes": "*fp32", "grad_spikes": "*fp32"},
            **dict.fromkeys(("steps", "lanes", "sent", "places", "channels", "height", "width"), "i32"),
            **{"alive": "*i1", "BITS": 12, "BOUNDED": True, "LOW": -(2**23), "HIGH": 2**23 - 1},
            **{"REAL": NUMBERS[data], "SURROGATE": 0, "ALPHA": 2.0},
            **{"BLOCK": _TILE // members, "MEMBERS": members, "ROWS": _TILE // 64, "COLUMNS": 64},
            **rule,
        }
        yield f"{data}, {rule}", kernels.scan, arguments, 4 if members == 1 else 1
        yield f"{data}, {rule}", kernels.scan_gradient, arguments, 4


SIGNATURES = [
    (f"{kernel.fn.__module__}.{kernel.fn.__name__}, {name}", kernel, arguments, warps)
    for kernels in (_norm_scan, _scan, _codebook, _integer_scan)
    for name, kernel, arguments, warps in kernels()
]
