"""The trials of scripts/trust, short: kills and damaged files."""

import pytest

from scripts.trust.damage import damage_bundle, damage_checkpoint
from scripts.trust.kills import Kill, killed_and_resumed, kills, reference_run


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The directory of a run that nobody disturbed."""
    return reference_run(tmp_path_factory.mktemp("reference"))


@pytest.mark.parametrize(
    "kill",
    [
        Kill("batch", 3, 5, other_filesystem=True, directory="elsewhere"),  # resumed in the middle of an epoch
        Kill("writing", 4, 0, other_filesystem=False, directory="moved"),
    ],
    ids=lambda kill: kill.point,
)
def test_a_killed_run_is_resumed_exactly(tmp_path, reference, kill):
    assert killed_and_resumed(kill, reference, tmp_path / "run") == "exact"


def test_kills_reach_every_point_directory_and_filesystem():
    chosen = kills(40)
    assert {(kill.point, kill.directory) for kill in chosen} == {
        (point, directory)
        for point in ("batch", "epoch", "writing", "renaming", "deployment")
        for directory in ("same", "elsewhere", "moved")
    }
    assert {kill.other_filesystem for kill in chosen} == {False, True}
    assert chosen == kills(40)


def test_damaged_files_are_refused_or_hold_what_was_written(tmp_path, reference):
    best = reference / "checkpoints" / "best.ckpt"
    for trial in (damage_checkpoint, damage_bundle):
        found = trial(best, 150, 0, tmp_path)
        assert found["noticed"] > 100
        assert (found["accepted"], found["tracebacks"]) == (0, 0)
