"""What is installed on this machine, found out without importing torch."""

import importlib.util
import os
import platform
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from spikefit.locations import data_folder

PACKAGES = ("torch", "lightning", "torchmetrics", "torchvision", "tonic", "jsonargparse", "wandb", "numba")


@dataclass(frozen=True)
class Check:
    """One line of the report; ``ok`` is None for plain information."""

    name: str
    text: str
    ok: bool | None = None

    def __str__(self) -> str:
        mark = {True: "ok", False: "FAILS", None: ""}[self.ok]
        return f"{mark:5}  {self.name:24}  {self.text}"


def packages() -> Iterator[Check]:
    """Versions of Python and of every package that spikefit needs."""
    yield Check("python", platform.python_version())
    for name in PACKAGES:
        try:
            yield Check(name, version(name), True)
        except PackageNotFoundError:
            yield Check(name, f"not installed: pip install {name}", False)


def data() -> Check:
    """The folder of data sets and its content."""
    folder = data_folder(None)
    if not folder.is_dir():
        return Check("data folder", f"{folder} does not exist; it is created when a data set is downloaded")
    content = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) or "empty"
    named = "SPIKEFIT_DATA_DIR" if os.environ.get("SPIKEFIT_DATA_DIR") else "default"
    return Check("data folder", f"{folder} ({named}): {content}")


def gpu() -> Check:
    """The GPUs that the driver lists, and the version of CUDA that torch was built for."""
    spec = importlib.util.find_spec("torch")
    file = None if spec is None or spec.origin is None else Path(spec.origin).with_name("version.py")
    built = runpy.run_path(str(file)).get("cuda") if file is not None and file.is_file() else None
    torch = f"torch was built for CUDA {built}" if built else "torch was built without CUDA"
    program = shutil.which("nvidia-smi")
    found = ""
    if program is not None:
        command = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        try:
            found = subprocess.run(command, capture_output=True, text=True, timeout=5).stdout
        except (OSError, subprocess.SubprocessError):
            found = ""
    names = ", ".join(f"{line.strip()}" for line in found.splitlines() if line.strip())
    if not names:
        return Check("GPU", f"none ({torch}); everything runs on the CPU")
    return Check("GPU", f"{names}; {torch}", built is not None)


def installed() -> Iterator[Check]:
    """Packages, data folder and GPU."""
    yield from packages()
    yield data()
    yield gpu()
