"""All Triton kernels compiled ahead of time, without a GPU: none spills registers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

from helpers.kernel_tests import needs_no_gpu

# The kernels of a process whose Triton interprets can't be compiled: it happens in a process of its own. The H100's
# architecture gets every signature, the A100's the one of each kernel that uses the most registers.
COMPILE = """
import json
from helpers.triton_aot import usage
from helpers.triton_signatures import SIGNATURES

heaviest = {}
for name, kernel, arguments, warps in SIGNATURES:
    found = usage(kernel, arguments, 90, warps)
    print(json.dumps([90, name, found.registers, found.spills]))
    heaviest[kernel] = max(heaviest.get(kernel, (0,)), (found.registers, name, arguments, warps), key=lambda x: x[0])
for kernel, (_, name, arguments, warps) in heaviest.items():
    found = usage(kernel, arguments, 80, warps)
    print(json.dumps([80, name, found.registers, found.spills]))
"""


@needs_no_gpu
def test_the_registers_hold_what_a_kernel_keeps():
    """The assembler may spill a few bytes for a higher occupancy, but never for lack of registers."""
    tests = Path(__file__).parents[1]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tests), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(command, env=environment, cwd=tests.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {architecture for architecture, *_ in found} == {80, 90}
    assert [line for line in found if line[-1] > 32 or (line[-1] and line[-2] == 255)] == []
