"""Energy terms, compared with values computed by hand."""

from dataclasses import replace

import pytest
import torch
from helpers.joules import joules

from spikefit.errors import ConfigurationError
from spikefit.hardware.chip_fields import EnergyConstants
from spikefit.hardware.energy import ENERGY_MODELS, HOROWITZ_AC_J, HOROWITZ_MAC_J, estimate
from spikefit.hardware.placement import Placement
from spikefit.hardware.sourced_value import SourcedValue
from spikefit.hardware.target import HardwareTarget, available_targets
from spikefit.input_kind import InputKind
from spikefit.program.ir import LayerActivity
from spikefit.prune.resources import terms_left_out

ENCODER = LayerActivity("conv1", neurons=100, synapses=900, spikes=50, synops=0, macs=3600, updates=400)
HIDDEN = LayerActivity("fc1", neurons=20, synapses=2000, spikes=10, synops=1000, macs=0, updates=80)


def test_loihi_by_hand():
    energy = estimate(HardwareTarget.load("loihi"), [ENCODER, HIDDEN], None, time_steps=4)
    assert energy.terms["synops"] == joules(1000 * 23.6e-12)
    assert energy.terms["updates"] == joules(480 * 81e-12)
    # the host's multiplications, hops that nobody counted and static power are unknown, and not zero
    assert {name: energy.terms[name] for name in energy.unknown} == {
        "encoder": None,
        "hops": None,
        "static": None,
    }
    assert energy.total_j == joules(1000 * 23.6e-12 + 480 * 81e-12)
    assert energy.per_layer["fc1"] == joules(1000 * 23.6e-12 + 80 * 81e-12)
    assert energy.per_layer["conv1"] == joules(400 * 81e-12)


def test_no_encoder_costs_nothing():
    energy = estimate(HardwareTarget.load("loihi"), [HIDDEN], None, time_steps=4)
    assert energy.terms["encoder"] == 0.0
    assert energy.unknown == ("hops", "static")


def test_truenorth_has_one_constant_for_everything():
    placement = Placement("crossbar", (), relays={"fc1": torch.tensor([3, 0])})
    energy = estimate(HardwareTarget.load("truenorth"), [HIDDEN], placement, time_steps=4, relay_synops=500.0)
    assert energy.terms == {"synops": joules(26e-9), "encoder": 0.0, "relays": joules(13e-9)}
    assert energy.total_j == joules(39e-9)
    assert energy.unknown == ()


def test_a_chip_with_relays_has_unknown_relays_without_a_placement():
    energy = estimate(HardwareTarget.load("truenorth"), [HIDDEN], None, time_steps=4)
    assert energy.terms["relays"] is None
    assert energy.unknown == ("relays",)


def test_speck_is_unknown_and_not_zero():
    energy = estimate(HardwareTarget.load("speck2f"), [ENCODER, HIDDEN], None, time_steps=4)
    assert energy.total_j is None
    assert energy.unknown == ("synops", "updates", "encoder", "hops", "static")
    assert energy.per_layer == {}
    without_encoder = estimate(HardwareTarget.load("speck2f"), [HIDDEN], None, time_steps=4)
    assert without_encoder.total_j is None


def test_hops_and_static_power():
    constants = EnergyConstants(
        hop_j=SourcedValue(2e-12, "test", "D"),
        static_w=SourcedValue(0.5, "test", "D"),
        time_step_s=SourcedValue(1e-3, "test", "D"),
    )
    target = replace(HardwareTarget.load("loihi"), energy=constants)
    placement = Placement("memory", (), hops_per_spike=3.0)
    energy = estimate(target, [ENCODER, HIDDEN], placement, time_steps=4)
    assert energy.terms == {"hops": joules(60 * 3 * 2e-12), "static": joules(0.5 * 4e-3)}
    assert energy.total_j == joules(2e-3 + 360e-12)


def test_horowitz():
    energy = estimate(HardwareTarget.load("speck2f"), [ENCODER, HIDDEN], None, 4, "horowitz45")
    assert energy.model == "horowitz45"
    assert energy.terms == {"synops": joules(900e-12), "encoder": joules(3600 * 4.6e-12)}
    assert energy.unknown == ()
    assert energy.total_j == joules(900e-12 + 16560e-12)
    assert energy.per_layer == {"conv1": joules(16560e-12), "fc1": joules(900e-12)}
    assert all(figure.source and figure.confidence for figure in (HOROWITZ_AC_J, HOROWITZ_MAC_J))


def test_unknown_model():
    assert ENERGY_MODELS == ("target", "horowitz45", "memory")
    with pytest.raises(ConfigurationError, match="model: got 'lemaire', expected one of 'target', 'horowitz45'"):
        estimate(HardwareTarget.load("loihi"), [HIDDEN], None, 4, "lemaire")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", available_targets())
@pytest.mark.parametrize("kind", list(InputKind))
def test_what_a_budget_leaves_out_contains_all_that_a_deployment_does_not_know(name, kind):
    """Constants of synapses and neurons must be known for a budget; the other unknown terms are named."""
    target = HardwareTarget.load(name)
    layers = [ENCODER, HIDDEN] if kind.graded else [HIDDEN]
    unknown = set(estimate(target, layers, None, time_steps=4).unknown) - {"synops", "updates"}
    if kind.graded and target.layers.graded_input.value == "chip":
        unknown -= {"encoder"}  # a budget requires this constant
    named = terms_left_out(target, kind)
    assert unknown <= named.keys()
    for term, reason in named.items():
        constants = {"static": ("static_w", "time_step_s"), "hops": ("hop_j",), "encoder": ("encoder_mac_j",)}
        figures = [getattr(target.energy, constant) for constant in constants.get(term, ())]
        missing = any(figure is None or figure.value is None for figure in figures)
        assert ("is unknown" in reason) == missing


@pytest.mark.parametrize(("value", "reason"), [(0.0, None), (1.0, "placement"), (None, "energy.hop_j is unknown")])
def test_a_term_that_costs_nothing_is_not_left_out(value, reason):
    content = HardwareTarget.load("loihi").to_dict()
    content["energy"]["hop_j"]["value"] = value
    named = terms_left_out(HardwareTarget.from_dict(content, "hops"), InputKind.SPIKES)
    assert "hops" not in named if reason is None else reason in named["hops"]
