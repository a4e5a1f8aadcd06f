"""Costs of units on a chip; a score divided by the cost prunes units with the least importance per cost first."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from spikefit.errors import check_range
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.placement import Placement, place
from spikefit.hardware.sourced_value import known_or
from spikefit.hardware.target import HardwareTarget
from spikefit.networks.blocks import Network
from spikefit.program.ir import Program
from spikefit.program.lower import lower
from spikefit.prune.groups import unit_groups
from spikefit.prune.resources import alive_by_block, energy, measure_traffic, require_prices, synapses, terms_left_out
from spikefit.prune.scores.base import Batch


class UnitCost(ABC):
    """Base class of the saving from removing one living unit, with all other units unchanged.

    Costs of blocks that a shortcut ties together are added, because their tied units are one unit.

    Args:
        batches: number of training batches; 0 for costs that do not depend on data.

    Attributes:
        needs_chip: whether the cost depends on the run's chip.
    """

    needs_chip: bool = True

    def __init__(self, batches: int = 0) -> None:
        check_range("batches", batches, 0)
        self.batches = batches

    def require(self, context: DeploymentContext) -> None:
        """Check before training that a cost that needs a chip can be computed for this run.

        Raises:
            ConfigurationError: for a run without a chip.
            TargetError: for a chip whose constants are unknown.
        """
        _ = context.chip

    def left_out(self, context: DeploymentContext) -> dict[str, str]:
        """Terms of the energy that the cost leaves out although they need not be 0, each with the reason."""
        return {}

    @abstractmethod
    def per_unit(
        self, network: Network, batches: Iterable[Batch], context: DeploymentContext | None
    ) -> dict[str, Tensor]:
        """The cost of each unit, ``{group: [units]}``, float64, not negative; undefined for dead units.

        Args:
            network: read only, in evaluation mode.
            batches: inputs ``[T, B, ...]`` and labels ``[B]``.
            context: the chip, and what the network reads; required by a cost that needs a chip.
        """


class SynapseCost(UnitCost):
    """Number of live synapses that enter or leave a unit, in bounds and not zero.

    Example:
        >>> from spikefit.networks import MLP
        >>> SynapseCost().per_unit(MLP((1, 8, 8), 10, hidden=[4]), [], None)["fc1"].tolist()  # 64 inputs, 10 outputs
        [74.0, 74.0, 74.0, 74.0]
    """

    needs_chip = False

    def __init__(self) -> None:
        super().__init__(0)

    def per_unit(
        self, network: Network, batches: Iterable[Batch], context: DeploymentContext | None
    ) -> dict[str, Tensor]:
        """Number of synapses of each unit."""
        return synapses(network).per_unit(unit_groups(network), alive_by_block(network))


class EnergyCost(UnitCost):
    """Energy of a unit in an inference, joule: synops that the unit causes and receives, and its updates.

    The firing rates of all units are measured on some batches and assumed constant when a unit is removed. Hops, relays
    and static power are not included, nor are multiplications of a real-valued input if the host computes them.

    Args:
        batches: number of training batches on which firing rates are measured.

    Example:
        >>> from spikefit.hardware.target import HardwareTarget
        >>> from spikefit.input_kind import InputKind
        >>> from spikefit.networks import MLP
        >>> context = DeploymentContext(HardwareTarget.load("loihi"), 4, InputKind.SPIKES)
        >>> batch = torch.ones(4, 2, 1, 8, 8), torch.tensor([3, 7])
        >>> cost = EnergyCost(batches=1).per_unit(MLP((1, 8, 8), 10, hidden=[16]).eval(), [batch], context)
        >>> cost["fc1"].shape, bool((cost["fc1"] > 0).all())
        (torch.Size([16]), True)
    """

    def __init__(self, batches: int = 4) -> None:
        check_range("batches", batches, 1)
        super().__init__(batches)

    def require(self, context: DeploymentContext) -> None:
        """Check that the chip's energy constants are known."""
        require_prices(context.chip)

    def left_out(self, context: DeploymentContext) -> dict[str, str]:
        """As :func:`~spikefit.prune.resources.terms_left_out`, without static power, to which no unit contributes."""
        terms = terms_left_out(context.chip, context.input_kind)
        return {term: reason for term, reason in terms.items() if term != "static"}

    def per_unit(
        self, network: Network, batches: Iterable[Batch], context: DeploymentContext | None
    ) -> dict[str, Tensor]:
        """Energy of each unit, joule."""
        assert context is not None
        resource_use = energy(network, context.chip, measure_traffic(network, batches, context.input_kind))
        return resource_use.per_unit(unit_groups(network), alive_by_block(network))


class CoreCost(UnitCost):
    """Number of cores per unit: the cores of the unit's population, divided by its living units.

    Computed from the placement of the lowered network. A core that several populations share is divided in proportion
    to their neurons; cores of relays are not counted. A population that does not fit counts as many cores as its
    neurons alone would fill.

    Example:
        >>> from spikefit.hardware.target import HardwareTarget
        >>> from spikefit.input_kind import InputKind
        >>> from spikefit.networks import MLP
        >>> context = DeploymentContext(HardwareTarget.load("loihi"), 4, InputKind.SPIKES)
        >>> CoreCost().per_unit(MLP((1, 8, 8), 10, hidden=[4]).eval(), [], context)["fc1"].tolist()
        [0.25, 0.25, 0.25, 0.25]
    """

    def __init__(self) -> None:
        super().__init__(0)

    def per_unit(
        self, network: Network, batches: Iterable[Batch], context: DeploymentContext | None
    ) -> dict[str, Tensor]:
        """Number of cores of each unit."""
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
    """Number of cores that each population of ``program`` takes."""
    cores = dict.fromkeys((population.name for population in program.populations), 0.0)
    for core in placement.cores:
        for part in core.parts:
            cores[part.population] += len(part.neurons) / core.neurons
    room = max(1, known_or(math.inf, target.limits.neurons_per_core))  # an empty core holds no neuron at all
    for name in placement.unplaced:
        population = program.population(name)
        cores[name] = max(1.0, math.ceil(population.neurons * target.cells(population) / room))
    return cores
