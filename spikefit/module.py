"""The LightningModule that holds the network, its quantizers, the loss, the metrics and the optimizer."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from spikefit.checkpoint_io import protect_checkpoints
from spikefit.checkpoints import require_same_tensors
from spikefit.cuda_graphs import CapturedNetwork
from spikefit.deploy.report.json_values import from_plain, to_plain
from spikefit.deploy.report.picture_data import TrainingRecord
from spikefit.deploy.report.sections import Accuracy
from spikefit.energy_penalty_hooks import PricedModule
from spikefit.errors import ConfigurationError, check_choice, check_range
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.losses import CrossEntropy, require_loss_arguments
from spikefit.networks.blocks import Network
from spikefit.networks.sizes import require_sizes
from spikefit.optim import make_optimizer, make_scheduler
from spikefit.preflight import Preflight
from spikefit.program.emulation import Emulator
from spikefit.prune.synapse_mask import attach_mask
from spikefit.quantize.base import Quantizer, QuantizerFactory, attach, latent_weight, quantizer_of, replace
from spikefit.quantize.by_layer import quantizers_by_layer
from spikefit.quantize.described import built
from spikefit.resume.changed_options import renew_training, require_same_network
from spikefit.seeding import global_seed, reseed

NetworkFactory = Callable[[tuple[int, ...], int], Network]
STAGES = ("train", "val", "test")
STATE = "spikefit"  # key in a checkpoint
# State of a checkpoint that another program wrote.
NOTHING: dict[str, Any] = dict.fromkeys(("hardware", "input_kind", "time_steps", "emulation", "training_record"))
NOTHING["quantizers"] = {}


class SpikingClassifier(PricedModule):
    """LightningModule that trains a spiking network with quantised weights as a classifier.

    Args:
        network: factory of the network; called with the input shape and the number of classes.
        input_shape: ``(C, H, W)`` or ``(N,)`` of one frame; linked to the data on the command line.
        num_classes: number of classes; linked to the data on the command line.
        quantizer: factory of a layer's quantizer; called with the layer's weight. None trains in floating point.
        layer_quantizers: other factories (None for floating point) for layers whose names match an :mod:`fnmatch`
            pattern, such as ``conv1``, ``stage*`` or ``readout``; the first matching pattern is used.
        loss: maps logits, labels, inputs and the readout's output at every step to one loss per sample
            (:mod:`spikefit.losses`); :class:`~spikefit.losses.CrossEntropy` by default.
        optimizer: factory of the optimizer; called with parameter groups.
        lr_scheduler: factory of the learning rate scheduler; called with the optimizer. None for no scheduler. If the
            scheduler has a method ``set_total(steps)``, it is called with the total number of scheduler steps.
        lr_interval: whether the scheduler steps every ``epoch`` or every ``step``.
        codebook_lr_factor: learning rate of the quantizers' own parameters, relative to that of the weights.
        gradient_checkpointing: store only the inputs of the blocks and recompute the rest in the backward pass. It
            trades time for memory, for example with many time steps.
        compile: pass the network through ``torch.compile``. Measure first: on a CPU it is rarely faster.
        cuda_graphs: replay training steps from CUDA graphs (:mod:`spikefit.cuda_graphs`), which removes the host's work
            from a step. It has no effect on a CPU, with several processes, or with gradient accumulation.
        prunable_synapses: whether every layer has a synapse mask, for ``callbacks.SynapsePruning``.
        hardware: the run's chip, a name in ``configs/hardware`` or the path of a YAML file; the top-level option
            ``hardware`` of a configuration. All callbacks, costs and budgets use it. None for no chip.
        input_kind, time_steps: kind of the inputs and number of time steps. None takes them from the data module, as
            on the command line.

    Attributes:
        hardware: the chip, or None.
        accuracy_before_compression: accuracy of the float network on the deployed samples, stored in checkpoints; None
            if it was not measured (:class:`callbacks.DeploymentSimulation` measures it).
        training_record: accuracy, pruning and codebooks by epoch (of :class:`callbacks.DeploymentSimulation`).
        training_time_steps: number of time steps used in training; None for all (:class:`callbacks.StepSchedule`).
        checkpoint_epoch: last epoch of the checkpoint that the weights were loaded from, or None.

    Raises:
        ConfigurationError: for an option that is not allowed, or a network whose sizes contradict each other, the
            shape of the data or the number of classes (:mod:`spikefit.networks.sizes`).

    Shape:
        ``[T, B, C, H, W]`` -> logits ``[B, num_classes]``.

    Example:
        >>> from spikefit.networks import ConvSNN
        >>> module = SpikingClassifier(lambda shape, classes: ConvSNN(shape, classes, (4, 8), (16,)), (1, 8, 8), 10)
        >>> module(torch.rand(4, 2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        network: NetworkFactory,
        input_shape: tuple[int, ...],
        num_classes: int,
        quantizer: QuantizerFactory | None = None,
        layer_quantizers: dict[str, QuantizerFactory | None] | None = None,
        loss: nn.Module | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Literal["epoch", "step"] = "epoch",
        codebook_lr_factor: float = 0.1,
        gradient_checkpointing: bool = False,
        compile: bool = False,
        cuda_graphs: bool = False,
        prunable_synapses: bool = False,
        hardware: str | None = None,
        input_kind: Literal["spikes", "counts", "graded", "constant"] | None = None,
        time_steps: int | None = None,
    ) -> None:
        super().__init__()
        check_range("num_classes", num_classes, 2)
        check_choice("lr_interval", lr_interval, ("epoch", "step"))
        check_range("codebook_lr_factor", codebook_lr_factor, 0)
        self.save_hyperparameters(logger=False)
        # A checkpoint holds primitives only. From the command line the factories are class paths. From Python they are
        # functions, and must be passed to load_from_checkpoint again.
        for name, value in list(self.hparams.items()):
            if any(map(callable, value.values() if isinstance(value, dict) else [value])):
                del self.hparams[name]
        self.hparams.pop("hardware", None)  # checkpoints store the whole description: the path may not exist elsewhere
        self.network = network(tuple(input_shape), num_classes)
        require_sizes(self.network, tuple(input_shape), num_classes)
        self.network.gradient_checkpointing = gradient_checkpointing
        if compile and cuda_graphs:
            raise ConfigurationError("compile and cuda_graphs: got both, expected one of them.")
        if compile:
            self.network.compile()
        self._captured = CapturedNetwork(self.network) if cuda_graphs else None
        self.hardware = None if hardware is None else HardwareTarget.load(hardware)
        self.input_kind = None if input_kind is None else InputKind(input_kind)
        self.time_steps = time_steps
        self.loss = CrossEntropy() if loss is None else loss
        require_loss_arguments(self.loss)
        self.optimizer_factory = optimizer
        self.lr_scheduler_factory = lr_scheduler
        self.lr_interval = lr_interval
        self.codebook_lr_factor = codebook_lr_factor
        self._given_quantizers: dict[str, dict[str, Any]] = {}
        self.accuracy_before_compression: Accuracy | None = None
        self.training_record = TrainingRecord()
        self.training_time_steps: int | None = None
        self.checkpoint_epoch: int | None = None
        self._declared_by = type(self).__name__
        factories = quantizers_by_layer(self.network, quantizer, layer_quantizers or {})
        for name, layer in self.network.named_synapses():
            factory = factories[name]
            if factory is not None:
                attach(layer, factory(layer.weight.detach()))
            if prunable_synapses:
                attach_mask(layer)
        self.mean_loss = nn.ModuleDict({f"on_{stage}": MeanMetric(nan_strategy="disable") for stage in STAGES})
        self.accuracy = nn.ModuleDict(
            {f"on_{stage}": MulticlassAccuracy(num_classes, average="micro") for stage in STAGES}
        )

    @property
    def context(self) -> DeploymentContext:
        """Chip, time steps and input kind of this run, for fitting, emulation, costs and deployment.

        Raises:
            ConfigurationError: if neither the module nor its data module declares time steps and input kind.
        """
        for name in ("input_kind", "time_steps"):
            if getattr(self, name) is None:
                raise ConfigurationError(
                    f"{name}: neither the data module nor the checkpoint declares it; expected an attribute {name} of "
                    f"the data module, or SpikingClassifier({name}=...)."
                )
        assert self.input_kind is not None
        assert self.time_steps is not None
        return DeploymentContext(self.hardware, self.time_steps, self.input_kind)

    def declare(self, data: object) -> None:
        """Take input kind and time steps from a data module.

        Args:
            data: object with the attributes ``input_kind`` and ``time_steps``; a missing attribute is ignored.

        Raises:
            ConfigurationError: if the data contradict the declarations of the module or its checkpoint.
        """
        kind, steps = getattr(data, "input_kind", None), getattr(data, "time_steps", None)
        owner = f"the data module {type(data).__name__}"
        if kind is not None:
            check_choice(f"{type(data).__name__}.input_kind", kind, tuple(InputKind))
            self._require_kind(InputKind(kind), owner)
            self.input_kind = InputKind(kind)
        if steps is not None:
            if self.hparams.get("time_steps") not in (None, steps):
                raise ConfigurationError(
                    f"time_steps: got SpikingClassifier(time_steps={self.hparams['time_steps']}), but {owner} declares "
                    f"{steps}."
                )
            self.time_steps = int(steps)
        if kind is not None or steps is not None:
            self._declared_by = owner

    def _require_kind(self, kind: InputKind, owner: str) -> None:
        if self.input_kind is not None and kind != self.input_kind:
            raise ConfigurationError(
                f"input_kind: the network reads inputs of the kind {self.input_kind.value!r}, but {owner} declares "
                f"{kind.value!r}."
            )

    def quantized_layers(self) -> Iterator[tuple[str, nn.Conv2d | nn.Linear, Quantizer]]:
        """Name, layer and quantizer of every quantised layer, in network order."""
        for name, layer in self.network.named_synapses():
            quantizer = quantizer_of(layer)
            if quantizer is not None:
                yield name, layer, quantizer

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, num_classes]`` of frames or spikes ``[T, B, ...]``."""
        return self.network.logits(self.network(x))

    def replace_quantizers(self, wanted: Mapping[str, dict[str, Any]]) -> None:
        """Replace the quantizers of some layers, before the optimizer is created; checkpoints store the change.

        Args:
            wanted: descriptions by layer (:mod:`spikefit.quantize.described`). The new quantizer is fitted to the
                layer's weight and takes the strength of the old one.
        """
        layers = dict(self.network.named_synapses())
        for name, description in wanted.items():
            quantizer = built(description, latent_weight(layers[name]))
            before = quantizer_of(layers[name])
            if before is not None:
                quantizer.strength = before.strength
            replace(layers[name], quantizer.to(layers[name].weight.device))
            self._given_quantizers[name] = dict(description)

    def logged_metrics(self, command: str) -> Iterable[str]:
        """Names of the metrics that this module logs in ``command``, to validate ``monitor``."""
        stages = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(command, ())
        names = [f"{stage}/{what}" for stage in stages for what in ("loss", "accuracy")]
        return names if self.penalty is None or command != "fit" else [*names, *self.penalty.logged_metrics(self)]

    def configure_callbacks(self) -> list[pl.Callback]:
        """Sort the callbacks, protect checkpoints, check the configuration before data is read; adds no callbacks.

        Raises:
            SpikeFitError: if an option can't be satisfied (:mod:`spikefit.preflight`).
        """
        trainer = self.trainer
        protect_checkpoints(trainer)
        command = str(trainer.state.fn.value if trainer.state.fn else "")
        data = getattr(trainer, "datamodule", None)
        Preflight(self, data, command, trainer, resumes=None).run()  # not known before Lightning loads a checkpoint
        return []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store quantizers, chips, input kind, time steps and the float accuracy in the checkpoint."""
        super().on_save_checkpoint(checkpoint)
        emulation = self.network.emulation
        checkpoint[STATE] = {
            "quantizers": self._given_quantizers,
            "hardware": None if self.hardware is None else {"name": self.hardware.name, **self.hardware.to_dict()},
            "input_kind": None if self.input_kind is None else self.input_kind.value,
            "time_steps": self.time_steps,
            "emulation": emulation.state_dict() if isinstance(emulation, Emulator) else None,
            "accuracy_before_compression": to_plain(self.accuracy_before_compression),
            "training_record": to_plain(self.training_record),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state stored by :meth:`on_save_checkpoint`.

        Raises:
            CheckpointError: for the weights of another network; the message names the first few tensors that differ.
            ConfigurationError: if options that define the network differ from those of the checkpoint, or its network
                has another input kind than the run, or computes with the integers of another chip.
        """
        super().on_load_checkpoint(checkpoint)
        require_same_network(self.hparams, checkpoint.get("hyper_parameters", {}))
        state = {**NOTHING, **checkpoint.get(STATE, {})}
        layers = dict(self.network.named_synapses())
        self.replace_quantizers({name: given for name, given in state["quantizers"].items() if name in layers})
        emulation = state["emulation"]
        self.network.emulation = None if emulation is None else Emulator.from_state_dict(emulation)
        self._restore_context(state)
        before = state.get("accuracy_before_compression")  # a checkpoint of an earlier version has none
        self.accuracy_before_compression = None if before is None else Accuracy(**before)
        self.training_record = from_plain(TrainingRecord, state["training_record"] or {}, "checkpoint")
        self.checkpoint_epoch = checkpoint.get("epoch")
        require_same_tensors(self.state_dict(), checkpoint["state_dict"], "ckpt_path")
        if self._trainer is not None and self.trainer.state.fn == "fit" and checkpoint.get("optimizer_states"):
            configured = self.configure_optimizers()
            for difference in renew_training(checkpoint, self.hparams, configured):
                rank_zero_info("%s: %s (the checkpoint stores %s)", *difference)

    def _restore_context(self, state: Mapping[str, Any]) -> None:
        """Take chip, time steps and input kind from the checkpoint where the run does not declare them."""
        if state["input_kind"] is not None:
            self._require_kind(InputKind(state["input_kind"]), "the checkpoint")
            self.input_kind = InputKind(state["input_kind"])
        if self.time_steps is None:
            self.time_steps = state["time_steps"]
        elif state["time_steps"] not in (None, self.time_steps):
            rank_zero_info(f"time_steps: {self.time_steps}; the network was trained with {state['time_steps']}.")
        if self.hardware is None and state["hardware"] is not None:
            described = dict(state["hardware"])
            self.hardware = HardwareTarget.from_dict(described, name=described.pop("name"), file="checkpoint")
        elif self.hardware is not None and isinstance(self.network.emulation, Emulator):
            self._require_emulated(self.hardware, self.network.emulation.context.chip)

    @staticmethod
    def _require_emulated(named: HardwareTarget, emulated: HardwareTarget) -> None:
        computes = f"but the network of the checkpoint computes with the integers of {emulated.name!r}"
        if named.name != emulated.name:
            raise ConfigurationError(
                f"hardware: got {named.name!r}, {computes}. To deploy it on other chips too, list them in "
                f"DeploymentSimulation.hardware."
            )
        differing = named.differing_arithmetic(emulated)
        if differing:
            raise ConfigurationError(
                f"hardware: got a chip {named.name!r}, {computes} by another description of it, with other values of "
                f"{', '.join(differing)}. Expected the same description, or another name for the changed chip."
            )

    def on_train_epoch_start(self) -> None:
        """Seed the random numbers from seed, epoch and process, so that a resumed run repeats the epoch exactly."""
        seed = global_seed()
        if seed is not None:
            reseed(seed, "epoch", self.current_epoch, self.global_rank)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean loss of a batch ``([T, B, ...], [B])``; logs ``train/loss`` and ``train/accuracy``."""
        return self._step(batch, "train", batch_idx)["loss"]

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log ``val/loss`` and ``val/accuracy``."""
        self._step(batch, "val", batch_idx)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Log ``test/loss`` and ``test/accuracy``; return loss and logits for callbacks."""
        return self._step(batch, "test", batch_idx)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Class probabilities ``[B, num_classes]`` of a batch with or without labels."""
        x = batch[0] if isinstance(batch, list | tuple) else batch
        return self(x).softmax(dim=1)

    def _step(self, batch: tuple[Tensor, Tensor], stage: str, batch_idx: int) -> dict[str, Tensor]:
        x, y = batch
        if batch_idx == 0 and self.input_kind is not None:  # once per epoch, because the check synchronises the device
            self.input_kind.check(x, self._declared_by)
        output = self._in_training(x[: self.training_time_steps]) if stage == "train" else self.network(x)
        logits = self.network.logits(output)
        losses = self.loss(logits, y, x, output)
        mean_loss, accuracy = self.mean_loss[f"on_{stage}"], self.accuracy[f"on_{stage}"]
        assert isinstance(mean_loss, Metric)
        assert isinstance(accuracy, Metric)
        mean_loss.update(losses.detach())
        accuracy.update(logits.detach(), y)
        shown = {"on_step": False, "on_epoch": True, "prog_bar": True, "batch_size": len(y)}
        self.log(f"{stage}/loss", mean_loss, **shown)  # type: ignore[arg-type]
        self.log(f"{stage}/accuracy", accuracy, **shown)  # type: ignore[arg-type]
        if stage == "train":
            self.log_penalty(len(y))
        return {"loss": losses.mean(), "logits": logits.detach()}

    def _in_training(self, x: Tensor) -> Tensor:
        alone = self._trainer is None or (self.trainer.world_size == 1 and self.trainer.accumulate_grad_batches == 1)
        run = self.network if self._captured is None or not alone else self._captured
        return self.counted(run, x)

    def make_optimizer(self) -> tuple[torch.optim.Optimizer, Any]:
        """Create optimizer and scheduler (None without one).

        Raises:
            ConfigurationError: for options that one of them refuses.
        """
        own = {id(p) for _, _, quantizer in self.quantized_layers() for p in quantizer.parameters()}
        optimizer = make_optimizer(self.optimizer_factory, self.parameters(), own, self.codebook_lr_factor)
        return optimizer, make_scheduler(self.lr_scheduler_factory, optimizer)

    def configure_optimizers(self) -> Any:
        """Create optimizer and scheduler, whose length is that of the training (:mod:`spikefit.optim`)."""
        optimizer, scheduler = self.make_optimizer()
        if scheduler is None:
            return optimizer
        set_total = getattr(scheduler, "set_total", None)
        if callable(set_total):
            by_epoch = self.lr_interval == "epoch"
            set_total(self.trainer.max_epochs if by_epoch else self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.lr_interval}}
