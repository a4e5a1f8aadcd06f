"""What would mend a finding: whose units may be pruned, and about how many."""

from spikefit.program.ir import Population, Program


def prunable(program: Program, *names: str) -> tuple[str, ...]:
    """Which of the populations ``names`` (of all, if none is given) may lose units: neither the input nor the last."""
    hidden = tuple(population.name for population in program.populations[1:-1])
    return tuple(name for name in hidden if name in names) if names else hidden


def senders(program: Program, name: str) -> tuple[str, ...]:
    """Populations that may lose units and send to ``name``."""
    return prunable(program, *(projection.source for projection in program.inputs_of(name)), "")


def receivers(program: Program, name: str) -> tuple[str, ...]:
    """Populations that may lose units and receive from ``name``."""
    return prunable(program, *(projection.target for projection in program.outputs_of(name)), "")


def fewer_units(population: Population, needed: int, available: int) -> str:
    """Of a population whose units need ``needed`` together, prune those that ``available`` has no room for."""
    units = population.shape[0]
    kind, count = "channels" if len(population.shape) == 3 else "neurons", max(1, units - units * available // needed)
    return f"prune {count} of {units} {kind} of {population.name}"


def fewer_inputs(program: Program, name: str, needed: int, available: int) -> str:
    """For a neuron of ``name`` with more synapses than there may be: units of its sources."""
    return _share(program, senders(program, name), needed, available)


def fewer_targets(program: Program, name: str, needed: int, available: int) -> str:
    """For a neuron of ``name`` that sends to more synapses than there may be: units of its targets."""
    return _share(program, receivers(program, name), needed, available)


def _share(program: Program, names: tuple[str, ...], needed: int, available: int) -> str:
    """Units of the largest population among ``names``, taking each to have as many synapses as the others."""
    if not names:
        return f"prune {needed - available} synapses of its densest neuron"
    largest = max((program.population(name) for name in names), key=lambda population: population.neurons)
    return fewer_units(largest, needed, available)
