"""Checkpoints and bundles with damaged bytes: each is refused, or holds what was written."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.trust.kills import same
from spikefit.checkpoints import read_checkpoint
from spikefit.errors import SpikeFitError
from spikefit.module import SpikingClassifier
from spikefit.program.bundle import differences, read_bundle, write_bundle
from spikefit.program.lower import lower


def damaged(content: bytes, generator: random.Random) -> bytes:
    """``content`` with a flipped bit, a missing end, or a run of zeros."""
    place = generator.randrange(len(content))
    kind = generator.choice(("bit", "bit", "bit", "end", "zeros"))
    if kind == "end":
        return content[:place]
    if kind == "zeros":
        return content[:place] + bytes(min(64, len(content) - place)) + content[place + 64 :]
    return content[:place] + bytes([content[place] ^ 1 << generator.randrange(8)]) + content[place + 1 :]


def damage_file(
    path: Path, read: Callable[[Path], Any], equal: Callable[[Any, Any], bool], count: int, seed: int, folder: Path
) -> dict[str, int]:
    """Damage copies of ``path``, which are written to ``folder``, and read them.

    Returns:
        How many were ``damaged``; ``noticed`` (refused with a message of ours), ``harmless`` (the content is what was
        written), ``accepted`` (another content), and ``tracebacks`` (any other exception).
    """
    generator, content, expected = random.Random(seed), path.read_bytes(), read(path)
    found = Counter(damaged=count)
    copy = folder / path.name
    for _ in range(count):
        copy.write_bytes(damaged(content, generator))
        try:
            outcome = "harmless" if equal(read(copy), expected) else "accepted"
        except SpikeFitError:
            outcome = "noticed"
        except Exception as error:
            print(f"{path.name}: {type(error).__name__}: {error}", flush=True)
            outcome = "tracebacks"
        found[outcome] += 1
    copy.unlink()
    return {name: found[name] for name in ("damaged", "noticed", "harmless", "accepted", "tracebacks")}


def damage_checkpoint(path: Path, count: int, seed: int, folder: Path) -> dict[str, int]:
    """:func:`damage_file` of a checkpoint, read as every command reads it."""
    return damage_file(path, lambda file: read_checkpoint(file, "ckpt_path"), same, count, seed, folder)


def damage_bundle(checkpoint: Path, count: int, seed: int, folder: Path) -> dict[str, int]:
    """:func:`damage_file` of the bundle of a trained network."""
    module = SpikingClassifier.load_from_checkpoint(checkpoint, map_location="cpu").eval()
    path = write_bundle(lower(module.network, module.context, "target"), folder / "network.safetensors")
    return damage_file(path, read_bundle, lambda one, other: not differences(one, other), count, seed, folder)
