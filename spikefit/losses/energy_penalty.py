"""A price on energy: a loss plus the energy of an inference, differentiable through spikes and weights."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from spikefit.errors import ConfigurationError, check_range
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.energy import unknown_energy
from spikefit.losses.energy_use import EnergyMeter, EnergyUse, prices, require_budget
from spikefit.losses.of_labels import CrossEntropy, require_loss_arguments
from spikefit.networks.synops import SynopCounter
from spikefit.preflight import Preflight

if TYPE_CHECKING:
    from spikefit.module import SpikingClassifier

AVERAGED = 50  # training steps that the moving average of the energy spans
MARGIN = 0.02  # share of the budget that stays free, because batches vary
FIRST_WEIGHT = 0.01
WEIGHTS = (1e-6, 1e3)  # range of an adapted weight


class EnergyPenalty(nn.Module):
    """A loss plus a price on the energy of an inference on the run's chip.

    In training, ``weight * energy / reference`` is added to the loss of every sample, where ``energy`` is the mean of
    the batch: synaptic operations (spikes times live synapses: quantised, unpruned and in bounds), neuron updates,
    multiplications of real-valued inputs and static power, each times the chip's constant
    (``hardware``). ``reference`` is the energy of the synaptic operations if every neuron fired once per inference, no
    weight being zero. So the penalty is about ``weight`` times the spikes of a neuron per inference, on any chip and
    network; 0.03 to 0.3 is a useful range. Without a chip, or on a chip whose energy per synaptic operation is unknown,
    synaptic operations are counted. Terms with unknown constants, hops and relays are left out and named in the log.
    In evaluation, and therefore for pruning scores, the loss is that of the labels only.

    Spikes carry their surrogate gradient. Where a layer's quantizer has the value zero, weights are also priced: the
    gradient of the number of non-zero weights, weighted by the spikes that each synapse receives
    (:func:`~spikefit.functional.synops.live_synapses`), moves the weights that matter least to zero.

    With a budget, the weight is the multiplier of the constraint ``energy <= budget_j``. It grows while the moving
    average of the energy exceeds the budget, and shrinks while it is below. Checkpoints store it.

    It logs ``train/synops``, ``train/energy_weight``, and with a known price ``train/energy_j`` with
    ``train/energy_unknown*``, the terms that are left out.

    Args:
        loss: the loss that the price is added to; :class:`~spikefit.losses.CrossEntropy` by default.
        weight: weight of the energy, at least 0.
        budget_j: energy of an inference that training batches must not exceed, joule; excludes ``weight``.
        synapse_price: factor of the gradient that weights receive, at least 0; 0 prices spikes only.
        speed: relative change of the weight per optimizer step with a budget, for an energy of e times the budget.

    Shape:
        logits ``[B, classes]``, labels ``[B]``, inputs ``[T, B, ...]``, steps ``[T, B, classes]`` -> ``[B]``.

    Raises:
        ConfigurationError: for values that are not allowed, both or none of ``weight`` and ``budget_j``; before
            training, for a budget without a chip.
        TargetError: before training, for a budget on a chip whose energy constants are unknown.

    Example:
        >>> loss = EnergyPenalty(weight=0.1).eval()
        >>> loss(torch.zeros(3, 10), torch.tensor([0, 4, 9])).shape  # in evaluation: the cross entropy
        torch.Size([3])
    """

    average_j: Tensor
    measured: Tensor
    log_weight: Tensor

    def __init__(
        self,
        loss: nn.Module | None = None,
        weight: float | None = None,
        budget_j: float | None = None,
        synapse_price: float = 1.0,
        speed: float = 0.02,
    ) -> None:
        super().__init__()
        if (weight is None) == (budget_j is None):
            raise ConfigurationError(
                f"weight and budget_j: got {weight!r} and {budget_j!r}, expected exactly one of them."
            )
        if weight is not None:
            check_range("weight", weight, 0)
        if budget_j is not None and not 0 < budget_j < math.inf:
            raise ConfigurationError(f"budget_j: got {budget_j!r}, expected a value above 0.")
        check_range("synapse_price", synapse_price, 0)
        if not 0 < speed <= 1:
            raise ConfigurationError(f"speed: got {speed!r}, expected a value in (0, 1].")
        self.loss = CrossEntropy() if loss is None else loss
        require_loss_arguments(self.loss)
        if penalty_of(self.loss) is not None:
            raise ConfigurationError("loss: got an EnergyPenalty within another one, expected at most one.")
        self.weight, self.budget_j, self.synapse_price, self.speed = weight, budget_j, synapse_price, speed
        # A checkpoint holds them (state), but not as tensors of the network: other losses can read it.
        self.register_buffer("average_j", torch.zeros((), dtype=torch.float64), persistent=False)
        self.register_buffer("measured", torch.zeros((), dtype=torch.float64), persistent=False)
        first = math.log(FIRST_WEIGHT)
        self.register_buffer("log_weight", torch.full((), first, dtype=torch.float64), persistent=False)
        self._meter: EnergyMeter | None = None
        self._use: EnergyUse | None = None
        self._shown: dict[str, Tensor | float] = {}
        self._share = 1.0  # of an optimizer step that a batch is
        self._met = False

    def preflight(self, check: Preflight) -> None:
        """Raise before training if a budget can't be computed; say which terms the energy leaves out."""
        ask = getattr(self.loss, "preflight", None)
        if callable(ask):
            ask(check)
        if not check.fitting:
            return
        self._share = 1 / max(1, check.trainer.accumulate_grad_batches)
        context = check.module.context
        if self.budget_j is not None:
            require_budget("EnergyPenalty.budget_j", context)
            self._require_room(check, context, self.budget_j)
        if context.target is None:
            return
        price = prices(context)
        if not price.synop:
            rank_zero_info(
                f"EnergyPenalty: energy.synop_j of {context.target.name} is unknown or contained in another constant; "
                "synaptic operations are counted instead."
            )
        elif price.unknown:
            listed = "; ".join(f"{term} ({reason})" for term, reason in price.unknown.items())
            rank_zero_info(f"EnergyPenalty: the energy on {context.target.name} is counted without {listed}.")

    def _require_room(self, check: Preflight, context: DeploymentContext, budget: float) -> None:
        """Raise if updates and static power exceed the budget, and no callback prunes units."""
        fixed = float(EnergyMeter(check.module.network, context).fixed())
        prunes = any(getattr(getattr(each, "place", None), "name", "") == "UNITS" for each in check.trainer.callbacks)
        if fixed >= budget and not prunes:
            raise ConfigurationError(
                f"EnergyPenalty.budget_j: got {budget:g}, but neuron updates and static power alone take {fixed:.6g} J "
                f"on {context.chip.name}. Expected more, a smaller network, fewer time steps, or callbacks.FSCPruning."
            )

    def counter(self, module: "SpikingClassifier") -> SynopCounter:
        """What must be counted in a training pass of ``module``."""
        context, emulated = module.context, module.network.emulation is not None
        priced: set[str] = set()
        if self.synapse_price > 0:
            if emulated:
                priced |= {name for name, _ in module.network.named_synapses()}
            for name, _, quantizer in module.quantized_layers():
                if quantizer.strength > 0 and quantizer.has_zero:
                    priced.add(name)
                else:
                    priced.discard(name)
        return SynopCounter(context.input_kind, frozenset(priced), self.synapse_price)

    def observe(self, module: "SpikingClassifier", counts: Tensor, samples: int, steps: int) -> None:
        """Take the operations of a training pass, as ``network(x, counter)`` returns them, for the next loss."""
        if self._meter is None or self._meter.network is not module.network or self._meter.context != module.context:
            self._meter = EnergyMeter(module.network, module.context)
        self._use = self._meter.use(counts, samples, steps)

    def forward(
        self, logits: Tensor, labels: Tensor, inputs: Tensor | None = None, steps: Tensor | None = None
    ) -> Tensor:
        """Loss of each sample ``[B]``, in float32."""
        losses = self.loss(logits, labels, inputs, steps)
        if not self.training:
            return losses
        use, self._use = self._use, None
        if use is None:
            raise ConfigurationError(
                "EnergyPenalty: got no operation counts of the pass; call observe before the loss in training, as "
                "SpikingClassifier does."
            )
        weight = self._adapted(use) if self.weight is None else self.weight
        self._show(use, weight)
        return losses + (weight * use.relative).to(losses.dtype)

    @torch.no_grad()
    def _adapted(self, use: EnergyUse) -> Tensor:
        """The weight for this batch; moves the average and the multiplier."""
        assert use.energy is not None
        assert self.budget_j is not None
        energy = use.energy.detach().clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(energy)
            energy /= torch.distributed.get_world_size()
        self.measured += 1
        kept = torch.minimum(1 - 1 / self.measured, self.measured.new_full((), 1 - self._share / AVERAGED))
        self.average_j.copy_(torch.lerp(energy, self.average_j, kept))
        excess = (self.average_j / (self.budget_j * (1 - MARGIN))).log().clamp(-1, 1)
        self.log_weight += excess * (self.speed * self._share)
        self.log_weight.clamp_(math.log(WEIGHTS[0]), math.log(WEIGHTS[1]))
        return (self.log_weight + excess).exp()

    def _show(self, use: EnergyUse, weight: Tensor | float) -> None:
        self._shown = {"train/synops": use.synops.detach(), "train/energy_weight": weight}
        if use.energy is not None:
            assert self._meter is not None
            assert self._meter.price is not None
            self._shown["train/energy_j"] = use.energy.detach()
            self._shown |= unknown_energy("train", self._meter.price.unknown)

    def measurements(self) -> dict[str, Tensor | float]:
        """Metrics of the last training batch, by name."""
        return self._shown

    def logged_metrics(self, module: "SpikingClassifier") -> Iterator[str]:
        """Names (or patterns) of the metrics, to validate ``monitor``."""
        yield from ("train/synops", "train/energy_weight")
        if module.hardware is not None and prices(module.context).synop:
            yield from ("train/energy_j", "train/energy_unknown*")

    def report(self, last: bool) -> None:
        """Say at the end of an epoch whether the budget is met for the first time, or (``last``) that it is not."""
        if self.budget_j is None or not self.measured:
            return
        average = float(self.average_j)
        met = average <= self.budget_j
        if met and not self._met:
            rank_zero_info(
                f"EnergyPenalty: the budget of {self.budget_j:g} J is met: training batches take {average:.4g} J."
            )
        elif last and not met:
            rank_zero_warn(
                f"EnergyPenalty.budget_j: the budget of {self.budget_j:g} J is not met: the last training batches "
                f"take {average:.4g} J. Train longer, raise speed (now {self.speed:g}) or the budget, or prune."
            )
        self._met = met

    def state(self) -> dict[str, Tensor]:
        """Average energy and multiplier, for a checkpoint."""
        return {name: buffer.detach().clone() for name, buffer in self.named_buffers(recurse=False)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        for name, value in state.items():
            self.get_buffer(name).copy_(value)


def penalty_of(loss: nn.Module) -> EnergyPenalty | None:
    """The :class:`EnergyPenalty` in ``loss``, itself or one of its parts; None if there is none."""
    return next((part for part in loss.modules() if isinstance(part, EnergyPenalty)), None)
