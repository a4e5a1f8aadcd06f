"""Losses against their formulas, and in the module."""

import pytest
import torch
import torch.nn.functional as F
from helpers.tiny_fit import TinyData, module

from spikefit.distillation import Distillation
from spikefit.errors import ConfigurationError
from spikefit.losses import CrossEntropy, TemporalCrossEntropy
from spikefit.module import SpikingClassifier
from spikefit.networks import MLP
from spikefit.preflight import Preflight


def outputs(steps=3, batch=5, classes=4):
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(steps, batch, classes, generator=generator, requires_grad=True)
    return output, torch.randint(classes, (batch,), generator=generator)


def smoothed(logits, labels, smoothing):
    """Cross entropy with the smoothed distribution, written out."""
    classes = logits.shape[1]
    wanted = F.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
    return -(wanted * logits.log_softmax(1)).sum(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_spreads_a_share_of_the_label(smoothing):
    output, labels = outputs()
    expected = smoothed(output.mean(0), labels, smoothing)
    torch.testing.assert_close(CrossEntropy(smoothing)(output.mean(0), labels, None, output), expected)


@pytest.mark.parametrize("regularizer", [0.0, 0.05, 1.0])
def test_temporal_cross_entropy_is_the_written_one(regularizer):
    output, labels = outputs()
    loss = TemporalCrossEntropy(0.1, regularizer, target=0.5)(output.mean(0), labels, None, output)
    entropy = sum(smoothed(step, labels, 0.1) for step in output) / len(output)
    distance = ((output - 0.5) ** 2).sum(dim=(0, 2)) / (output.shape[0] * output.shape[2])
    torch.testing.assert_close(loss, (1 - regularizer) * entropy + regularizer * distance)
    (gradient,) = torch.autograd.grad(loss.sum(), output)
    assert (gradient != 0).all(), "every step learns by itself"


def test_one_step_is_plain_cross_entropy():
    output, labels = outputs(steps=1)
    expected = CrossEntropy(0.1)(output[0], labels)
    torch.testing.assert_close(TemporalCrossEntropy(0.1)(output[0], labels, None, output), expected)


def test_in_evaluation_the_logits_alone_count():
    output, labels = outputs()
    logits = output.mean(0)
    found = TemporalCrossEntropy(0.1, 0.5).eval()(logits, labels)
    torch.testing.assert_close(found, CrossEntropy(0.1)(logits, labels))


def test_a_loss_is_float32_in_mixed_precision():
    output, labels = outputs()
    for loss in (CrossEntropy(), TemporalCrossEntropy(regularizer=0.1)):
        assert loss(output.mean(0).bfloat16(), labels, None, output.bfloat16()).dtype == torch.float32


def test_the_module_hands_over_every_step():
    """A step of training gives the gradient of the formula, written with the network alone."""
    model, reference = (module(quantizer=None, loss=TemporalCrossEntropy(0.1, 0.05)) for _ in range(2))
    x, labels = TinyData().dataset.tensors
    x = x[:16].transpose(0, 1)
    output = reference.network(x)
    assert len(output.unique(dim=0)) > 1, "the steps differ"
    entropy = sum(smoothed(step, labels[:16], 0.1) for step in output) / len(output)
    (0.95 * entropy + 0.05 * ((output - 1) ** 2).mean(dim=(0, 2))).mean().backward()
    model.log = lambda *arguments, **options: None
    model.training_step((x, labels[:16]), 1).backward()
    for (name, found), expected in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, msg=name)


def test_distillation_passes_the_steps_on(monkeypatch):
    output, labels = outputs()
    loss = Distillation("teacher.ckpt", weight=0.0, loss=TemporalCrossEntropy())
    monkeypatch.setattr(loss, "answers", lambda inputs: torch.zeros(5, 4))
    found = loss(output.mean(0), labels, torch.zeros(1), output)
    torch.testing.assert_close(found, TemporalCrossEntropy()(output.mean(0), labels, None, output))


def test_steps_are_needed_in_training():
    output, labels = outputs()
    with pytest.raises(ConfigurationError, match="steps: got None"):
        TemporalCrossEntropy()(output.mean(0), labels)


@pytest.mark.parametrize("wrap", [lambda loss: loss, lambda loss: Distillation("teacher.ckpt", loss=loss)])
def test_a_readout_that_spikes_is_refused_before_training(wrap):
    model = SpikingClassifier(
        lambda shape, classes: MLP(shape, classes, (4,), readout="spikes"), (6,), 3, loss=wrap(TemporalCrossEntropy())
    )
    with pytest.raises(ConfigurationError, match="readout: got 'spikes', expected membrane"):
        model.loss.preflight(Preflight(model, None, "test", None, False))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: CrossEntropy(1.5), "label_smoothing"),
        (lambda: TemporalCrossEntropy(-0.1), "label_smoothing"),
        (lambda: TemporalCrossEntropy(regularizer=2.0), "regularizer"),
    ],
)
def test_a_bad_option_is_named(make, named):
    with pytest.raises(ConfigurationError, match=f"^{named}: got"):
        make()


def test_a_loss_that_does_not_take_the_steps_is_refused_at_once():
    class OfThree(torch.nn.Module):
        def forward(self, logits, labels, inputs=None):
            return logits.sum(dim=1)

    with pytest.raises(ConfigurationError, match=r"OfThree.forward takes \(logits, labels, inputs\), expected"):
        SpikingClassifier(MLP, (7,), 3, loss=OfThree())
