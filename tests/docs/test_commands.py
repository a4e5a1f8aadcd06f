"""Commands in README, CONTRIBUTING and docs exist: their options, files, scripts and extras."""

import argparse
import ast
import glob
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml
from helpers.documents import DOCUMENTS, ROOT, blocks

from spikefit.cli import commands, main
from spikefit.cli.shipped import find_config
from spikefit.hardware.target import HardwareTarget

LIGHTNING = tuple(commands.LIGHTNING)
PROGRAMS = ("spikefit", "lightning", "python", "pip", "make", "pre-commit", "torchrun", "srun", "pytest", "mkdocs")
# A run that a reader has made by then, and files that the page before it makes.
MADE_BEFORE = re.compile(r"runs/.*|my_chip\.yaml|model\.nir")


def words_of(line: str) -> list[str]:
    """The words of a line; brackets mark what may be left out."""
    return [word.strip("[]") if word[0] == "[" else word for word in shlex.split(line, comments=True)]


def command_lines() -> dict[str, str]:
    """Every command by its text, and where it first stands."""
    found: dict[str, str] = {}
    for path in DOCUMENTS:
        for span in re.findall(r"`((?:python -m|pip|make) [^`]+)`", path.read_text()):
            if not re.search(r"\b[A-Z]{4,}\b", span):  # NAME and the like stand for something
                found.setdefault(" ".join(span.split()), str(path.relative_to(ROOT)))
    for block in blocks("", "bash", "console", "text"):
        for line in block.body.replace("\\\n", " ").splitlines():
            for part in line.split(" && "):
                if part.split(" ")[0] in PROGRAMS:
                    found.setdefault(part.strip(), block.where)
    return found


def commands_of(*programs: str) -> list[list[str]]:
    return [words for words in map(words_of, command_lines()) if words[0] in programs]


def training_commands() -> list[list[str]]:
    """Words after ``lightning`` (or ``spikefit``, or a launcher) of commands that train or evaluate."""
    found = []
    for words in map(words_of, command_lines()):
        if words[0] == "srun":
            words = words[1:]
        elif words[0] == "torchrun":
            words = words[words.index("-m") + 1 :]
        if words[0] in ("lightning", "spikefit") and words[1] in LIGHTNING:
            found.append(words[1:])
    return found


def test_there_are_commands_of_every_kind():
    assert len(command_lines()) > 40
    assert len(training_commands()) > 12
    assert {words[1] for words in commands_of("spikefit")} >= set(commands.COMMANDS)


def without_checkpoint(words: list[str]) -> tuple[str, ...]:
    if "--ckpt_path" not in words:
        return tuple(words)
    at = words.index("--ckpt_path")
    assert MADE_BEFORE.fullmatch(words[at + 1])
    return (*words[:at], *words[at + 2 :])


@pytest.fixture
def place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning"])
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    Path("my_chip.yaml").write_text((ROOT / "configs" / "hardware" / "odin.yaml").read_text())


def test_training_commands_are_parsed(place, capsys):
    """The whole configuration, with all files and options; nothing is built.

    ``tests/integration/test_configs.py`` runs every complete configuration without further options. Commands with the
    same files are parsed at once, with the options of all of them, because a parse takes about a second.
    """
    options: dict[tuple[str, ...], list[str]] = {}
    for words in sorted(set(map(without_checkpoint, training_commands()))):
        first = next((i for i in range(1, len(words), 2) if words[i] != "--config"), len(words))
        assert all(find_config(file) for file in words[2:first:2]), words
        options.setdefault(words[:first], []).extend(words[first:])
    for files, more in options.items():
        if files[0] == "fit" and len(files) == 3 and not more:
            continue
        with pytest.raises(SystemExit) as ended:
            main([*files, *more, "--print_config"])
        assert not ended.value.code, f"{' '.join([*files, *more])}: {capsys.readouterr().err}"
        capsys.readouterr()


@pytest.mark.parametrize("words", [words[1:] for words in commands_of("spikefit") if words[1] not in LIGHTNING])
def test_other_commands_are_parsed(place, words):
    """With the parser of the command; ``check`` also takes the options of ``fit``, which another test parses."""
    module = importlib.import_module(f"spikefit.cli.commands.{words[0]}")
    parser = commands.Parser(prog=words[0], allow_abbrev=False)
    module.add_arguments(parser)
    options = words[1 : words.index(">")] if ">" in words else words[1:]
    require_files(parser.parse_args(options))


def require_files(given: argparse.Namespace) -> None:
    """Configurations, chips and runs that are named exist, or are made by an earlier command."""
    for path in getattr(given, "config", None) or []:
        assert find_config(str(path)), path
    chips = getattr(given, "hardware", None) or []
    for chip in [chips] if isinstance(chips, str) else chips:
        assert chip == "all" or HardwareTarget.load(chip)
    for run in [getattr(given, "checkpoint", None), *(getattr(given, "runs", None) or [])]:
        assert run is None or MADE_BEFORE.fullmatch(run), run


@pytest.mark.parametrize("words", commands_of("python"), ids=" ".join)
def test_scripts_and_their_options_exist(words):
    """``python -m scripts.NAME``: the module is there, its options are in its source, its files exist."""
    assert words[1] == "-m"
    if not words[2].startswith("scripts"):
        return
    path = ROOT / words[2].replace(".", "/")
    files = list(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    source = "".join(file.read_text() for file in files)
    for word in words[3:]:
        if word.startswith("--"):
            assert f'"{word.split("=")[0]}"' in source, word
        elif "/" in word and "*" not in word and not word.startswith("runs/"):
            assert (ROOT / word).exists(), word


def test_extras_and_targets_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for words in commands_of("pip"):
        assert words[1] == "install"
        for word in words[2:]:
            for extra in re.findall(r"\[([\w,]+)\]$", word):
                assert set(extra.split(",")) <= set(project["optional-dependencies"]), word
            if word.endswith(".txt"):
                assert (ROOT / word).is_file()
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))
    assert {words[1] for words in commands_of("make")} <= targets


def test_files_that_are_named_exist():
    """Paths in code spans, in the folders of the repository."""
    spans = re.compile(r"`((?:spikefit|callbacks|configs|scripts|tests|docs)/[\w./*-]+)`")
    for path in DOCUMENTS:
        for name in spans.findall(path.read_text()):
            named = name.replace("NAME", "*").replace("GRID", "*")
            assert glob.glob(str(ROOT / named)), f"{path.relative_to(ROOT)}: {name}"


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.where)
def test_yaml_is_read(block):
    assert yaml.safe_load(block.body) is not None


@cache
def sections() -> dict[str, list[str]]:
    """The Python of each document that is run, in order."""
    found: dict[str, list[str]] = {}
    for block in blocks("python"):
        ast.parse(block.body)
        if block.reason is None:
            found.setdefault(block.where.partition(":")[0], []).append(block.body)
    return found


@pytest.mark.parametrize("document", sections())
def test_python_is_run(place, document):
    namespace: dict[str, object] = {"__name__": document.replace("/", "_").removesuffix(".md")}
    for body in sections()[document]:
        exec(compile(body, document, "exec"), namespace)


def test_the_block_of_the_slurm_job_is_a_script():
    """Each line of it is a comment or the command that the other test parses."""
    (job,) = [block.body for block in blocks("") if block.body.startswith("#!")]
    assert [line.split(" ")[0] for line in job.splitlines() if line[0] != "#"] == ["srun"]
    assert subprocess.run(["bash", "-n"], input=job, text=True).returncode == 0


def test_links_of_the_readme_lead_somewhere():
    """mkdocs checks those of the pages."""
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
            assert target.startswith("https://") or (ROOT / target).exists(), f"{path.name}: {target}"


def test_the_readme_is_two_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130
