"""Remedies for findings: populations that may be pruned, and approximately how many units."""

from spikefit.program.ir import Population, Program


def prunable(program: Program, *names: str) -> tuple[str, ...]:
    """The prunable populations among ``names``, or all if none is given; input and output are never prunable."""
    hidden = tuple(population.name for population in program.populations[1:-1])
    return tuple(name for name in hidden if name in names) if names else hidden


def senders(program: Program, name: str) -> tuple[str, ...]:
    """Prunable populations that send to population ``name``."""
    return prunable(program, *(projection.source for projection in program.inputs_of(name)), "")


def receivers(program: Program, name: str) -> tuple[str, ...]:
    """Prunable populations that receive from population ``name``."""
    return prunable(program, *(projection.target for projection in program.outputs_of(name)), "")


def fewer_units(population: Population, needed: int, available: int) -> str:
    """Remedy: prune the share of ``population`` by which ``needed`` exceeds ``available``."""
    units = population.shape[0]
    kind, count = "channels" if len(population.shape) == 3 else "neurons", max(1, units - units * available // needed)
    return f"prune {count} of {units} {kind} of {population.name}"


def fewer_inputs(program: Program, name: str, needed: int, available: int) -> str:
    """Remedy for too many synapses into a neuron of population ``name``: prune units of its sources."""
    return _share(program, senders(program, name), needed, available)


def fewer_targets(program: Program, name: str, needed: int, available: int) -> str:
    """Remedy for too many synapses from a neuron of population ``name``: prune units of its targets."""
    return _share(program, receivers(program, name), needed, available)


def _share(program: Program, names: tuple[str, ...], needed: int, available: int) -> str:
    """Remedy: prune units of the largest population in ``names``, as if all units had equally many synapses."""
    if not names:
        return f"prune {needed - available} synapses of its densest neuron"
    largest = max((program.population(name) for name in names), key=lambda population: population.neurons)
    return fewer_units(largest, needed, available)
