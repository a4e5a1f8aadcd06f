"""Whether a network fits a chip, before or after training: which limits it violates, and what would help."""

import copy
import html
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spikefit.api.chips import Hardware, chip_of, chosen_chips
from spikefit.api.load import load, make_importable
from spikefit.cli.configured import configured_module
from spikefit.cli.shipped import require_config
from spikefit.deploy.deployment import structure_findings
from spikefit.deploy.fitting import fewest_units, findings_on, suited_quantizers
from spikefit.errors import SpikeFitError
from spikefit.hardware.check_chip_capacity import check_capacity, unknown_limits
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.finding import Finding
from spikefit.hardware.placement import place
from spikefit.hardware.target import HardwareTarget
from spikefit.module import SpikingClassifier
from spikefit.networks.blocks import Network
from spikefit.program.lower import lower
from spikefit.prune.groups import alive_units, set_alive, unit_groups
from spikefit.quantize.base import latent_weight
from spikefit.quantize.base import replace as replace_quantizer
from spikefit.quantize.described import built

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Check:
    """Result of the check of one network on one chip.

    Attributes:
        chip: name of the chip.
        findings: the violated limits, each with a remedy.
        unknown_limits: limits that nobody published, and that therefore were not checked.
        cores: number of cores in use; None if the network can't be placed.
        neurons: neurons of all populations.
        synapses: synapses of all layers.
        remedy: one sentence that says what would make the network fit; empty if it fits.
    """

    chip: str
    findings: tuple[Finding, ...]
    unknown_limits: tuple[str, ...]
    cores: int | None
    neurons: int
    synapses: int
    remedy: str

    @property
    def fits(self) -> bool:
        """Whether no known limit is violated."""
        return not self.findings

    def __str__(self) -> str:
        """The result as lines of text."""
        unknown = f", as far as known (unpublished: {', '.join(self.unknown_limits)})" if self.unknown_limits else ""
        if self.fits:
            return f"{self.chip}: fits{unknown}"
        return "\n".join(
            [f"{self.chip}: does not fit; {self.remedy}", *(f"  - {finding}" for finding in self.findings)]
        )

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(str(finding))}</li>" for finding in self.findings)
        return f"<p>{html.escape(str(self).splitlines()[0])}</p><ul>{items}</ul>"


def check(source: str | Path | SpikingClassifier, hardware: Hardware | None = None) -> Check:
    """Check whether a network fits a chip, without data and without training.

    The network is checked as it is: its units that are pruned do not count, and its quantizers are on. A network from a
    configuration has random weights, all its units, and norms with biases.

    Args:
        source: a configuration (a YAML file, or the name of a shipped one, such as ``quickstart``), a checkpoint, the
            directory of a run, or a module.
        hardware: the chip: a name, the path of a YAML file, or a description. None for the chip of the source.

    Raises:
        TargetError: for an unknown or malformed chip.
        ConfigurationError: for a configuration that can't be used, or without a chip.
        CheckpointError: if the checkpoint can't be loaded.

    Example:
        >>> from spikefit.networks import MLP
        >>> network = lambda shape, classes: MLP(shape, classes, hidden=[300])
        >>> module = SpikingClassifier(network, (1, 8, 8), 10, input_kind="constant", time_steps=4)
        >>> check(module, "loihi").fits
        True
        >>> check(module, "odin").findings[0].limit
        'neuron model'
    """
    module, untrained = module_of(source)
    target = chosen_chips([], module.hardware)[0] if hardware is None else chip_of(hardware, module.hardware)
    return check_on(module, target, untrained)


def module_of(source: str | Path | SpikingClassifier) -> tuple[SpikingClassifier, bool]:
    """The module to check, and whether it is still to be trained."""
    if isinstance(source, SpikingClassifier):
        return source, source.checkpoint_epoch is None
    path = Path(source)
    if path.suffix in SUFFIXES or not (path.exists() or path.suffix == ".ckpt"):
        config = require_config(str(source))
        make_importable(config.absolute().parent)
        return configured_module(["--config", str(config)]), True
    return load(source), False


def check_on(module: SpikingClassifier, target: HardwareTarget, untrained: bool) -> Check:
    """Check a module on one chip.

    Args:
        module: not changed.
        target: the chip.
        untrained: whether norms will add biases that are still 0.
    """
    context = replace(module.context, target=target)
    network = copy.deepcopy(module.network).cpu().eval()
    lacking = structure_findings(network, context, training=untrained)
    cores, neurons, synapses = None, 0, 0
    findings = list(lacking)
    try:
        program = lower(network, context, "target")
        placement = place(target, program, hops=False)
    except SpikeFitError:
        if not lacking:  # the chip has no integers for what it lacks
            raise
    else:
        findings += [*check_capacity(target, program), *placement.findings]
        cores, neurons = placement.cores_used, program.neurons
        synapses = sum(program.synapses(projection) for projection in program.projections)
    remedy = _remedy(network, context, lacking, findings) if findings else ""
    return Check(target.name, tuple(findings), tuple(unknown_limits(target)), cores, neurons, synapses, remedy)


def _remedy(network: Network, context: DeploymentContext, lacking: list[Finding], findings: list[Finding]) -> str:
    """One sentence that says what would make ``network``, a copy, fit."""
    if lacking:
        return f"it needs another network: {'; '.join(dict.fromkeys(finding.remedy for finding in lacking))}"
    replaced = suited_quantizers(network, context.chip)
    with_quantizers(network, replaced)
    groups = unit_groups(network)
    alive = {group.name: alive_units(network, group) for group in groups}
    for group, mask in fewest_units(groups, alive, 1).items():
        set_alive(network, next(each for each in groups if each.name == group), mask)
    left = findings_on(network, context)
    if left:
        return f"pruning and other quantizers are not enough: {'; '.join(dict.fromkeys(each.remedy for each in left))}"
    prunes = "prunes units" if any(finding.prune_blocks for finding in findings) else ""
    changes = f"replaces the quantizers of {', '.join(replaced)}" if replaced else ""
    how = " and ".join(filter(None, (changes, prunes))) or "prunes units"
    return f"the callback FitToHardware makes it fit: it {how}"


def with_quantizers(network: Network, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace quantizers of ``network`` by those of :func:`~spikefit.deploy.fitting.suited_quantizers`."""
    layers = dict(network.named_synapses())
    for name, description in wanted.items():
        replace_quantizer(layers[name], built(description, latent_weight(layers[name])))
