"""Mutated configurations are accepted, or refused with one message and status 2."""

import random

import yaml

from scripts.trust import config_mutations


def test_mutated_configurations_and_chips_leave_no_traceback():
    counts = config_mutations.mutate_configs(4, seed=5)
    assert counts["tracebacks"] == counts["hangs"] == 0
    assert counts["mutated"] == counts["clean"] + counts["refused"] == 4


def test_a_mutation_changes_one_place():
    content = {"a": {"b": [1, 2.5, "text"], "c": True}, "d": None}
    rng = random.Random(0)
    changed = [config_mutations.mutate(content, rng)[0] for _ in range(60)]
    assert content == {"a": {"b": [1, 2.5, "text"], "c": True}, "d": None}
    assert len({yaml.safe_dump(one) for one in changed}) > 30
    assert ["a", "b", 0] in [list(place) for place in config_mutations.places(content)]


def test_what_gets_out_of_the_command_line_is_a_traceback(monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(config_mutations.SpikeFitCLI, "_parse_ckpt_path", fail)
    result, text = config_mutations.outcome(["fit", "--config", str(config_mutations.shipped()[0])])
    assert result == "tracebacks"
    assert "ZeroDivisionError" in text
