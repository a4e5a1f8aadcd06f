"""Names of earlier versions are refused with a sentence that says where they are now."""

import importlib

import pytest

from spikefit.cli.errors import explain
from spikefit.cli.moved import CLASSES, moved_classes


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("module 'callbacks' has no attribute 'ChipArithmetic': callbacks.ChipArithmetic", "callbacks.ChipEmulation"),
        ("No module named 'spikefit.schedules': spikefit.schedules.WarmupCosine", "spikefit.optim.WarmupCosine"),
        ("given class_path 'spikefit.data.static.Digits': no attribute 'static'", "spikefit.data.images.Digits"),
        ("given class_path 'spikefit.networks.FromNIR'", "spikefit.nir.FromNIR"),
        ("given class_path 'spikefit.deploy.costs.EnergyCost'", "spikefit.deploy.unit_cost.EnergyCost"),
        ("given class_path 'spikefit.prune.weight_scores.Magnitude'", "spikefit.prune.Magnitude"),
        ("module 'spikefit.prune.scores' has no attribute 'FSC': spikefit.prune.scores.FSC", "spikefit.prune.FSC"),
    ],
)
def test_a_class_path_of_before_names_the_new_one(message, hint):
    assert f" is {hint} now." in explain(message)
    module, _, name = hint.rpartition(".")
    assert hasattr(importlib.import_module(module), name)


def test_a_class_path_of_today_has_no_hint():
    for path in ("callbacks.ChipEmulation", "spikefit.prune.FSC", "spikefit.networks.ConvSNN"):
        assert moved_classes(f"given class_path '{path}': something else is wrong") == []


def test_the_new_places_are_there():
    for place in CLASSES.values():
        module, _, name = place.rpartition(".")
        found = importlib.import_module(module if name[0].isupper() else place)
        assert not name[0].isupper() or hasattr(found, name)


@pytest.mark.parametrize(
    ("option", "class_path", "hint"),
    [
        ("handover", "spikefit.quantize.Codebook", "InitialWeights"),
        ("copy_quantizers", "callbacks.InitialWeights", "fitted to the copied weights"),
        ("arithmetic", "callbacks.FitToHardware", "emulate_from"),
        ("target", "callbacks.DeploymentSimulation", "--hardware"),
    ],
)
def test_an_option_of_before_is_explained(option, class_path, hint):
    message = f"Problem with given class_path '{class_path}':\n  Option '{option}' is not accepted"
    assert f"{option}: " in explain(message)
    assert hint in explain(message)
