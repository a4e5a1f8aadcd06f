"""What is not finite stops training before it is saved, and is neither tested nor deployed."""

import lightning.pytorch as pl
import pytest
import torch
from helpers.tiny_fit import TinyData, TinyDataWithTest, fit, module
from lightning.pytorch.callbacks import ModelCheckpoint

from spikefit.deploy.deployment import Deployment
from spikefit.errors import NonFiniteError
from spikefit.losses import CrossEntropy
from spikefit.quantize.base import latent_weight

NAN = float("nan")


class Break(pl.Callback):
    """Break something in the second batch of the third epoch, whose steps are 8 to 11."""

    def __init__(self, how):
        self.how = how

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (2, 1):
            self.how(pl_module, batch)


def weight(pl_module, batch):
    latent_weight(pl_module.network.block("conv2").synapses).data[0, 0, 0, 0] = NAN


def loss(pl_module, batch):
    pl_module.loss = Infinite()


def gradient(pl_module, batch):
    latent_weight(pl_module.network.block("fc1").synapses).register_hook(lambda grad: grad * torch.inf)


def inputs(pl_module, batch):
    batch[0][0, 0, 0, 0, 0] = NAN


class Infinite(CrossEntropy):
    def forward(self, *given):
        return super().forward(*given) * torch.inf


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_names_the_checkpoint_that_it_began_with(tmp_path):
    begun = tmp_path / "begun.ckpt"
    trainer, _ = fit(tmp_path, [], epochs=2)
    trainer.save_checkpoint(begun)
    with pytest.raises(NonFiniteError, match=r"The last good checkpoint is .*begun\.ckpt"):
        fit(tmp_path, [Break(loss)], ckpt_path=str(begun))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("how", "words"),
    [
        (weight, ["conv2"]),
        (loss, ["the loss is"]),
        (gradient, ["the gradient of network.blocks.fc1", "first in layer fc1"]),
        (inputs, ["conv1"]),
    ],
)
def test_training_stops_and_the_last_checkpoint_is_good(tmp_path, how, words):
    last = ModelCheckpoint(tmp_path, "last", enable_version_counter=False)
    trainer = pl.Trainer(
        max_epochs=5,
        accelerator="cpu",
        callbacks=[Break(how), last],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit(module(None, hardware=None), TinyData())
    for part in ("epoch 2, step 9", str(tmp_path / "last.ckpt"), *words):
        assert part in str(caught.value)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content["epoch"] == 1
    assert all(tensor.isfinite().all() for tensor in content["state_dict"].values())


@pytest.mark.filterwarnings("ignore")
def test_currents_of_the_first_batch_of_an_epoch(tmp_path):
    """A current may be infinite although the loss is finite: the neuron then spikes, as with any large current."""

    def large(pl_module, batch):
        pl_module.network.block("fc1").synapses.weight.data.fill_(3e38)

    class AtStart(Break):
        def on_train_epoch_start(self, trainer, pl_module):
            self.how(pl_module, None)

    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[AtStart(large)], logger=False, enable_checkpointing=False
    )
    with pytest.raises(NonFiniteError, match=r"epoch 0, step 0: .* first in layer fc1"):
        trainer.fit(module(None, hardware=None), TinyData())


def test_the_first_step_is_noted_until_it_is_read():
    """As on a GPU, where it is read at the end of an epoch."""
    model = module(None)
    good, bad = torch.zeros(3), torch.tensor([1.0, NAN])
    for gradient in (good, bad, bad):
        model.note({"a": good, "b": gradient, "c": good if gradient is good else -bad / 0})
    assert int(model._first) == 1
    assert model._bad.tolist() == [False, True, True]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_nothing_is_tested_predicted_deployed_or_saved(tmp_path, value):
    model = module(None)
    model.network.block("conv2").norm.running_var[1] = value
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    name = "blocks.conv2.norm.running_var"
    data = TinyDataWithTest()
    data.predict_dataloader = data.test_dataloader
    for command in ("test", "predict"):
        with pytest.raises(NonFiniteError, match=f"{command}: .*{name}"):
            getattr(trainer, command)(model, data)
    with pytest.raises(NonFiniteError, match=f"deployment: .*{name}"):
        Deployment(model.network.eval(), model.context)
    with pytest.raises(NonFiniteError, match=name):
        trainer.save_checkpoint(tmp_path / "x.ckpt")
    assert not list(tmp_path.iterdir())
