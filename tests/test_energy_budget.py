"""EnergyPenalty in training: the written loss, the weight that adapts to a budget, what is logged and refused."""

import copy
import logging
import math

import pytest
import torch
import yaml
from helpers.joules import joules
from helpers.tiny_fit import TinyData, fit, module

from callbacks import ChipEmulation, CodebookReclustering, FSCPruning, Schedule, SynapsePruning
from spikefit.distillation import Distillation
from spikefit.errors import ConfigurationError, TargetError
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.losses import CrossEntropy, EnergyPenalty, TemporalCrossEntropy
from spikefit.losses.energy_use import single_spike_synops
from spikefit.networks.blocks import Block, Network
from spikefit.networks.synops import SynopCounter
from spikefit.preflight import Preflight
from spikefit.prune import Random, SynapseMagnitude
from spikefit.prune.resources import alive_by_block, energy, measure_traffic
from spikefit.quantize import Codebook
from spikefit.quantize.base import attach

SYNOP_J = 23.6e-12  # Loihi's


def first_batch():
    x, labels = TinyData().dataset.tensors
    return x[:16].transpose(0, 1), labels[:16]


def one_step(model):
    """Loss of the first batch in training mode, and what the penalty logs."""
    model.declare(TinyData())
    logged = {}
    model.log = lambda name, value, **options: logged.update({name: value})
    loss = model.training_step(first_batch(), 1)
    return loss, {name: value for name, value in logged.items() if name not in ("train/loss", "train/accuracy")}


def chip_without(tmp_path, *constants):
    content = HardwareTarget.load("loihi").to_dict()
    for constant in constants:
        content["energy"][constant] = {"value": None}
    path = tmp_path / "unpriced.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize("inner", [CrossEntropy(0.1), TemporalCrossEntropy(0.1, 0.05)])
def test_the_loss_is_the_written_one(inner):
    """With the energy that the pruning callbacks' own code counts, which equals that of the lowered program."""
    plain, nothing = one_step(module(loss=inner))
    found, logged = one_step(module(loss=EnergyPenalty(inner, weight=0.3)))
    network = module().network
    network.training = False  # its norms still use the statistics of the batch
    use = energy(network, HardwareTarget.load("loihi"), measure_traffic(network, [first_batch()], TinyData.input_kind))
    expected = use.total(alive_by_block(network))
    assert nothing == {}
    assert logged["train/energy_j"].item() == joules(expected)
    reference = single_spike_synops(network, graded=False) * SYNOP_J
    assert found.item() == pytest.approx(plain.item() + 0.3 * expected / reference, rel=1e-5)
    assert logged["train/energy_weight"] == 0.3
    assert (logged["train/energy_unknown_terms"], logged["train/energy_unknown/hops"]) == (2, 1)


def test_without_a_chip_synops_are_counted():
    plain, _ = one_step(module(hardware=None))
    found, logged = one_step(module(hardware=None, loss=EnergyPenalty(weight=0.3)))
    reference = single_spike_synops(module().network, graded=False)
    expected = plain.item() + 0.3 * logged["train/synops"].item() / reference
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert set(logged) == {"train/synops", "train/energy_weight"}


def test_a_chip_without_a_price_of_synops_counts_them_and_says_so(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    model = module(hardware=chip_without(tmp_path, "synop_j"), loss=EnergyPenalty(weight=0.1))
    trainer, _ = fit(tmp_path, [], model, epochs=1)
    assert "energy.synop_j of unpriced is unknown or contained in another constant; synaptic operations" in caplog.text
    assert "train/synops" in trainer.callback_metrics
    assert "train/energy_j" not in trainer.callback_metrics


def test_terms_that_are_left_out_are_named(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    model = module(hardware=chip_without(tmp_path, "update_j"), loss=EnergyPenalty(weight=0.1))
    trainer, _ = fit(tmp_path, [], model, epochs=1)
    line = "EnergyPenalty: the energy on unpriced is counted without hops (they depend on the whole placement); static "
    assert f"{line}(energy.static_w is unknown); updates (energy.update_j is unknown)." in caplog.messages
    assert trainer.callback_metrics["train/energy_unknown/updates"] == 1
    assert trainer.callback_metrics["train/energy_unknown_terms"] == 3
    assert trainer.callback_metrics["train/energy_j"] == pytest.approx(
        trainer.callback_metrics["train/synops"].item() * SYNOP_J
    )


def test_in_evaluation_the_labels_alone_count():
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    torch.testing.assert_close(EnergyPenalty(weight=9.0).eval()(logits, labels), CrossEntropy()(logits, labels))
    with pytest.raises(ConfigurationError, match="EnergyPenalty: got no operation counts of the pass"):
        EnergyPenalty(weight=9.0)(logits, labels)


def test_a_price_lowers_the_energy(tmp_path):
    energies = []
    for weight in (0.0, 1.0):
        trainer, _ = fit(tmp_path, [], module(quantizer=None, loss=EnergyPenalty(weight=weight)), epochs=25)
        energies.append(trainer.callback_metrics["train/energy_j"].item())
    assert energies[1] < 0.8 * energies[0]


def test_a_price_on_synapses_makes_the_smallest_codebook_values_zero():
    """The price alone, without a task."""
    layer = torch.nn.Linear(64, 10, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 1, 640).view(64, 10).t())
    attach(layer, Codebook(layer.weight.detach(), levels=4, bits=4))
    network = Network({"readout": Block(layer)}, (64,))
    spikes = torch.ones(4, 2, 64)
    before = layer.weight.unique().abs()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        _, counts = network(spikes, SynopCounter(InputKind.SPIKES, frozenset(["readout"])))
        (counts.sum() / counts.detach().sum()).backward()
        optimizer.step()
        if (layer.weight == 0).any():
            break
    after = layer.weight.unique().abs()
    assert (before > 0).all()
    assert after.min() == 0
    assert after.max() > 0.8 * before.max(), "the largest values stay"
    _, fewer = network(spikes, SynopCounter(InputKind.SPIKES))
    assert fewer.item() == 4 * 2 * (layer.weight != 0).sum()


@pytest.mark.parametrize(("zero", "priced"), [("counted", True), ("free", True), ("none", False)])
def test_weights_are_priced_where_they_can_become_zero(zero, priced):
    model = module(lambda weight: Codebook(weight, 3, 4, zero=zero), loss=EnergyPenalty(weight=1.0))
    model.declare(TinyData())
    assert model.loss.counter(model).priced == ({"conv1", "conv2", "fc1", "readout"} if priced else set())
    for _, _, quantizer in model.quantized_layers():
        quantizer.strength = 0
    assert model.loss.counter(model).priced == set()


def test_float_weights_are_priced_in_a_chips_integers_only(tmp_path):
    model = module(quantizer=None, loss=EnergyPenalty(weight=0.1))
    model.declare(TinyData())
    assert model.loss.counter(model).priced == set()
    fit(tmp_path, [ChipEmulation(Schedule(0))], model, epochs=1)
    assert model.loss.counter(model).priced == {"conv1", "conv2", "fc1", "readout"}


EVERYTHING = {
    "units": lambda: [FSCPruning(0.3, Schedule(1, 1), score=Random(1))],
    "synapses": lambda: [SynapsePruning(0.3, Schedule(1, 1), score=SynapseMagnitude())],
    "chip": lambda: [CodebookReclustering(Schedule(1)), ChipEmulation(Schedule(1))],
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_the_measured_energy_follows_compression(tmp_path, name):
    """Each batch's counts after compression equal those of the pruning callbacks' own code."""
    model = module(lambda weight: Codebook(weight, 3, 2), prunable_synapses=True, loss=EnergyPenalty(weight=0.1))
    fit(tmp_path, EVERYTHING[name](), model, epochs=2)
    twin = copy.deepcopy(model)
    _, logged = one_step(model)
    network = twin.network
    if name != "chip":  # its norms are frozen
        network.training = False
    with torch.no_grad():
        found = measure_traffic(network, [first_batch()], TinyData.input_kind)
    use = energy(network.eval(), HardwareTarget.load("loihi"), found)
    assert logged["train/energy_j"].item() == joules(use.total(alive_by_block(network)))


def test_a_teacher_may_be_inside_or_outside(monkeypatch):
    plain, logged = one_step(module(loss=EnergyPenalty(weight=0.3)))
    for outer in (True, False):
        taught = Distillation("teacher.ckpt", weight=0.0, loss=None if outer else EnergyPenalty(weight=0.3))
        monkeypatch.setattr(taught, "answers", lambda inputs: torch.zeros(16, 2))
        found, again = one_step(module(loss=EnergyPenalty(taught, weight=0.3) if outer else taught))
        torch.testing.assert_close(found, plain)
        assert again == logged


def energy_at_first():
    return one_step(module(loss=EnergyPenalty(weight=0.0)))[1]["train/energy_j"].item()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_budget_is_met_and_says_so(tmp_path, caplog, accumulate):
    caplog.set_level(logging.INFO)
    fixed = 4 * 81e-12 * (6 * 64 + 8 * 16 + 10 + 2)
    budget = fixed + 0.75 * (energy_at_first() - fixed)
    model = module(loss=EnergyPenalty(budget_j=budget, speed=0.05))
    trainer, _ = fit(tmp_path, [], model, epochs=60 * accumulate, accumulate_grad_batches=accumulate)
    assert trainer.callback_metrics["train/energy_j"] < budget * 1.02
    assert trainer.callback_metrics["train/accuracy"] > 0.9
    assert f"EnergyPenalty: the budget of {budget:g} J is met: training batches take" in caplog.text


def test_the_weight_shrinks_below_the_budget(tmp_path):
    model = module(loss=EnergyPenalty(budget_j=1.0))
    trainer, _ = fit(tmp_path, [], model, epochs=2)
    assert trainer.callback_metrics["train/energy_weight"] < 0.01
    assert model.loss.log_weight.item() == pytest.approx(math.log(0.01) - 8 * 0.02)


def test_a_budget_that_is_not_met_says_so(tmp_path):
    model = module(loss=EnergyPenalty(budget_j=1.9e-7))
    with pytest.warns(UserWarning, match=r"budget of 1\.9e-07 J is not met: the last training batches take"):
        fit(tmp_path, [], model, epochs=1)


def test_a_budget_below_that_of_updates_is_refused(tmp_path):
    model = module(loss=EnergyPenalty(budget_j=1e-9))
    with pytest.raises(
        ConfigurationError, match=r"budget_j: got 1e-09, but neuron updates .* alone take 1.69\d*e-07 J"
    ):
        fit(tmp_path, [], model, epochs=1)
    pruning = FSCPruning(0.3, Schedule(0, 0), score=Random(1))
    with pytest.warns(UserWarning, match="is not met"):
        fit(tmp_path, [pruning], module(loss=EnergyPenalty(budget_j=1e-9)), epochs=1)


@pytest.mark.parametrize("constant", ["synop_j", "update_j"])
def test_a_budget_without_prices_is_refused_before_training(tmp_path, constant):
    model = module(hardware=chip_without(tmp_path, constant), loss=EnergyPenalty(budget_j=1e-6))
    with pytest.raises(TargetError, match=rf"EnergyPenalty\.budget_j: target unpriced: energy\.{constant} is unknown"):
        fit(tmp_path, [], model, epochs=1)


def test_a_budget_without_a_chip_is_refused(tmp_path):
    model = module(hardware=None, loss=EnergyPenalty(budget_j=1e-6))
    with pytest.raises(ConfigurationError, match=r"EnergyPenalty\.budget_j: .* no chip.* Expected hardware"):
        fit(tmp_path, [], model, epochs=1)


def test_a_checkpoint_stores_the_weight_and_other_losses_can_read_it(tmp_path):
    trainer, model = fit(tmp_path, [], module(loss=EnergyPenalty(budget_j=2e-7)), epochs=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert not [name for name in model.state_dict() if name.startswith("loss")]
    trainer, resumed = fit(
        tmp_path, [], module(loss=EnergyPenalty(budget_j=2e-7)), ckpt_path=tmp_path / "last.ckpt", epochs=2
    )
    assert resumed.loss.log_weight == model.loss.log_weight != math.log(0.01)
    assert resumed.loss.average_j == model.loss.average_j
    fit(tmp_path, [], module(), ckpt_path=tmp_path / "last.ckpt", epochs=3)


def test_fewer_time_steps_in_training_count_as_all(tmp_path):
    """A spike in one of one steps is four in an inference of four."""
    model = module(loss=EnergyPenalty(weight=0.1))
    model.training_time_steps = 1
    _, logged = one_step(model)
    x, labels = first_batch()
    network = module().network
    network.training = False
    one = measure_traffic(network, [(x[:1], labels)], TinyData.input_kind)
    found = energy(network, HardwareTarget.load("loihi"), one).total(alive_by_block(network))
    assert logged["train/energy_j"].item() == joules(4 * found)


def test_metrics_are_declared_for_monitors():
    model = module(loss=EnergyPenalty(weight=0.1))
    model.declare(TinyData())
    expected = {"train/synops", "train/energy_weight", "train/energy_j", "train/energy_unknown*"}
    assert expected < set(model.logged_metrics("fit"))
    assert not expected & set(model.logged_metrics("test"))
    assert not expected & set(module().logged_metrics("fit"))


def test_the_preflight_of_the_inner_loss_is_asked():
    model = module(loss=EnergyPenalty(TemporalCrossEntropy(), weight=0.1))
    model.network.blocks["readout"].neuron = model.network.block("fc1").neuron
    with pytest.raises(ConfigurationError, match="readout: got 'spikes'"):
        model.loss.preflight(Preflight(model, None, "test", None, False))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "weight and budget_j: got None and None, expected exactly one"),
        ({"weight": 0.1, "budget_j": 1e-6}, "weight and budget_j: got 0.1 and 1e-06"),
        ({"weight": -0.1}, "weight: got -0.1, expected at least 0"),
        ({"budget_j": 0.0}, "budget_j: got 0.0, expected a value above 0"),
        ({"budget_j": math.inf}, "budget_j: got inf"),
        ({"weight": 0.1, "synapse_price": -1.0}, "synapse_price: got -1.0"),
        ({"weight": 0.1, "speed": 0.0}, "speed: got 0.0"),
        ({"weight": 0.1, "loss": Distillation("t.ckpt", loss=EnergyPenalty(weight=1.0))}, "loss: got an EnergyPenalty"),
        ({"weight": 0.1, "loss": torch.nn.MSELoss()}, "loss: MSELoss.forward takes"),
    ],
)
def test_a_bad_option_is_named(options, named):
    with pytest.raises(ConfigurationError, match=named):
        EnergyPenalty(**options)
