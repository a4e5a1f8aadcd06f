"""How much each unit and each synapse matters: low scores are pruned first. All scores share one interface.

Here are that interface, FSC and the choice of units; the modules ``*_scores`` and ``oracle`` beside hold other scores.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from spikefit.errors import check_choice, check_range
from spikefit.functional.fisher import (
    drawn_pullbacks,
    exact_pullbacks,
    fisher_sum,
    sketched_pullbacks,
    spike_contribution,
)
from spikefit.networks.blocks import Network
from spikefit.prune.groups import UnitGroup, unit_groups

Batch = tuple[Tensor, Tensor]
LossPerSample = Callable[[Tensor, Tensor], Tensor]
Fisher = Literal["sketched", "exact", "drawn", "empirical"]


class Importance(ABC):
    """What scores of units and of synapses have in common.

    A score is a sum over samples (``accumulate``) that may be added up over processes before it is divided by the
    number of samples, or a function of the weights alone, which needs no batches.

    Args:
        batches: how many training batches to look at; 0 for scores of the weights alone.
    """

    def __init__(self, batches: int = 0) -> None:
        check_range("batches", batches, 0)
        self.batches = batches

    @abstractmethod
    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Sums of the score, by name, and the number of samples that they add up.

        Args:
            network: read only, in evaluation mode.
            batches: inputs ``[T, B, ...]`` and labels ``[B]``.
            loss: loss of each sample ``[B]`` from logits ``[B, classes]`` and labels.
        """


class Score(Importance):
    """Importance of every unit, ``{group: [units]}`` with the groups of :func:`~spikefit.prune.groups.unit_groups`."""


class SynapseScore(Importance):
    """Importance of every synapse, ``{layer: [the weight's shape]}`` with the layers of ``network.named_synapses()``.

    Synapses that are not in use (:func:`~spikefit.prune.groups.live_synapses`) score 0.
    """


@contextmanager
def watched(
    network: Network, modules: Mapping[str, nn.Module], hook: Callable[[str, Tensor, Tensor], Tensor | None]
) -> Iterator[None]:
    """Have ``hook(name, input, output)`` called behind each of ``modules``; what it returns replaces the output.

    A compiled network runs uncompiled meanwhile: what was compiled knows nothing of hooks that are new.
    """

    def bound(name: str) -> Callable[..., Tensor | None]:
        return lambda _module, inputs, output: hook(name, inputs[0], output)

    handles = [module.register_forward_hook(bound(name)) for name, module in modules.items()]
    compiled = network._compiled_call_impl is not None
    try:
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recorded_spikes(network: Network) -> Iterator[dict[str, Tensor]]:
    """A dictionary that holds each neuron's spikes ``[T, B, K, ...]``, by block, after every forward."""
    spikes: dict[str, Tensor] = {}
    neurons = {name: block.neuron for name, block in network.named_blocks() if block.neuron is not None}
    with watched(network, neurons, lambda name, _, output: spikes.__setitem__(name, output)):
        yield spikes


@dataclass(frozen=True)
class Pass:
    """One batch's way through the network.

    Attributes:
        samples: number of samples.
        inputs, outputs: of the watched modules, by name.
        logits: ``[B, classes]``.
        vectors: what to pull back from the logits, ``[V, B, classes]``.
    """

    samples: int
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    logits: Tensor
    vectors: Tensor

    def gradients(self) -> Iterator[dict[str, Tensor]]:
        """For each vector, its gradients at the outputs; one backward pass each, which computes nothing else."""
        names, last = list(self.outputs), len(self.vectors) - 1
        for position, vector in enumerate(self.vectors.to(self.logits.dtype)):
            found = torch.autograd.grad(self.logits, list(self.outputs.values()), vector, retain_graph=position < last)
            yield dict(zip(names, found, strict=True))


class FisherImportance(Importance):
    """Half the Fisher information of gates: ``1/(2N) * sum_n E_y[(d log p(y|x_n) / dg)**2]``.

    That is the second-order estimate of the loss that it costs to close a gate. The ``empirical`` one takes the data's
    labels instead of the mean over labels y. It fades where the network fits its training data, because the loss then
    has no gradient left, while the network's own distribution over labels still says how its output would move.

    Args:
        batches: how many training batches to look at.
        fisher: ``exact``, with one backward pass a class; ``sketched``, an estimate of it without bias
            (:func:`~spikefit.functional.fisher.sketched_pullbacks`), whatever the number of classes; ``drawn``, with
            labels drawn from the predictions, the textbook's estimate, which varies more; ``empirical``, with the
            data's labels and the training loss.
        draws: backward passes a batch for ``sketched`` and ``drawn``. With two, a batch costs about a training step.
        seed: of the random signs or labels; the global random state stays as it is.

    Raises:
        ConfigurationError: for another ``fisher``, or no batch or no draw.
    """

    def __init__(self, batches: int = 8, fisher: Fisher = "sketched", draws: int = 2, seed: int = 0) -> None:
        check_range("batches", batches, 1)
        check_choice("fisher", fisher, ("sketched", "exact", "drawn", "empirical"))
        check_range("draws", draws, 1)
        super().__init__(batches)
        self.fisher, self.draws, self.seed = fisher, draws, seed

    def passes(
        self, network: Network, modules: Mapping[str, nn.Module], batches: Iterable[Batch], loss: LossPerSample
    ) -> Iterator[Pass]:
        """Send batches through ``network`` and watch ``modules``.

        The graph begins at the output of the first of them: no parameter gets a gradient, so that DDP's hooks stay
        silent, and none needs to be trainable.
        """
        generator = torch.Generator().manual_seed(self.seed)
        inputs: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}

        def keep(name: str, x: Tensor, y: Tensor) -> Tensor:
            # Where nothing trainable lies before, the graph begins here.
            y = y if y.requires_grad else y.detach().requires_grad_()
            inputs[name], outputs[name] = x, y
            return y

        for x, labels in batches:
            with torch.enable_grad(), watched(network, modules, keep):
                logits = network.logits(network(x))
            vectors = self._vectors(logits.detach().float(), labels, loss, generator)
            yield Pass(len(labels), dict(inputs), dict(outputs), logits, vectors)

    def _vectors(self, logits: Tensor, labels: Tensor, loss: LossPerSample, generator: torch.Generator) -> Tensor:
        """What to pull back, ``[V, B, classes]``."""
        if self.fisher == "exact":
            return exact_pullbacks(logits)
        if self.fisher == "sketched":
            return sketched_pullbacks(logits, self.draws, generator)
        if self.fisher == "drawn":
            return drawn_pullbacks(logits, self.draws, generator)
        with torch.enable_grad():
            logits.requires_grad_()
            return torch.autograd.grad(loss(logits, labels).sum(), logits)[0].unsqueeze(0)


class FSC(FisherImportance, Score):
    """Fisher Spike Contribution, ``1/(2N) * sum_n (sum_{t,h,w} dL_n/ds_k * s_k)**2`` with ``L = -log p(y|x)``.

    The Fisher information of a gate on the unit's spikes. The contributions of blocks that a shortcut ties together are
    added before the square: one gate silences them all. Arguments are those of :class:`FisherImportance`.
    """

    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Sums over samples. Spikes are taken behind the pooling, which leaves norm, neuron and pooling one kernel."""
        groups = unit_groups(network)
        totals: dict[str, Tensor] = {}
        samples = 0
        blocks = {name: network.block(name) for group in groups for name in group.blocks}
        for batch in self.passes(network, blocks, batches, loss):
            for gradients in batch.gradients():
                by_block = {
                    name: spike_contribution(batch.outputs[name].detach().float(), gradient.float())
                    for name, gradient in gradients.items()
                }
                for group in groups:
                    contribution = torch.stack([by_block[name] for name in group.blocks]).sum(dim=0)
                    totals[group.name] = totals.get(group.name, 0) + fisher_sum(contribution)
            samples += batch.samples
        return totals, samples


def select(
    scores: dict[str, Tensor], groups: list[UnitGroup], alive: dict[str, Tensor], keep: int, min_units: int
) -> dict[str, Tensor]:
    """New alive masks: the ``keep`` units of highest score over all groups live on.

    The dead stay dead. Every group keeps at least ``min_units`` (or all it still has), whatever its scores. Equal
    scores fall in the order of groups and units, so that every process decides alike.

    Args:
        scores: ``{group: [units]}``.
        groups: the groups that may lose units.
        alive: ``{group: bool [units]}``.
        keep: how many units over all of ``groups`` to keep.
        min_units: least number of units of a group.

    Returns:
        ``{group: bool [units]}``.
    """
    protected, candidates = [], []
    for position, group in enumerate(groups):
        living = alive[group.name].nonzero().flatten().tolist()
        score = scores[group.name].double().cpu()
        ranked = sorted(living, key=lambda unit, score=score: (-float(score[unit]), unit))  # type: ignore[misc]
        protected += [(position, unit) for unit in ranked[:min_units]]
        candidates += [(-float(score[unit]), position, unit) for unit in ranked[min_units:]]
    spare = max(0, keep - len(protected))
    kept = protected + [(position, unit) for _, position, unit in sorted(candidates)[:spare]]
    masks = {group.name: torch.zeros_like(alive[group.name]) for group in groups}
    for position, unit in kept:
        masks[groups[position].name][unit] = True
    return masks
