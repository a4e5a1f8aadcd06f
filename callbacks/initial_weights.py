"""Callback that starts a run from the weights of another run."""

import re
from collections.abc import Mapping
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor

from callbacks.base import Place
from spikefit.checkpoints import read_checkpoint, require_same_tensors
from spikefit.module import SpikingClassifier
from spikefit.preflight import Preflight
from spikefit.prune.groups import live_synapses
from spikefit.quantize.base import latent_weight

OPTION = "InitialWeights.checkpoint"
PREFIX = "network."
_ORIGINAL = re.compile(r"\.parametrizations\.weight\.original$")
_PARAMETRIZATION = re.compile(r"\.parametrizations\.weight\.\d+\.")


class InitialWeights(pl.Callback):
    """Copies the network from the checkpoint of another run before training or testing starts.

    Weights, norms, leaks and the masks of pruned units are copied by layer name, whatever quantizers the two runs use.
    For example, codebook training can start from a float network, and pruning from a network trained with codebooks.
    Quantizers are fitted to the copied weights. Optimizer, schedules and epochs start from scratch.

    Nothing is copied if the run resumes from its own checkpoint (``ckpt_path``), or in a test that follows training in
    the same program.

    Args:
        checkpoint: path of the checkpoint file.

    Raises:
        CheckpointError: if the file is missing or damaged, or holds another network; the message names
            the first few tensors that differ.

    Example:
        >>> from callbacks import InitialWeights
        >>> InitialWeights("runs/float/version_0/checkpoints/last.ckpt").checkpoint.name
        'last.ckpt'
    """

    place = Place.INITIAL_WEIGHTS
    provides_weights = True

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = Path(checkpoint)
        self._started = False

    def preflight(self, check: Preflight) -> None:
        """Read the checkpoint and compare it with the network, before any data is loaded."""
        if check.resumes is False and not self._started:
            self._given(check.module)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the network before training."""
        self._start(trainer, pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the network before a validation without preceding training."""
        self._start(trainer, pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the network before a test without preceding training."""
        self._start(trainer, pl_module)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the network before a prediction without preceding training."""
        self._start(trainer, pl_module)

    def _start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Copy once, unless Lightning has restored a checkpoint; every process reads the same file."""
        if not self._started and trainer.ckpt_path is None:
            assert isinstance(module, SpikingClassifier)
            self._copy(module)
        self._started = True

    @torch.no_grad()
    def _copy(self, module: SpikingClassifier) -> None:
        own = _network_tensors(module.network.state_dict())  # these share memory with the network
        for name, tensor in self._given(module).items():
            own[name].copy_(tensor)
        for name, layer, quantizer in module.quantized_layers():
            quantizer.refit(latent_weight(layer).detach(), live_synapses(module.network, name))

    def _given(self, module: SpikingClassifier) -> dict[str, Tensor]:
        """The tensors to copy, by the names of :func:`_network_tensors`."""
        state = read_checkpoint(self.checkpoint, OPTION)["state_dict"]
        given = _network_tensors({name[len(PREFIX) :]: t for name, t in state.items() if name.startswith(PREFIX)})
        own = _network_tensors(module.network.state_dict())
        # A network may have masks of single synapses that the checkpoint lacks: all its synapses live.
        require_same_tensors(own, given, OPTION, self.checkpoint, optional=".live")
        return given


def _network_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's tensors without those of its quantizers, under names that are the same with and without quantizers.

    ``conv1.synapses.parametrizations.weight.original`` is ``conv1.synapses.weight``. A mask of single synapses
    (``live``) is part of the network.
    """
    tensors = {}
    for name, tensor in state.items():
        renamed = _PARAMETRIZATION.sub(".", name)
        if renamed == name:
            tensors[_ORIGINAL.sub(".weight", name)] = tensor
        elif renamed.endswith(".live"):
            tensors[renamed] = tensor
    return tensors
