"""Registry of neuron models: classes agree with their entries, and errors name what a new neuron lacks."""

import textwrap

import pytest
import torch
from helpers.custom_neurons import FloorIF, MyLIF, floor_step, forgotten

from spikefit import neurons
from spikefit.errors import ConfigurationError, ExchangeError
from spikefit.functional import neuron_models
from spikefit.functional.dynamics import apply_leak
from spikefit.functional.neuron_models import (
    NeuronModel,
    StepConstants,
    constants_in_units,
    neuron_model,
    register,
    require_emulated,
    require_exact,
    require_integer,
    require_nir_form,
)
from spikefit.hardware.target import HardwareTarget, available_targets
from spikefit.networks import MLP
from spikefit.neurons import IF, LIF, SpikingNeuron
from spikefit.program.ir import Population

SHIPPED = ("if", "lif", "linear_leak_if", "cuba_lif")
CLASSES = [
    cls
    for cls in vars(neurons).values()
    if isinstance(cls, type) and issubclass(cls, SpikingNeuron) and cls is not SpikingNeuron
]


@pytest.fixture(autouse=True)
def registry():
    with forgotten():
        yield


def test_there_are_classes():
    assert {cls.model for cls in CLASSES} == set(SHIPPED)


@pytest.mark.parametrize("cls", CLASSES)
def test_each_class_agrees_with_its_entry(cls):
    """The spikes of the class follow the leak and the synaptic current of its entry."""
    module = cls(1)
    entry = neuron_model(cls.model)
    assert module.entry is entry
    assert not module.own_dynamics or entry.step is not None
    assert entry.synaptic == (module.synaptic_decay is not None)
    assert module.dynamics.leak == entry.leak
    charges = torch.tensor([0.8, 0.15, 0.3, 0.05, 0.5, 0.9, 0.2]).view(-1, 1, 1)
    state, expected = torch.zeros(1, 1), []
    for charge in charges:
        membrane = apply_leak(state, entry.leak, module.leak_amount()) + charge
        expected.append((membrane >= 1).float())
        state = membrane - expected[-1]
    assert torch.equal(module(charges), torch.stack(expected))
    filtered = module.filtered(charges)
    assert torch.equal(filtered, charges) != entry.synaptic


@pytest.mark.parametrize("name", SHIPPED)
def test_each_entry_has_its_class(name):
    cls = getattr(neurons, neuron_model(name).neuron)
    assert cls.model == name


@pytest.mark.parametrize("name", available_targets())
def test_the_neurons_of_every_chip_are_registered_and_have_integers(name):
    for model in HardwareTarget.load(name).neuron.models.value:
        assert require_integer(neuron_model(model)).name == model


@pytest.mark.parametrize("name", SHIPPED)
def test_what_the_shipped_neurons_have(name):
    entry = neuron_model(name)
    assert require_exact(entry) is require_integer(entry) is require_emulated(entry) is entry
    assert entry.nir == {"if": "IF", "lif": "LIF"}.get(name)
    assert entry.leak_unit == ("membrane" if name == "linear_leak_if" else "ratio")
    assert entry.multiplies == (name in ("lif", "cuba_lif"))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"got 'izhikevich', expected one of if, lif, .* imported first"):
        neuron_model("izhikevich")
    with pytest.raises(ConfigurationError, match="got 'izhikevich'"):
        Population("l1", (3,), "izhikevich")
    for role in ("input", "readout"):
        assert not Population("l1", (3,), role).spiking


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"name": "readout", "leak": "none"}, r"name of neuron My: got 'readout'"),
        ({"leak": "square"}, r"leak of neuron my \(My\): got 'square'"),
        ({"leak": "none", "nir": "CubaLIF"}, r"nir of neuron my \(My\): got 'CubaLIF', expected one of 'IF', 'LIF'"),
        ({"leak": "linear", "nir": "LIF"}, r"nir of neuron my \(My\): got 'LIF', expected None: .* leak 'decay'"),
        ({"leak": "decay", "nir": "LIF", "step": floor_step}, r"got 'LIF', expected None: .* no step of its own"),
        ({"leak": "decay", "nir": "LIF", "synaptic": True}, r"got 'LIF', expected None: .* no synaptic current"),
        ({"leak": "none", "constants": {"floor": "membrane"}}, r"constants of .*: got floor, but it has no step"),
        ({"leak": None, "step": floor_step, "constants": {"floor": "volt"}}, r"constant floor of .*: got 'volt'"),
    ],
)
def test_an_entry_that_contradicts_itself_is_refused(options, match):
    with pytest.raises(ConfigurationError, match=match):
        NeuronModel(**{"name": "my", "neuron": "My", **options})


def test_a_name_belongs_to_one_class():
    with pytest.raises(ConfigurationError, match=r"the name 'lif' belongs to LIF; choose another for MyLIF"):
        register(NeuronModel("lif", "MyLIF", "decay"))
    for leak in ("decay", "none"):  # a module that is loaded again
        assert neuron_model(register(NeuronModel("my_lif", "MyLIF", leak)).name).leak == leak


@pytest.mark.parametrize(
    ("require", "entry", "error", "match"),
    [
        (require_exact, {"leak": None}, ConfigurationError, r"has no step: .* be trained, but not lowered"),
        (require_integer, {"leak": None}, ConfigurationError, r"has no step"),
        (
            require_integer,
            {"leak": None, "step": floor_step},
            ConfigurationError,
            r"has no integer form: .* integer=True.*; it can be simulated exactly, but not on a chip",
        ),
        (
            require_integer,
            {"leak": "decay", "integer": False},
            ConfigurationError,
            r"has no integer form: .* integer=False",
        ),
        (
            require_emulated,
            {"leak": None, "step": floor_step, "integer": True},
            ConfigurationError,
            r"has no gradient in a chip's integers",
        ),
        (require_nir_form, {"leak": "linear"}, ExchangeError, r"has no NIR form: NIR has no linear leak; use IF or"),
        (require_nir_form, {"leak": "decay"}, ExchangeError, r"has no NIR form: its entry .* names no node \(nir=\)"),
        (
            require_nir_form,
            {"leak": "decay", "synaptic": True},
            ExchangeError,
            r"has no NIR form: its synaptic current",
        ),
        (
            require_nir_form,
            {"leak": None, "step": floor_step},
            ExchangeError,
            r"has no NIR form: NIR has no node for its dynamics",
        ),
    ],
)
def test_a_missing_part_is_named(require, entry, error, match):
    with pytest.raises(error, match=rf"^neuron my \(My\) {match}"):
        require(NeuronModel("my", "My", **entry))


def test_a_class_that_fires_in_its_own_way_under_another_s_name_is_found():
    """It inherits the entry of LIF, which does not describe it."""

    class Noisy(LIF):
        def fire(self, current):
            return super().fire(current + 0.1)

    module = Noisy(3)
    assert module.own_dynamics
    with pytest.raises(ConfigurationError, match=r"neuron lif \(LIF\) has no step"):
        require_exact(module.entry, module.own_dynamics)
    assert require_exact(LIF(3).entry, LIF(3).own_dynamics).name == "lif"


@pytest.mark.parametrize("cls", [IF, MyLIF, FloorIF])
def test_a_new_neuron_trains_a_step(cls):
    register(NeuronModel("my_lif", "MyLIF", "decay"))
    register(NeuronModel("floor_if", "FloorIF", None))
    torch.manual_seed(0)
    network = MLP((12,), 3, hidden=(8,), neuron=cls)
    x = (torch.rand(5, 6, 12) < 0.5).float()
    for _ in range(2):  # a fused and a plain block alike
        loss = torch.nn.functional.cross_entropy(network.logits(network(x)), torch.arange(6) % 3)
        loss.backward()
    before = network.block("fc1").synapses.weight.detach().clone()
    assert network.block("fc1").synapses.weight.grad.abs().sum() > 0
    torch.optim.SGD(network.parameters(), 0.1).step()
    assert not torch.equal(network.block("fc1").synapses.weight, before)


def test_an_own_way_of_firing_is_what_a_block_runs():
    """The fused kernel must not be used: it does not implement these dynamics."""
    register(NeuronModel("floor_if", "FloorIF", None))
    network = MLP((4,), 2, hidden=(3,), neuron=FloorIF)
    block = network.block("fc1")
    x = torch.rand(6, 2, 4) - 0.5
    assert torch.equal(block(x), FloorIF(3)(block.current(x)))


def test_a_neuron_that_is_not_registered_can_t_be_built():
    with pytest.raises(ConfigurationError, match=r"got 'my_lif', expected one of if"):
        MyLIF(3)

    class Nameless(SpikingNeuron):
        pass

    with pytest.raises(ConfigurationError, match=r"Nameless: no attribute model"):
        Nameless(3)


def test_what_training_needs_is_named():
    register(NeuronModel("my_lif", "MyLIF", None))
    with pytest.raises(ConfigurationError, match=r"my_lif \(MyLIF\) has no leak in its entry, and its class"):
        MyLIF(3)(torch.ones(2, 1, 3))
    register(NeuronModel("my_lif", "MyLIF", "decay", synaptic=True))
    with pytest.raises(ConfigurationError, match=r"my_lif \(MyLIF\) has no synaptic_decay, but .* synaptic=True"):
        MLP((4,), 2, hidden=(3,), neuron=MyLIF)(torch.ones(2, 1, 4))


def test_a_neuron_with_a_synaptic_current_needs_no_class_of_its_own_in_blocks():
    class Slow(LIF):
        model = "slow_lif"
        synaptic_decay = 0.6

    register(NeuronModel("slow_lif", "Slow", "decay", synaptic=True))
    torch.manual_seed(0)
    block = MLP((4,), 2, hidden=(3,), neuron=Slow).block("fc1")
    x = torch.rand(6, 2, 4)
    current = neurons.CubaLIF(3, 0.6, 0.5).filtered(block.synaptic(x))
    normed = block.norm(current.flatten(0, 1)).unflatten(0, current.shape[:2])
    assert torch.equal(block(x), LIF(3)(normed))


@pytest.mark.parametrize("cast", [torch.float64, torch.int64])
def test_a_step_repeats_its_class(cast):
    """In units of a quarter: floor -1, threshold 4."""
    register(NeuronModel("floor_if", "FloorIF", None, step=floor_step, constants={"floor": "membrane"}, integer=True))
    entry, module = neuron_model("floor_if"), FloorIF(3)
    assert require_integer(require_exact(entry, module.own_dynamics)) is entry
    quarters = torch.randint(-3, 6, (20, 2, 3))
    own = constants_in_units(entry, module.own_constants(), torch.full((3,), 0.25))
    constants = StepConstants(
        torch.full((3,), 4, dtype=cast),
        torch.zeros(3, dtype=cast),
        own={name: value.to(cast) for name, value in own.items()},
    )
    state, spikes = torch.zeros(2, 3, dtype=cast), []
    for current in quarters.to(cast):
        fired, membrane, state = entry.step(state, current, constants)
        assert membrane.dtype == state.dtype == cast
        spikes.append(fired)
    assert torch.equal(torch.stack(spikes).double(), module(quarters / 4).double())
    assert (torch.stack(spikes).double() != IF(3)(quarters / 4)).any(), "the floor shows"


def test_constants_are_folded_by_their_units():
    entry = NeuronModel("my", "My", None, step=floor_step, constants={"floor": "membrane", "share": "ratio"})
    gain = torch.tensor([2.0, 0.5], requires_grad=True)
    found = constants_in_units(entry, {"floor": -1.0, "share": torch.tensor([0.25, 0.75])}, gain)
    assert {name: value.tolist() for name, value in found.items()} == {"floor": [-0.5, -2.0], "share": [0.25, 0.75]}
    assert all(value.dtype == torch.float64 and not value.requires_grad for value in found.values())
    with pytest.raises(ConfigurationError, match=r"neuron my \(My\): no value for floor, share"):
        constants_in_units(entry, {}, gain)
    assert IF(3).own_constants() == {}


def test_the_example_of_the_docstring_runs():
    example = neuron_models.__doc__.split("that entry::")[1].split("Class and entry supply")[0]
    names = {"__name__": "own"}
    exec(textwrap.dedent(example), names)
    current = torch.rand(5, 2, 3)
    assert torch.equal(names["MyLIF"](3)(current), LIF(3)(current))
