"""Ahead-of-time compilation of Triton kernels without a GPU: registers and spills as reported by the assembler."""

import inspect
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

ASSEMBLER = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"


@dataclass(frozen=True)
class Usage:
    """What one thread of a kernel uses: registers, and bytes that did not fit into them."""

    registers: int
    spills: int


def usage(kernel: Any, arguments: Mapping[str, Any], architecture: int, num_warps: int = 4) -> Usage:
    """Compile ``kernel`` for compute capability ``architecture`` (80, 90).

    Args:
        kernel: a function under ``triton.jit``.
        arguments: by name: a type of Triton (``"*fp32"``, ``"i32"``, ``"fp32"``), or the value of a ``tl.constexpr``.
        architecture: ten times the compute capability.
        num_warps: of a program.

    Raises:
        RuntimeError: when the assembler refuses the code.
    """
    names = list(inspect.signature(kernel.fn).parameters)
    constants = {name for name in names if kernel.params[names.index(name)].is_constexpr}
    signature = {name: "constexpr" if name in constants else arguments[name] for name in names}
    source = ASTSource(kernel, signature, {(names.index(name),): arguments[name] for name in constants})
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options={"num_warps": num_warps})
    suffix = "a" if architecture >= 90 else ""
    command = [str(ASSEMBLER), "-v", f"--gpu-name=sm_{architecture}{suffix}", "-o", "/dev/null", "-"]
    done = subprocess.run(command, input=compiled.asm["ptx"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{kernel.fn.__name__}: {done.stderr}")
    report = done.stderr
    registers = max(int(found) for found in re.findall(r"Used (\d+) registers", report))
    spills = sum(int(found) for found in re.findall(r"(\d+) bytes spill", report))
    return Usage(registers, spills)
