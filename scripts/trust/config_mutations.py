"""Mutated configurations and chips: whatever a file says, the command line accepts it or refuses it with one message.

``python -m scripts.trust.config_mutations --count 200`` prints the counts, and the traceback of every failure.
"""

import argparse
import contextlib
import copy
import io
import json
import os
import random
import signal
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from functools import cache, reduce
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from spikefit.cli.lightning_cli import SpikeFitCLI, main
from spikefit.strict_yaml import read_yaml

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NAN, INF = float("nan"), float("inf")
VALUES: tuple[Any, ...] = (None, [], {}, "", NAN, INF, -1, 0, 1e300, "text", True, [1], {"a": 1}, "é\0")
SECONDS = 120
"""A configuration that takes longer hangs."""
Location = tuple[str | int, ...]


def shipped() -> list[Path]:
    """Every configuration file that is a complete run."""
    return [CONFIGS / "quickstart.yaml", *sorted((CONFIGS / "experiment").glob("*.yaml"))]


@cache
def parsed(file: Path) -> dict[str, Any]:
    """The content of a configuration as the command line reads it: included files merged, with all defaults."""
    found: list[dict[str, Any]] = []

    def stop(cli: SpikeFitCLI) -> None:
        cli._dump_config()
        found.append(cli.config_dump)
        raise SystemExit

    with patch.object(SpikeFitCLI, "before_instantiate_classes", stop), contextlib.suppress(SystemExit):
        main(["fit", "--config", str(file)])
    (content,) = found
    for linked in ("hardware", "input_shape", "num_classes"):
        del content["model"]["init_args"][linked]
    return {key: value for key, value in content.items() if key != "config"}


def chips() -> list[Path]:
    """Every chip file."""
    return sorted((CONFIGS / "hardware").glob("*.yaml"))


def near(value: Any) -> tuple[Any, ...]:
    """Values of the same type as ``value``, which a parser therefore accepts."""
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return (-value, 0, 1, value + 1, 3 * value, 10**6 if value > 10**6 else 999)
    if isinstance(value, float):
        return (-value, 0.0, 1.0, 1e3 * value, 1e-300, NAN, INF, -INF)
    if isinstance(value, list):
        return ([], value[:1], value[::-1], [*value, *value])
    return ({}, None) if isinstance(value, dict) else (None, f"{value}x", "")


def places(content: Any, at: Location = ()) -> Iterator[Location]:
    """The paths of all values below ``content``."""
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in entries:
        yield (*at, key)
        yield from places(value, (*at, key))


def mutate(content: dict[str, Any], rng: random.Random) -> tuple[dict[str, Any], str]:
    """``content`` with one value replaced, one key removed or one key renamed, and a description of the change."""
    changed = copy.deepcopy(content)
    place = rng.choice(list(places(changed)))
    parent: Any = reduce(lambda value, key: value[key], place[:-1], changed)  # type: ignore[index]
    what = rng.choice(["replace"] * 8 + ["remove", "rename"])
    name = ".".join(map(str, place))
    if what == "replace":
        value = rng.choice(near(parent[place[-1]]) if rng.random() < 0.6 else VALUES)
        parent[place[-1]] = value
        return changed, f"{name}: {value!r}"
    removed = parent.pop(place[-1])
    if what == "rename" and isinstance(parent, dict):
        parent[f"{place[-1]}x"] = removed
        return changed, f"{name} renamed"
    return changed, f"{name} removed"


class Hang(BaseException):
    """A configuration that took longer than :data:`SECONDS`."""


def outcome(arguments: list[str]) -> tuple[str, str]:
    """Parse a command line and check the run without starting it.

    Returns:
        ``clean``, ``refused``, ``tracebacks`` or ``hangs``, and what was printed.
    """

    def stop(*_: object) -> None:
        raise Hang

    printed = io.StringIO()
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        with (
            patch.object(SpikeFitCLI, "_run_subcommand", lambda *_: None),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            warnings.catch_warnings(),
        ):
            main(arguments)
        return "clean", ""
    except SystemExit as exit_:
        text = printed.getvalue()
        told = exit_.code == 2 and "error" in text and "Traceback" not in text
        return ("refused" if told else "tracebacks"), text
    except Hang:
        return "hangs", printed.getvalue()
    except BaseException:  # whatever gets out of the command line is a traceback for the user
        return "tracebacks", traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutate_configs(count: int, seed: int = 0, verbose: bool = False) -> dict[str, int]:
    """Mutate shipped configurations, and chips in one of four cases, and count what the command line makes of them.

    Args:
        count: number of mutations.
        seed: seed of their choice.
        verbose: whether to print every case, and what was printed in those that failed.

    Returns:
        Counts by ``mutated``, ``clean`` (accepted), ``refused`` (status 2 and a message), ``tracebacks`` and ``hangs``.
    """
    rng = random.Random(seed)
    counts = dict.fromkeys(("mutated", "clean", "refused", "tracebacks", "hangs"), 0)
    here, environment = Path.cwd(), dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for _ in range(count):
                if rng.random() < 0.25:
                    file = rng.choice(chips())
                    chip, change = mutate(read_yaml(file), rng)
                    Path("chip.yaml").write_text(yaml.safe_dump(chip, allow_unicode=True), encoding="utf-8")
                    content = parsed(shipped()[0]) | {"hardware": "chip.yaml"}
                else:
                    file = rng.choice(shipped())
                    content, change = mutate(parsed(file), rng)
                Path("run.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
                result, text = outcome(["fit", "--config", "run.yaml", "--trainer.accelerator=cpu"])
                counts["mutated"] += 1
                counts[result] += 1
                if verbose:
                    last = text.strip().splitlines()[-1:] if result == "refused" else []
                    print(f"{result:10} {file.stem}: {change}  {' '.join(last)[:200]}", flush=True)
                if result in ("tracebacks", "hangs"):
                    print(f"{file.stem}: {change}\n{text}", flush=True)
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ.update(environment)
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    print(json.dumps(mutate_configs(options.count, options.seed, options.verbose)))
