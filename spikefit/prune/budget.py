"""Limits on the size of a pruned network: neurons, synapses, or energy."""

from dataclasses import dataclass
from typing import Literal

from torch.nn.utils import parametrize

from spikefit.errors import ConfigurationError, check_range
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.networks.blocks import Network
from spikefit.prune.resources import ResourceUse, Traffic, energy, neurons, require_prices, synapses, terms_left_out

Quantity = Literal["neurons", "synapses", "energy_j"]


@dataclass(frozen=True)
class Budget:
    """An upper limit on the size of a network, in exactly one quantity.

    Attributes:
        neurons: living neurons of the lowered network, including the readout; every position of a map counts.
        synapses: live synapses (in bounds, not zero, between living units), as a deployment report counts them.
        energy_j: energy of an inference on the run's chip, joule: synops at the measured firing rates, updates and
            static power. Terms with unknown constants, hops and relays are left out; see :meth:`left_out`.
        batches: number of training batches on which a process measures the firing rates for ``energy_j``.

    Raises:
        ConfigurationError: for no quantity or several, or one that is not positive.

    Example:
        >>> budget = Budget(synapses=50_000)
        >>> budget.quantity, budget.amount, budget.goal
        ('synapses', 50000, 'budget of synapses=50000')
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
        """Name of the limited quantity."""
        return "neurons" if self.neurons is not None else "synapses" if self.synapses is not None else "energy_j"

    @property
    def amount(self) -> float:
        """The limit, in units of the quantity."""
        return getattr(self, self.quantity)

    @property
    def goal(self) -> str:
        """The budget as text for messages."""
        return f"budget of {self.quantity}={self.amount:g}"

    @property
    def needs_traffic(self) -> bool:
        """Whether the size depends on how much the network fires."""
        return self.quantity == "energy_j"

    def depends_on_units_alone(self, network: Network) -> bool:
        """Whether the living units alone determine the size, independent of weights and firing rates."""
        plain = all(
            not parametrize.is_parametrized(layer, "weight") and getattr(layer, "groups", 1) == 1
            for _, layer in network.named_synapses()
        )
        return self.quantity == "neurons" or (self.quantity == "synapses" and plain)

    def require(self, context: DeploymentContext) -> None:
        """Check before training that the quantity can be computed for this run.

        Raises:
            ConfigurationError: for ``energy_j`` in a run without a chip.
            TargetError: for ``energy_j`` on a chip whose energy constants are unknown.
        """
        if self.quantity == "energy_j":
            require_prices(context.chip)

    def left_out(self, context: DeploymentContext) -> dict[str, str]:
        """Terms of the energy that the quantity does not contain although they need not be 0, each with the reason."""
        return terms_left_out(context.chip, context.input_kind) if self.quantity == "energy_j" else {}

    def resource_use(
        self, network: Network, context: DeploymentContext | None, found: Traffic | None = None
    ) -> ResourceUse:
        """The quantity as a function of the living units and synapses.

        Args:
            network: in evaluation mode.
            context: the chip; only needed for ``energy_j``.
            found: firing rates; only needed for ``energy_j``.
        """
        if self.quantity == "neurons":
            return neurons(network)
        if self.quantity == "synapses":
            return synapses(network)
        assert found is not None
        assert context is not None
        return energy(network, context.chip, found)

    def unreachable(self, least: float, because: str) -> ConfigurationError:
        """The error for a budget below ``least``, the smallest possible size."""
        return ConfigurationError(
            f"budget: {self.quantity}={self.amount:g} can't be met: {because}, and the least is {least:.6g}."
        )
