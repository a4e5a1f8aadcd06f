"""What a unit costs on a chip: a score divided by it prunes the unit that matters least for what it takes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from spikefit.errors import check_range
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.placement import Placement, place
from spikefit.hardware.sourced_value import known
from spikefit.hardware.target import HardwareTarget
from spikefit.networks.blocks import Network
from spikefit.program.ir import Program
from spikefit.program.lower import lower
from spikefit.prune.groups import unit_groups
from spikefit.prune.resources import alive_by_block, energy, require_prices, synapses, traffic
from spikefit.prune.scores.base import Batch


class UnitCost(ABC):
    """What removing one living unit saves, with all other units as they are.

    Blocks that a shortcut ties together add up: their unit is one.

    Args:
        batches: how many training batches to look at; 0 for costs that do not depend on data.

    Attributes:
        needs_chip: whether the cost is one on the run's chip.
    """

    needs_chip: bool = True

    def __init__(self, batches: int = 0) -> None:
        check_range("batches", batches, 0)
        self.batches = batches

    def require(self, context: DeploymentContext) -> None:
        """Refuse a run for which a cost that needs a chip can't be told, before training.

        Raises:
            ConfigurationError: when no chip is named.
            TargetError: for a chip whose constants are unknown.
        """
        _ = context.chip

    @abstractmethod
    def per_unit(
        self, network: Network, batches: Iterable[Batch], context: DeploymentContext | None
    ) -> dict[str, Tensor]:
        """``{group: [units]}``, float64, not negative; what it says of dead units means nothing.

        Args:
            network: read only, in evaluation mode.
            batches: inputs ``[T, B, ...]`` and labels ``[B]``.
            context: the chip, and what the network reads; given to a cost that needs a chip.
        """


class SynapseCost(UnitCost):
    """Live synapses that go with a unit: those that reach it and those that leave it, in bounds and not zero."""

    needs_chip = False

    def __init__(self) -> None:
        super().__init__(0)

    def per_unit(
        self, network: Network, batches: Iterable[Batch], context: DeploymentContext | None
    ) -> dict[str, Tensor]:
        """Numbers of synapses."""
        return synapses(network).per_unit(unit_groups(network), alive_by_block(network))


class EnergyCost(UnitCost):
    """Joule of an inference that go with a unit: synops that it causes and receives, and its updates.

    Every unit's firing rate is measured on some batches and held while one is removed. Hops and static power are left
    out, and the multiplications of a real-valued input where the host does them.

    Args:
        batches: how many training batches to measure firing rates on.
    """

    def __init__(self, batches: int = 4) -> None:
        check_range("batches", batches, 1)
        super().__init__(batches)

    def require(self, context: DeploymentContext) -> None:
        """Refuse a chip whose energy constants are unknown."""
        require_prices(context.chip)

    def per_unit(
        self, network: Network, batches: Iterable[Batch], context: DeploymentContext | None
    ) -> dict[str, Tensor]:
        """Joule."""
        assert context is not None
        footprint = energy(network, context.chip, traffic(network, batches, context.input_kind))
        return footprint.per_unit(unit_groups(network), alive_by_block(network))


class CoreCost(UnitCost):
    """Share of the chip's cores that a unit takes: the cores of its population, over the living units of it.

    From the placement of the lowered network. A core that several populations share counts for each by its neurons;
    cores of splitters for none. A population that does not fit counts as many cores as its neurons alone would fill.
    """

    def __init__(self) -> None:
        super().__init__(0)

    def per_unit(
        self, network: Network, batches: Iterable[Batch], context: DeploymentContext | None
    ) -> dict[str, Tensor]:
        """Cores."""
        assert context is not None
        chip, program = context.chip, lower(network, context, "target")
        cores = cores_by_population(chip, program, place(chip, program, hops=False))
        alive = alive_by_block(network)
        return {
            group.name: torch.full(
                (group.units,),
                sum(cores[name] / max(1, int(alive[name].sum())) for name in group.blocks),
                dtype=torch.float64,
            )
            for group in unit_groups(network)
        }


def cores_by_population(target: HardwareTarget, program: Program, placement: Placement) -> dict[str, float]:
    """How many cores each population of ``program`` takes."""
    cores = dict.fromkeys((population.name for population in program.populations), 0.0)
    for core in placement.cores:
        for part in core.parts:
            cores[part.population] += len(part.neurons) / core.neurons
    room = known(target.limits.neurons_per_core) or math.inf
    for name in placement.unplaced:
        population = program.population(name)
        cores[name] = max(1.0, math.ceil(population.neurons * target.cells(population) / room))
    return cores
