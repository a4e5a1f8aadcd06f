"""An energy that lacks terms says so: when a run begins, and next to every logged value."""

import csv
import logging

import lightning.pytorch as pl
import pytest
import yaml
from helpers.tiny_fit import TinyData, fit, module
from lightning.pytorch.loggers import CSVLogger

from callbacks import FitToHardware, FSCPruning, Schedule, SynapsePruning
from spikefit.deploy.unit_cost import EnergyCost
from spikefit.errors import TargetError
from spikefit.hardware.target import HardwareTarget
from spikefit.prune import Random, SynapseMagnitude
from spikefit.prune.budget import Budget

WITHOUT = "the energy on loihi is counted without hops (they depend on the whole placement)"


@pytest.mark.parametrize("kind", [FSCPruning, SynapsePruning])
def test_a_budget_names_what_it_leaves_out(tmp_path, caplog, kind):
    caplog.set_level(logging.INFO)
    score = Random(1) if kind is FSCPruning else SynapseMagnitude()
    pruning = kind(budget=Budget(energy_j=4e-7, batches=1), schedule=Schedule(0, 1), score=score)
    model = module(prunable_synapses=kind is SynapsePruning)
    fit_with_csv(tmp_path, pruning, model)
    line = f"budget of energy_j=4e-07: {WITHOUT}; static (energy.static_w is unknown)."
    assert [message for message in caplog.messages if "counted without" in message] == [line]
    with open(tmp_path / "csv" / "metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["prune/energy_j"]]
    assert len(rows) == 3  # both events, and the check after them
    for row in rows:
        assert float(row["prune/energy_unknown_terms"]) == 2
        assert (float(row["prune/energy_unknown/hops"]), float(row["prune/energy_unknown/static"])) == (1, 1)


def fit_with_csv(tmp_path, callback, model):
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        callbacks=[callback],
        logger=CSVLogger(tmp_path, name="csv", version=""),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
    )
    trainer.fit(model, TinyData())


def test_a_budget_of_synapses_has_no_energy_to_explain(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    trainer, _ = fit(tmp_path, [FSCPruning(budget=Budget(synapses=3000), schedule=Schedule(0, 0))], epochs=1)
    assert "counted without" not in caplog.text
    assert not [name for name in trainer.callback_metrics if "unknown" in name]


@pytest.mark.parametrize("kind", [FSCPruning, FitToHardware])
def test_a_cost_in_energy_names_what_it_leaves_out(tmp_path, caplog, kind):
    caplog.set_level(logging.INFO)
    fit(tmp_path, [kind(schedule=Schedule(0, 0), cost=EnergyCost(1))], epochs=1)
    assert [message for message in caplog.messages if "counted without" in message] == [f"EnergyCost: {WITHOUT}."]


def test_fitting_refuses_a_cost_without_prices_before_training(tmp_path):
    content = HardwareTarget.load("loihi").to_dict()
    content["energy"]["synop_j"] = {"value": None}
    path = tmp_path / "unpriced.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(TargetError, match=r"unpriced: energy\.synop_j is unknown"):
        fit(tmp_path, [FitToHardware(Schedule(1, 1), cost=EnergyCost(1))], module(hardware=str(path)))
