"""A program as one safetensors file: its tensors, and in the metadata a JSON text with everything else.

The metadata has two entries. ``program`` is JSON: the format and its version, the version of spikefit, the chip, every
field of the program and the layout of every tensor (:mod:`spikefit.program.storage`). ``sha256`` is the digest of that
text and of the tensors.
"""

import dataclasses
import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import spikefit
from spikefit.atomic import write_atomically
from spikefit.errors import BundleError
from spikefit.program.ir import Program
from spikefit.program.storage import describe, rebuild

FORMAT = "spikefit-program"
VERSION = 3


def write_bundle(program: Program, path: str | Path) -> Path:
    """Write ``program`` to the file ``path``, atomically; a bundle that is there already is replaced.

    Args:
        program: in either precision.
        path: of the file, such as ``bundle.safetensors``; missing folders are made.

    Returns:
        ``path``.

    Raises:
        BundleError: if a field of the program can't be stored; names the field.
        StorageError: if the file can't be written.
    """
    path = Path(path)
    description, tensors = describe(program)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "spikefit": spikefit.__version__,
        "target": program.target,
        "program": description,
    }
    text = json.dumps(content, allow_nan=False)
    blob = _safetensors().save(tensors, {"program": text, "sha256": _digest(text, tensors)})
    return write_atomically(path, blob)


def read_bundle(path: str | Path) -> Program:
    """The program that :func:`write_bundle` wrote to ``path``: equal in every field and every tensor.

    Raises:
        BundleError: if the file is missing, truncated or altered, or has another format; names the file and the reason.
    """
    path = Path(path)
    if path.is_dir():
        raise BundleError(f"{path} is a folder; expected the file of a bundle in it.")
    try:
        with _safetensors().safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise BundleError(f"{path}: can't be read: {error.strerror or error}.") from error
    except BundleError:
        raise
    except Exception as error:  # safetensors' own, which is no subclass of anything narrower
        raise BundleError(f"{path}: truncated or altered: {error}.") from error
    content = _content(path, metadata, tensors)
    try:
        return rebuild(content["program"], tensors)
    except Exception as error:  # the digest is right, so the writer wrote something else than a program
        raise BundleError(f"{path}: does not describe a program: {type(error).__name__}: {error}.") from error


def differences(first: Any, second: Any, where: str = "program") -> list[str]:
    """The fields in which two programs differ, by name; tensors differ in dtype, shape or any element's value."""
    if type(first) is not type(second):
        return [where]
    if isinstance(first, Tensor):
        same = first.dtype == second.dtype and first.shape == second.shape
        return [] if same and torch.equal(first, second) else [where]
    if dataclasses.is_dataclass(first):
        return [
            found
            for field in dataclasses.fields(first)
            for found in differences(getattr(first, field.name), getattr(second, field.name), f"{where}.{field.name}")
        ]
    if isinstance(first, tuple) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return [found for index, pair in pairs for found in differences(*pair, f"{where}.{index}")]
    return [] if first == second else [where]


def _content(path: Path, metadata: dict[str, str], tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The JSON in the metadata, if it has the right format and version and its digest fits text and tensors."""
    text = metadata.get("program", "")
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BundleError(f"{path}: no bundle: its format is not {FORMAT!r}.")
    if content.get("version") != VERSION:
        raise BundleError(
            f"{path}: format version {content.get('version')!r}, but spikefit {spikefit.__version__} reads version "
            f"{VERSION} only; write the bundle again from the network's checkpoint."
        )
    if metadata.get("sha256") != _digest(text, tensors):
        raise BundleError(f"{path}: altered: its content does not have the SHA-256 that it names.")
    return content


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of the JSON text and of the tensors without metadata."""
    return hashlib.sha256(text.encode() + _safetensors().save(tensors)).hexdigest()


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors.torch")
    except ImportError as error:
        raise BundleError(
            "bundles need the package safetensors, which is not installed: pip install safetensors."
        ) from error
