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
    Quantizers are fitted to the copied weights, or copied too. Optimizer, schedules and epochs start from scratch.

    Nothing is copied if the run resumes from its own checkpoint (``ckpt_path``), or in a test that follows training in
    the same program.

    Args:
        checkpoint: path of the checkpoint file.
        copy_quantizers: take over the quantizers' codebooks and steps instead of fitting them to the weights; both
            runs must have the same quantizers. Whether they are switched on is decided by the new run.

    Raises:
        CheckpointError: if the file is missing or damaged, or holds another network or (with ``copy_quantizers``)
            other quantizers; the message names the first few tensors that differ.

    Example:
        >>> from callbacks import InitialWeights
        >>> InitialWeights("runs/float/version_0/checkpoints/last.ckpt").checkpoint.name
        'last.ckpt'
    """

    place = Place.INITIAL_WEIGHTS

    def __init__(self, checkpoint: str, copy_quantizers: bool = False) -> None:
        self.checkpoint, self.copy_quantizers = Path(checkpoint), copy_quantizers
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
        given = self._given(module)
        plain, quantizers = _split(module.network.state_dict())  # these share memory with the network
        for name, tensor in given.items():
            (plain if name in plain else quantizers)[name].copy_(tensor)
        for name, layer, quantizer in module.quantized_layers():
            quantizer.read_switches()
            if not self.copy_quantizers:
                quantizer.refit(latent_weight(layer).detach(), live_synapses(module.network, name))

    def _given(self, module: SpikingClassifier) -> dict[str, Tensor]:
        """The tensors to copy, by the names of :func:`_split`."""
        state = read_checkpoint(self.checkpoint, OPTION)["state_dict"]
        given, codes = _split({name[len(PREFIX) :]: t for name, t in state.items() if name.startswith(PREFIX)})
        own, own_codes = _split(module.network.state_dict())
        # The network may have synapse masks that the checkpoint lacks: then all its synapses are alive.
        require_same_tensors(own, given, OPTION, self.checkpoint, optional=".live")
        if self.copy_quantizers:
            require_same_tensors(own_codes, codes, OPTION, self.checkpoint)
        return {**given, **codes} if self.copy_quantizers else given


def _split(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Separate the tensors of a network from those of its quantizers, and remove parametrizations from the names.

    ``conv1.synapses.parametrizations.weight.original`` becomes ``conv1.synapses.weight``. The strength of a quantizer
    is left out. A synapse mask (``live``) belongs to the network.
    """
    plain, quantizers = {}, {}
    for name, tensor in state.items():
        renamed = _PARAMETRIZATION.sub(".", name)
        if renamed == name:
            plain[_ORIGINAL.sub(".weight", name)] = tensor
        elif renamed.endswith(".live"):
            plain[renamed] = tensor
        elif not renamed.endswith(".strength"):
            quantizers[renamed] = tensor
    return plain, quantizers
