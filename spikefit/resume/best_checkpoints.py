"""Paths of checkpoints in checkpoints: they are absolute, and found again when a run was moved or renamed."""

import os
from pathlib import Path
from typing import Any

from spikefit.errors import CheckpointError

State = dict[str, Any]
SINGLE = ("best_model_path", "kth_best_model_path", "last_model_path")


def names_checkpoints(state: object) -> bool:
    """Whether ``state`` is that of a ``ModelCheckpoint`` or of a class derived from it."""
    return isinstance(state, dict) and {"best_model_path", "best_k_models"} <= state.keys()


def with_absolute_paths(state: State) -> State:
    """A copy of the state of a checkpoint callback whose paths do not depend on the working directory."""
    return _renamed(state, {path: os.path.abspath(path) for path in _paths(state)})


def found_again(state: State, resumed: Path, folder: str | None) -> State:
    """A copy of the state of a checkpoint callback with paths of files that exist.

    A file that is no longer where it was is looked for next to the checkpoint that is resumed. Lightning forgets the
    best score if the folder of the callback has changed, so the copy has the new folder. It never deletes files outside
    of this folder: the earlier run keeps its checkpoint.

    Args:
        state: the state, with paths as they were when it was saved.
        resumed: the checkpoint that is resumed.
        folder: where the callback of this run writes; paths of this folder are spelled as the callback spells them,
            which compares them as strings.

    Raises:
        CheckpointError: if the best checkpoint of a monitored metric is in neither place.
    """
    places = {path: _place(Path(path), resumed, folder) for path in _paths(state)}
    best = state["best_model_path"]
    if best and state.get("monitor") is not None and not Path(places[best]).is_file():
        raise CheckpointError(
            f"ckpt_path: the best checkpoint so far ({state['monitor']}) of {resumed} is {best}. There is no such "
            f"file, nor {resumed.parent / Path(best).name}. Expected it in one of these places, because the resumed "
            "run would deploy another network without it. To go on without it, start a new run with "
            "callbacks.InitialWeights."
        )
    return {**_renamed(state, places), "dirpath": folder}


def _place(path: Path, resumed: Path, folder: str | None) -> str:
    moved = resumed.parent / path.name
    found = path if path.is_file() or not moved.is_file() else moved
    if folder is not None and found.parent.resolve() == Path(folder).resolve():
        return os.path.join(folder, found.name)
    return os.path.abspath(found)


def _paths(state: State) -> set[str]:
    return {path for path in (*(state.get(name, "") for name in SINGLE), *state["best_k_models"]) if path}


def _renamed(state: State, names: dict[str, str]) -> State:
    single = {name: names.get(state[name], state[name]) for name in SINGLE if name in state}
    return {**state, **single, "best_k_models": {names[path]: score for path, score in state["best_k_models"].items()}}
