"""How large a pruned network may be."""

from dataclasses import dataclass
from typing import Literal

from torch.nn.utils import parametrize

from spikefit.errors import ConfigurationError, check_range
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.networks.blocks import Network
from spikefit.prune.resources import ResourceUse, Traffic, energy, neurons, require_prices, synapses

Quantity = Literal["neurons", "synapses", "energy_j"]


@dataclass(frozen=True)
class Budget:
    """The most that a network may take, of exactly one quantity.

    Attributes:
        neurons: living neurons of the lowered network, each place of a map counted; the readout's too.
        synapses: live synapses (in bounds, not zero, between living units), as a deployment report counts them.
        energy_j: joule of an inference on the run's chip: synops at the measured rates, updates and static power.
        batches: training batches on which a process measures the firing rates for ``energy_j``.

    Raises:
        ConfigurationError: for no quantity or several, or one that is not positive.
    """

    neurons: int | None = None
    synapses: int | None = None
    energy_j: float | None = None
    batches: int = 4

    def __post_init__(self) -> None:
        given = [name for name in ("neurons", "synapses", "energy_j") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigurationError(
                f"budget: got {' and '.join(given) or 'nothing'}, expected exactly one of neurons, synapses, energy_j."
            )
        if not self.amount > 0:
            raise ConfigurationError(f"budget.{self.quantity}: got {self.amount!r}, expected a value above 0.")
        check_range("budget.batches", self.batches, 1)

    @property
    def quantity(self) -> Quantity:
        """Which quantity is limited."""
        return "neurons" if self.neurons is not None else "synapses" if self.synapses is not None else "energy_j"

    @property
    def amount(self) -> float:
        """The most there may be of it."""
        return getattr(self, self.quantity)

    @property
    def goal(self) -> str:
        """The budget in words."""
        return f"budget of {self.quantity}={self.amount:g}"

    @property
    def needs_traffic(self) -> bool:
        """Whether the size depends on how much the network fires."""
        return self.quantity == "energy_j"

    def depends_on_units_alone(self, network: Network) -> bool:
        """Whether the number of living units tells the size, before any weight or firing rate is known."""
        plain = all(
            not parametrize.is_parametrized(layer, "weight") and getattr(layer, "groups", 1) == 1
            for _, layer in network.named_synapses()
        )
        return self.quantity == "neurons" or (self.quantity == "synapses" and plain)

    def require(self, context: DeploymentContext) -> None:
        """Refuse a run for which the quantity can't be told, before training.

        Raises:
            ConfigurationError: for ``energy_j`` in a run that names no chip.
            TargetError: for ``energy_j`` on a chip whose energy constants are unknown.
        """
        if self.quantity == "energy_j":
            require_prices(context.chip)

    def resource_use(
        self, network: Network, context: DeploymentContext | None, found: Traffic | None = None
    ) -> ResourceUse:
        """The quantity as a function of what lives.

        Args:
            network: in evaluation mode.
            context: the chip, for ``energy_j`` alone.
            found: firing rates, for ``energy_j``.
        """
        if self.quantity == "neurons":
            return neurons(network)
        if self.quantity == "synapses":
            return synapses(network)
        assert found is not None
        assert context is not None
        return energy(network, context.chip, found)

    def unreachable(self, least: float, because: str) -> ConfigurationError:
        """The error for a budget below the ``least`` that is possible."""
        return ConfigurationError(
            f"budget: {self.quantity}={self.amount:g} can't be met: {because}, and the least is {least:.6g}."
        )
