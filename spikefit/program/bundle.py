"""A program as two files: ``program.json`` (what it is) and ``program.safetensors`` (its numbers).

The JSON names every field of the program, the layout of every tensor (:mod:`spikefit.program.storage`), the SHA-256 of
the safetensors file and that of its own content (``checksum``: of all the rest of it, keys sorted and without blanks).

Writing is atomic, in a folder that may hold other files too. The new JSON is laid beside the old one under another
name; then one rename puts the new tensors in place, and from this moment on the new JSON is the one that fits them; a
second rename gives it its name. What is found after a crash between the two is the new bundle, after any other one the
old.
"""

import dataclasses
import hashlib
import importlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import spikefit
from spikefit.errors import BundleError
from spikefit.program.ir import Program
from spikefit.program.storage import describe, rebuild

FORMAT = "spikefit-program"
VERSION = 2
JSON, TENSORS, NEXT_JSON = "program.json", "program.safetensors", "program.json.new"


def write_bundle(program: Program, folder: str | Path) -> Path:
    """Write ``program`` into ``folder``, which is made if need be; a bundle that is there already is replaced.

    Args:
        program: in either precision.
        folder: other files in it are left alone.

    Returns:
        The path of the JSON file.

    Raises:
        BundleError: when the files can't be written, or a field of the program holds something that has no form in
            the bundle, naming it.
    """
    folder = Path(folder)
    description, tensors = describe(program)
    blob = _safetensors().save(tensors)
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "spikefit": spikefit.__version__,
        "target": program.target,
        "tensors": {"file": TENSORS, "sha256": hashlib.sha256(blob).hexdigest()},
        "program": description,
    }
    content["checksum"] = _checksum(content)
    text = json.dumps(content, indent=1, allow_nan=False).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder, blob, text)
    except OSError as error:
        raise BundleError(f"{folder}: the bundle can't be written: {error.strerror or error}.") from error
    return folder / JSON


def _replace(folder: Path, blob: bytes, text: bytes) -> None:
    """Both files, by the renames that the module describes."""
    try:
        _write_beside(folder / TENSORS, blob)
        _write_beside(folder / NEXT_JSON, text)
        os.replace(_beside(folder / NEXT_JSON), folder / NEXT_JSON)
        os.replace(_beside(folder / TENSORS), folder / TENSORS)  # from here on it is the new bundle
        os.replace(folder / NEXT_JSON, folder / JSON)
    finally:
        for name in (TENSORS, NEXT_JSON):
            _beside(folder / name).unlink(missing_ok=True)


def read_bundle(folder: str | Path) -> Program:
    """The program that :func:`write_bundle` wrote into ``folder``: equal in every field and every tensor.

    Raises:
        BundleError: when a file is missing, truncated or altered, the two are not of one bundle, or the format is
            another one; names the file and the reason.
    """
    folder = Path(folder)
    blob = _read(folder / TENSORS)
    digest = hashlib.sha256(blob).hexdigest()
    try:
        content = _content(folder / JSON, digest)
    except BundleError as refused:
        try:  # a write that was interrupted between its two renames
            content = _content(folder / NEXT_JSON, digest)
        except BundleError:
            raise refused from None
    try:
        return rebuild(content["program"], _safetensors().load(blob))
    except Exception as error:  # the checksums are right: whoever wrote it wrote nonsense
        raise BundleError(f"{folder / JSON}: does not describe a program: {type(error).__name__}: {error}.") from error


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


def _content(path: Path, digest: str) -> dict[str, Any]:
    """The JSON at ``path``, if it is whole and belongs to tensors with the SHA-256 ``digest``."""
    try:
        content = json.loads(_read(path))
    except ValueError as error:  # also bytes that are no UTF-8
        raise BundleError(f"{path}: truncated or altered: no JSON ({error}).") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BundleError(f"{path}: no bundle: its format is not {FORMAT!r}.")
    if content.get("version") != VERSION:
        raise BundleError(
            f"{path}: format version {content.get('version')!r}, but spikefit {spikefit.__version__} reads version "
            f"{VERSION} alone; write the bundle again from the network's checkpoint."
        )
    if content.pop("checksum", None) != _checksum(content):
        raise BundleError(f"{path}: altered: its content does not have the checksum that it names.")
    if content["tensors"]["sha256"] != digest:
        raise BundleError(
            f"{path.parent / TENSORS}: truncated, altered or of another bundle: its SHA-256 is not the one that "
            f"{path.name} names."
        )
    return content


def _checksum(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")


def _write_beside(path: Path, content: bytes) -> None:
    """The bytes under a name of this process's own, on the disk when this returns."""
    with open(_beside(path), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: can't be read: {error.strerror or error}.") from error


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors.torch")
    except ImportError as error:
        raise BundleError(
            "bundles need the package safetensors, which is not installed: pip install safetensors."
        ) from error
