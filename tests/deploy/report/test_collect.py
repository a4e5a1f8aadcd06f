"""The data of a report's pictures, compared with numpy, scikit-learn and a recorded simulation."""

from functools import cache, partial

import numpy as np
import pytest
import torch
from helpers.deployment_contexts import context
from sklearn.metrics import confusion_matrix

from spikefit.deploy.deployment import Deployment
from spikefit.deploy.report import Report
from spikefit.deploy.report.collect import MAX_ROWS, codebook_values, codebooks, confusion_counts, histogram
from spikefit.deploy.report.picture_data import MAX_EPOCHS, EpochEntry, Histogram, TrainingRecord
from spikefit.networks import MLP, ConvSNN
from spikefit.neurons import LIF, CubaLIF
from spikefit.program.simulate import Simulator
from spikefit.prune.groups import live_synapses, set_alive, unit_groups
from spikefit.quantize import Codebook
from spikefit.quantize.base import attach, latent_weight, quantizer_of

SAMPLES, STEPS = 60, 3


@cache
def network():
    torch.manual_seed(0)
    made = ConvSNN((1, 6, 6), 3, (4, 5), (6,), neuron=partial(LIF, decay=0.5)).eval()
    for (_, layer), options in zip(made.named_synapses(), ({}, {"scope": "channel"}, {}, {}), strict=True):
        attach(layer, Codebook(layer.weight.detach(), levels=4, bits=8, **options))
    group = unit_groups(made)[0]
    set_alive(made, group, torch.tensor([True, False, True, True]))
    return made


@cache
def data():
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(1, SAMPLES, 1, 6, 6, generator=generator).expand(STEPS, SAMPLES, 1, 6, 6)
    with torch.no_grad():
        logits = network().logits(network()(images))
    labels = torch.where(torch.arange(SAMPLES) % 3 == 1, (logits.argmax(1) + 1) % 3, logits.argmax(1))
    return images, labels, logits


def deploy(parts=((0, 1),), **options):
    """Deployments of every ``stride``-th sample from ``first`` on, in batches of 16, added up."""
    deployments = []
    for first, stride in parts:
        deployment = Deployment(
            network(), context(STEPS, True, target="loihi"), first_sample=first, sample_stride=stride, **options
        )
        inputs, labels, logits = data()
        for start in range(first, SAMPLES, 16 * stride):
            chosen = slice(start, min(SAMPLES, start + 16 * stride), stride)
            deployment.update(inputs[:, chosen], labels[chosen], logits[chosen])
        deployments.append(deployment)
    for other in deployments[1:]:
        deployments[0].tally.add(other.tally)
    return deployments[0]


@cache
def report() -> Report:
    return deploy().report()


def test_histograms_are_those_of_numpy():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    found = histogram(values, bins=20)
    counts, edges = np.histogram(values.double().numpy(), 20)
    assert found.counts == tuple(counts)
    assert found.edges == pytest.approx(edges, rel=1e-5)
    assert histogram(torch.full((5,), 2.0), bins=3) == Histogram(1.5, 2.5, (0, 5, 0))
    assert histogram(torch.zeros(0), bins=2).total == 0


def test_codebooks_are_the_values_of_living_synapses():
    for entry, (name, layer) in zip(codebooks(network()), network().named_synapses(), strict=True):
        live = live_synapses(network(), name)
        used = quantizer_of(layer).quantize(latent_weight(layer))[live].detach().double().numpy()
        values, counts = np.unique(used, return_counts=True)
        assert entry.values == pytest.approx(values, rel=1e-5)
        assert entry.counts == tuple(counts)
        assert entry.latent.total == int(live.sum()) < layer.weight.numel() or "fc" in name or name == "readout"
        assert (entry.quantizer, entry.tables) == ("Codebook", 5 if name == "conv2" else 1)


def test_many_values_are_binned_and_float_layers_have_none():
    made = MLP((1, 8, 8), 10, hidden=[32]).eval()
    first, last = (layer for _, layer in made.named_synapses())
    attach(first, Codebook(first.weight.detach(), levels=64, bits=8))
    attach(last, Codebook(last.weight.detach(), levels=4))
    quantizer_of(last).strength = 0.0
    binned, plain = codebooks(made)
    assert binned.binned
    assert sum(binned.counts) == first.weight.numel()
    assert len(binned.counts) == len(binned.values) < 60
    assert (plain.quantizer, plain.values, plain.latent.total) == (None, (), 320)
    assert len(codebook_values(quantizer_of(last))) == 4
    assert codebook_values(quantizer_of(first)) == ()


def test_rates_are_those_of_a_recorded_simulation():
    inputs, _, _ = data()
    deployment = deploy()
    spikes = Simulator(deployment.program)(inputs, record=True).spikes
    for entry in report().rates:
        rate = spikes[entry.layer].double().mean(dim=(0, 1)).flatten().numpy()
        assert entry.rates.counts == tuple(np.histogram(rate, 20, (0, 1))[0])
        assert (entry.silent, entry.saturated) == ((rate == 0).sum(), (rate >= 0.95).sum())
    assert [entry.layer for entry in report().rates] == [name for name in spikes if name != "readout"]


def test_confusion_is_that_of_scikit_learn():
    inputs, labels, _ = data()
    predicted = Simulator(deploy().program)(inputs).logits.argmax(1)
    assert report().confusion == tuple(map(tuple, confusion_matrix(labels, predicted, labels=range(3)).tolist()))
    assert confusion_counts(labels, predicted, 200) is None


def test_examples_are_the_first_right_and_wrong_samples():
    inputs, labels, _ = data()
    simulation = Simulator(deploy().program)(inputs, record=True)
    correct = simulation.logits.argmax(1) == labels
    for entry, wanted in zip(report().examples, (True, False), strict=True):
        sample = int((correct == wanted).nonzero()[0])
        assert (entry.sample, entry.label, entry.correct) == (sample, int(labels[sample]), wanted)
        assert entry.scores[0] == pytest.approx(float(simulation.logits[sample].max()), rel=1e-5)
        for rows in entry.rows:
            spikes = simulation.spikes[rows.layer][:, sample].flatten(1)
            assert rows.neurons == spikes.shape[1]
            shown = [[0 if letter == "." else int(letter, 36) for letter in row] for row in rows.spikes]
            assert torch.equal(torch.tensor(shown), spikes[:, list(rows.shown)].T.long())
        image = inputs[0, sample, 0]
        digits = torch.tensor([[int(digit, 16) for digit in row] for row in entry.picture])
        assert torch.equal(digits, ((image - image.min()) / (image.max() - image.min()) * 15).round().long())


def test_several_processes_report_what_one_does():
    """Each of them sees every second sample; the examples are still the first ones of the test set."""
    together = deploy(((0, 2), (1, 2)), parity_samples=0).report()
    alone = deploy(parity_samples=0).report()
    for name in ("rates", "examples", "confusion", "codebooks", "core_map"):
        assert getattr(together, name) == getattr(alone, name), name


def test_cores_are_those_of_the_placement():
    placement, found = deploy().placement, report().core_map
    assert found.used == placement.cores_used == len(found.row)
    assert list(zip(found.row, found.column, strict=True)) == [tuple(place) for place in placement.positions.tolist()]
    for core, parts, fill in zip(placement.cores, found.parts, found.fill, strict=True):
        held = {found.layers[layer]: neurons for layer, neurons in parts}
        assert held == {part.population: len(part.neurons) for part in core.parts}
        assert fill == round(100 * max(core.utilisation.values()))


def test_neurons_that_fire_several_times_and_inputs_without_an_image():
    torch.manual_seed(0)
    neuron = partial(CubaLIF, synaptic_decay=0.5, decay=0.75, max_spikes=31)
    made = MLP((12,), 3, hidden=[300], neuron=neuron, readout="spikes", norm="gain").eval()
    with torch.no_grad():
        made.block("fc1").synapses.weight.abs_().mul_(30)
    deployment = Deployment(made, context(200, False, target="xylo_audio3"))
    inputs = (torch.rand(200, 4, 12) < 0.5).float()
    with torch.no_grad():
        deployment.update(inputs, torch.zeros(4, dtype=torch.int64), made.logits(made(inputs)))
    found = deployment.report()
    entry = found.examples[0]
    assert entry.over_time
    assert (len(entry.picture), len(entry.picture[0])) == (12, 128)
    assert entry.steps == 200
    assert sum(len(rows.spikes) for rows in entry.rows) <= MAX_ROWS
    assert {len(row) for rows in entry.rows for row in rows.spikes} == {128}
    assert any(letter not in ".1" for rows in entry.rows for row in rows.spikes for letter in row)
    assert found.rates[0].rates.high > 1
    assert found.rates[0].rates.total == 300


def test_a_report_stays_small_however_long_the_training():
    def entry(epoch):
        return EpochEntry(epoch, 0.9, 0.9, 1e-6, (9,) * 20, (), 1.0, False)

    record = TrainingRecord(layers=("a",) * 20, units=(10,) * 20)
    for epoch in range(3000):
        record = record.with_epoch(entry(epoch))
    assert MAX_EPOCHS // 2 < len(record.epochs) <= MAX_EPOCHS + 1
    assert record.epochs[-1] == entry(2999)
    assert record.with_epoch(entry(10)).epochs[-1].epoch == 10, "an epoch that is trained again replaces later ones"
    assert record.removed()[0][0] == 0


def test_a_limit_that_check_and_placement_find_is_one_finding():
    made = ConvSNN((1, 8, 8), 3, (32, 4), (), neuron=partial(LIF, decay=0.5, reset="zero")).eval()
    findings = Deployment(made, context(STEPS, True, target="tianjic")).findings
    assert [finding.where for finding in findings if finding.limit == "fan-in"] == ["conv2"]
