"""Networks from other libraries are imported with identical spikes, get a codebook, are pruned, and run on a chip."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.deployment_contexts import context
from helpers.interop_cases import recording
from helpers.tiny_fit import TinyData, fit
from torch import Tensor, nn

from callbacks import CodebookReclustering, FSCPruning
from callbacks.schedule import Schedule
from spikefit.deploy.deployment import Deployment
from spikefit.errors import ExchangeError
from spikefit.module import SpikingClassifier
from spikefit.networks.blocks import Network
from spikefit.networks.norms import FixedNorm
from spikefit.nir import FromNIR
from spikefit.prune.scores.recording import recorded_spikes
from spikefit.quantize import Codebook

for package in ("nir", "nirtorch"):
    pytest.importorskip(package, reason=f"{package} is not installed")

STEPS, BATCH = 6, 20
Spikes = list[Tensor]


def inputs() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(STEPS, BATCH, 1, 8, 8, generator=generator) < 0.4).float()


def lively(net: nn.Module, dyadic: bool = False) -> nn.Module:
    """Weights that make every layer fire; ``dyadic`` ones are so round that membranes often reach 1 exactly."""
    torch.manual_seed(0)
    with torch.no_grad():
        for part in net.modules():
            weight = getattr(part, "weight", None)
            if isinstance(weight, nn.Parameter):
                weight.copy_(
                    torch.randn_like(weight) * 2.0 / weight[0].numel() ** 0.5 + 0.15 / weight[0].numel() ** 0.5
                )
                if dyadic:
                    weight.copy_((weight * 4).round() / 4)
            bias = getattr(part, "bias", None)
            if isinstance(bias, nn.Parameter):
                bias.copy_(torch.randn_like(bias).round() / 4 if dyadic else torch.randn_like(bias) * 0.1)
    return net


@torch.no_grad()
def spikes_of(net: nn.Module, step: Callable[[Tensor], object], kind: type | tuple[type, ...], x: Tensor) -> Spikes:
    """What the modules of a ``kind`` send, in order, ``[T, B, ...]``."""
    names = [name for name, part in net.named_modules() if isinstance(part, kind)]
    kept, hooks = recording(net, lambda name: name in names)
    for frame in x:
        step(frame)
    for hook in hooks:
        hook.remove()
    return [torch.stack(kept[name]) for name in names]


def written_by_snntorch(path: str, beta=0.75, threshold=1.0, reset="zero", **options) -> tuple[str, Spikes]:
    snn = pytest.importorskip("snntorch", reason="snntorch is not installed")
    from snntorch.export_nir import export_to_nir

    def leaky(*shape):
        full = partial(torch.full, shape)
        return snn.Leaky(beta=full(beta), threshold=full(threshold), init_hidden=True, reset_mechanism=reset)

    layers = [nn.Conv2d(1, 6, 3, padding=1), leaky(6, 8, 8), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(96, 2), leaky(2)]
    net = lively(nn.Sequential(*layers), **options)
    import nir

    nir.write(path, export_to_nir(net, torch.rand(1, 1, 8, 8), ignore_dims=[0]))
    for part in net.modules():
        if isinstance(part, snn.Leaky):
            part.reset_mem()
    return path, spikes_of(net, net, snn.Leaky, inputs())


def written_by_snntorch_with_synapses(path: str, alpha=0.0) -> tuple[str, Spikes]:
    """A CubaLIF: with ``alpha`` 0 its synapses forget at once."""
    snn = pytest.importorskip("snntorch", reason="snntorch is not installed")
    import nir
    from snntorch.export_nir import export_to_nir

    def synaptic(units):
        full = partial(torch.full, (units,))
        # With its default delay a reset also swallows the input of the next step, which no graph says.
        options = {"init_hidden": True, "reset_mechanism": "zero", "reset_delay": False}
        return snn.Synaptic(alpha=full(alpha), beta=full(0.75), threshold=full(1.0), **options)

    net = lively(nn.Sequential(nn.Flatten(), nn.Linear(64, 20), synaptic(20), nn.Linear(20, 2), synaptic(2)))
    nir.write(path, export_to_nir(net, torch.rand(1, 1, 8, 8), ignore_dims=[0]))
    for part in net.modules():
        if isinstance(part, snn.Synaptic):
            part.reset_mem()
    return path, spikes_of(net, net, snn.Synaptic, inputs())


def written_by_spikingjelly(path: str, v_reset=0.0, decay_input=True, **options) -> tuple[str, Spikes]:
    pytest.importorskip("spikingjelly", reason="spikingjelly is not installed")
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    net = lively(
        nn.Sequential(
            layer.Conv2d(1, 6, 3, padding=1, bias=False),
            neuron.IFNode(v_reset=v_reset),
            layer.AvgPool2d(2, 2),
            layer.Conv2d(6, 8, 3),
            neuron.LIFNode(tau=2.0, v_reset=v_reset, decay_input=decay_input),
            layer.Flatten(),
            layer.Linear(32, 2, bias=False),
            neuron.ParametricLIFNode(init_tau=4.0, v_reset=v_reset, decay_input=False),
        ),
        **options,
    )
    export_to_nir(net, torch.rand(1, 1, 8, 8), path)
    functional.reset_net(net)
    return path, spikes_of(net, net, neuron.BaseNode, inputs())


def built_in_norse(**options) -> tuple[nn.Module, Spikes]:
    norse = pytest.importorskip("norse.torch", reason="norse is not installed")
    from norse.torch.module.lif_box import LIFBoxCell, LIFBoxParameters

    def box(rate):
        return LIFBoxCell(LIFBoxParameters(tau_mem_inv=torch.tensor(rate)))

    net = lively(norse.SequentialState(nn.Linear(64, 20), box(300.0), nn.Linear(20, 2), box(500.0)), **options)
    with torch.no_grad():
        net[0].weight.mul_(3)  # a step takes only dt / tau of the current
        net[2].weight.mul_(3)
    state = None

    def step(frame):
        nonlocal state
        _, state = net(frame.flatten(1), state)

    return net, spikes_of(net, step, LIFBoxCell, inputs())


def written_by_norse(path: str, dt=1.0, **options) -> tuple[object, Spikes]:
    net, spikes = built_in_norse(**options)
    import norse.torch

    return norse.torch.to_nir(net, torch.rand(64), dt=dt), spikes


def written_by_sinabs(path: str, norm_input=True) -> tuple[object, Spikes]:
    sl = pytest.importorskip("sinabs.layers", reason="sinabs is not installed")
    import sinabs.nir
    from sinabs.activation import SingleSpike

    options = {"batch_size": BATCH, "spike_fn": SingleSpike}
    net = lively(
        nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1, bias=False),
            sl.IAFSqueeze(**options),
            sl.SumPool2d(2),
            nn.Flatten(),
            nn.Linear(96, 12),
            sl.LIFSqueeze(tau_mem=torch.tensor(3.0), norm_input=norm_input, **options),
            nn.Linear(12, 2),
        )
    )
    flat = inputs().transpose(0, 1).flatten(0, 1)
    graph = sinabs.nir.to_nir(net, flat)
    sinabs.reset_states(net)
    spikes = spikes_of(net, net, sl.StatefulLayer, flat[None])
    return graph, [s[0].unflatten(0, (BATCH, STEPS)).transpose(0, 1) for s in spikes]


WRITERS = {
    "snntorch": (written_by_snntorch, {}),
    "snntorch, high threshold": (partial(written_by_snntorch, beta=0.9, threshold=1.6), {}),
    "snntorch, synapses": (written_by_snntorch_with_synapses, {}),
    "spikingjelly": (written_by_spikingjelly, {}),
    "spikingjelly, v_reset": (partial(written_by_spikingjelly, v_reset=-0.25, decay_input=False), {}),
    "spikingjelly, whole input": (partial(written_by_spikingjelly, decay_input=False), {}),
    "norse": (written_by_norse, {}),
    "sinabs": (written_by_sinabs, {}),
    "sinabs, whole input": (partial(written_by_sinabs, norm_input=False), {"ignore_resistance": True}),
}


def quiet(writer, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return writer(str(path), **options)


def ours(network: Network) -> Spikes:
    with recorded_spikes(network.double().eval()) as spikes, torch.no_grad():
        network(inputs().double())
    return list(spikes.values())


def mismatches(first: Spikes, second: Spikes) -> int:
    assert [s.shape for s in first] == [s.shape for s in second]
    return sum(int((one != other).sum()) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("case", WRITERS)
def test_every_spike_is_the_one_that_the_library_sends(tmp_path, case):
    writer, options = WRITERS[case]
    source, expected = quiet(writer, tmp_path / "network.nir")
    network = FromNIR((1, 8, 8), 2, source, dialect=case.partition(",")[0], **options)
    assert all(0.03 < rate < 0.97 for rate in [float(spikes.mean()) for spikes in expected])
    assert mismatches(ours(network), expected) == 0


@pytest.mark.parametrize(
    ("writer", "dialect", "other"),
    [
        (partial(written_by_snntorch, beta=0.5, dyadic=True), "snntorch", "spikingjelly"),
        (partial(written_by_spikingjelly, dyadic=True), "spikingjelly", "snntorch"),
    ],
)
def test_who_fires_at_the_threshold(tmp_path, writer, dialect, other):
    """Membranes often lie on the threshold: snnTorch fires above it, as NIR says, SpikingJelly at it."""
    source, expected = quiet(writer, tmp_path / "network.nir")
    assert mismatches(ours(FromNIR((1, 8, 8), 2, source, dialect=dialect)), expected) == 0
    assert mismatches(ours(FromNIR((1, 8, 8), 2, source, dialect=other)), expected) > 20


@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_a_reset_that_snntorch_does_not_write_is_a_warning(tmp_path, reset):
    """Both files are equal: who reads one must say which it is."""
    source, _ = quiet(partial(written_by_snntorch, reset=reset), tmp_path / "network.nir")
    with pytest.warns(UserWarning, match="does not say whether .*Assumed 'zero'.*use 'subtract' by default"):
        assert FromNIR((1, 8, 8), 2, source, dialect="snntorch").block("conv1").neuron.reset == "zero"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert FromNIR((1, 8, 8), 2, source, dialect="snntorch", reset=reset).block("conv1").neuron.reset == reset


def test_synapses_with_a_memory_are_refused(tmp_path):
    source, _ = quiet(partial(written_by_snntorch_with_synapses, alpha=0.4), tmp_path / "network.nir")
    with pytest.raises(ExchangeError, match=r"node '2' \(CubaLIF\): tau_syn is not dt"):
        FromNIR((1, 8, 8), 2, source, dialect="snntorch")


def test_norse_writes_tau_times_dt(tmp_path):
    """With its own dt, 1 ms, a tau of 2 ms becomes 2 us, which makes a decay below 0 and is refused."""
    graph, expected = quiet(partial(written_by_norse, dt=0.001), tmp_path / "network.nir")
    with pytest.raises(
        ExchangeError, match=r"node '1' \(LIF\): tau = 3\.33.*e-06 s with a step of 0\.001 s.*Is dt right"
    ):
        FromNIR((1, 8, 8), 2, graph, dialect="norse")
    network = FromNIR((1, 8, 8), 2, graph, dialect="norse", dt=1e-6)
    assert mismatches(ours(network), expected) == 0


@pytest.mark.parametrize("case", ["snntorch", "spikingjelly", "sinabs"])
def test_an_imported_network_is_compressed_and_deployed(tmp_path, case):
    source, _ = quiet(WRITERS[case][0], tmp_path / "network.nir")
    factory = partial(FromNIR, path=source, dialect=case)
    model = SpikingClassifier(factory, (1, 8, 8), 2, partial(Codebook, levels=4, bits=4))
    before = {name: p.detach().clone() for name, p in model.network.named_parameters()}
    callbacks = [CodebookReclustering(Schedule(1)), FSCPruning(fraction=0.3, schedule=Schedule(1, 2))]
    fit(tmp_path, callbacks, model, epochs=3)
    assert any(not torch.equal(before[name], p) for name, p in model.network.named_parameters() if name in before)
    network = model.network.eval()
    data = TinyData()
    x, y = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    deployment = Deployment(network, context(len(x), target="loihi"))
    with torch.no_grad():
        deployment.update(x, y, network.logits(network(x)))
    report = deployment.report()
    assert report.parity.mismatches == 0
    assert report.parity.compared > 5000
    assert report.unique_weights_max <= 4
    assert report.units_pruned_fraction == pytest.approx(0.3, abs=0.1)
    assert report.spikes_per_inference > 0
    assert not any(isinstance(block.norm, FixedNorm) and block.norm.training for _, block in network.named_blocks())


def test_a_network_comes_from_a_configuration(tmp_path):
    """The class path and the options that YAML gives, as the command line builds them."""
    from jsonargparse import ArgumentParser

    source, expected = quiet(written_by_spikingjelly, tmp_path / "network.nir")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(SpikingClassifier, "model")
    network = {"class_path": "spikefit.nir.FromNIR", "init_args": {"path": str(source), "dialect": "spikingjelly"}}
    options = {"network": network, "input_shape": [1, 8, 8], "num_classes": 2}
    parsed = parser.parse_object({"model": {"class_path": "spikefit.module.SpikingClassifier", "init_args": options}})
    model = parser.instantiate_classes(parsed).model
    assert Path(source).is_file()
    assert mismatches(ours(model.network), expected) == 0
