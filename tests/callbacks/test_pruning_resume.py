"""Pruning by steps, resumed between two events, equals the uninterrupted run bit for bit."""

import lightning.pytorch as pl
import pytest
import torch
from helpers.tiny_fit import TinyData, module

from callbacks import FSCPruning, SynapsePruning
from callbacks.schedule import Schedule
from spikefit.deploy.unit_cost import EnergyCost
from spikefit.prune import FSC, SynapseFisher
from spikefit.prune.budget import Budget

# Events at the steps 3, 6, 9 and 12; an epoch has 4 steps.
STEPS = {"schedule": Schedule(3, 12, every=3, interval="step"), "growth": "linear"}
ENERGY = {"energy_j": 2.2e-7, "batches": 2}


def units():
    return FSCPruning(budget=Budget(**ENERGY), score=FSC(2), cost=EnergyCost(batches=2), **STEPS)


def synapses():
    return SynapsePruning(budget=Budget(**ENERGY), score=SynapseFisher(2), **STEPS)


def train(folder, pruning, checkpoint=None):
    states = []

    class Keep(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            states.append({name: value.clone() for name, value in pl_module.state_dict().items()})
            if trainer.current_epoch == 1 and checkpoint is None:
                trainer.save_checkpoint(folder / "middle.ckpt")

    trainer = pl.Trainer(
        max_epochs=5,
        accelerator="cpu",
        callbacks=[pruning, Keep()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module(prunable_synapses=True), TinyData(), ckpt_path=checkpoint, weights_only=True)
    return states


def living(state):
    return sum(int(value.sum()) for name, value in state.items() if name.endswith(("alive", "live")))


@pytest.mark.parametrize("make", [units, synapses])
def test_a_budget_is_approached_from_where_it_began(tmp_path, make):
    """After step 8 two of four events are done; later limits need the size before the first."""
    first, second = make(), make()
    whole = train(tmp_path, first)
    resumed = train(tmp_path, second, tmp_path / "middle.ckpt")
    assert living(whole[0]) > living(whole[1]) > living(whole[2])
    assert first.first_size == second.first_size > 2.2e-7
    assert first.last_acted == second.last_acted == 18
    for name, value in whole[-1].items():
        assert torch.equal(value, resumed[-1][name]), name
