"""Every Triton kernel of the library compiled for two GPUs, without one: its registers hold what it keeps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

from helpers.kernel_tests import needs_no_gpu

# The kernels of a process whose Triton interprets can't be compiled: it happens in a process of its own.
COMPILE = """
import json, sys
from triton_aot import usage
from triton_signatures import SIGNATURES
architecture = int(sys.argv[1])
for name, kernel, arguments in SIGNATURES:
    found = usage(kernel, arguments, architecture)
    print(json.dumps([name, found.registers, found.spills]))
"""


@needs_no_gpu
@pytest.mark.parametrize("architecture", [80, 90])
def test_no_kernel_spills(architecture):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    helpers = str(Path(__file__).parents[1] / "helpers")
    environment["PYTHONPATH"] = os.pathsep.join([helpers, environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", COMPILE, str(architecture)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found
    assert {name: spills for name, _, spills in found if spills} == {}
