"""A run resumed from a checkpoint equals the uninterrupted run bit for bit."""

import lightning.pytorch as pl
import pytest
import torch
from helpers.compression_cases import CASES
from helpers.tiny_fit import TinyData, module

EPOCHS = 5


def train(folder, case, *more, checkpoint=None):
    """State of the trained module, and of its callbacks."""
    model = module(case.quantizer, **case.options)
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=[*case.callbacks(), *more],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(model, TinyData(), ckpt_path=checkpoint, weights_only=True)
    return model.state_dict(), {callback.state_key: callback.state_dict() for callback in trainer.callbacks}


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return first == second


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_resumed_in_the_middle(tmp_path, name):
    """5 epochs of 4 steps; a checkpoint after step 8, the end of the second epoch: everything has begun by then, and
    nothing is over."""
    case = CASES[name]
    saved = {}

    class Keep(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "middle.ckpt")
                saved.update({key: value.clone() for key, value in pl_module.state_dict().items()})

    whole = train(tmp_path, case, Keep())
    resumed = train(tmp_path, case, checkpoint=tmp_path / "middle.ckpt")
    assert any(not torch.equal(saved[key], whole[0][key]) for key in saved), "nothing happened after the checkpoint"
    for key, value in whole[0].items():
        assert torch.equal(value, resumed[0][key]), key
    for key, state in resumed[1].items():
        assert same(whole[1][key], state), key
