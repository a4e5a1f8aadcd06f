"""Options of training may change when a run resumes; learning rates equal those of a run that always had them."""

import copy

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, ReduceLROnPlateau

from spikefit.errors import ConfigurationError
from spikefit.optim import WarmupCosine, make_optimizer
from spikefit.resume.changed_options import changed, renew_training, require_same_network


def described(lr=0.1, optimizer="torch.optim.Adam", **options):
    return {"optimizer": {"class_path": optimizer, "init_args": {"lr": lr}}, "lr_interval": "epoch", **options}


def training(lr, schedule):
    """Optimizer and scheduler of a network of two parameters, and a function that makes one epoch of two steps."""
    weights = [torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))]
    optimizer = torch.optim.Adam([{"params": [weights[0]]}, {"params": [weights[1]], "weight_decay": 0.0}], lr=lr)
    scheduler = None if schedule is None else schedule(optimizer)

    def epoch():
        for _ in range(2):
            (weights[0].sum() ** 2 + weights[1].sum()).backward()
            optimizer.step()
            optimizer.zero_grad()
        if scheduler is not None:
            scheduler.step()
        return [group["lr"] for group in optimizer.param_groups]

    return optimizer, scheduler, epoch


def configured(optimizer, scheduler):
    return optimizer if scheduler is None else {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler}}


def checkpoint_after(epochs, lr, schedule, **options):
    optimizer, scheduler, epoch = training(lr, schedule)
    for _ in range(epochs):
        epoch()
    return {
        "hyper_parameters": described(lr, **options),
        "optimizer_states": [copy.deepcopy(optimizer.state_dict())],
        "lr_schedulers": [] if scheduler is None else [copy.deepcopy(scheduler.state_dict())],
        "global_step": 2 * epochs,
        "loops": {"fit_loop": {"epoch_progress": {"current": {"processed": epochs}}}},
    }


SCHEDULES = {
    "none": None,
    "cosine": lambda optimizer: CosineAnnealingLR(optimizer, T_max=9, eta_min=0.01),
    "exponential": lambda optimizer: ExponentialLR(optimizer, 0.7),
    "warm-up": lambda optimizer: WarmupCosine(optimizer, total_steps=8, warmup_steps=2),
}


@pytest.mark.parametrize("new", SCHEDULES)
@pytest.mark.parametrize("old", SCHEDULES)
def test_a_new_rate_and_schedule_continue_as_if_they_had_been_there_from_the_start(old, new):
    checkpoint = checkpoint_after(3, 0.1, SCHEDULES[old], lr_scheduler={"class_path": old})
    moments = checkpoint["optimizer_states"][0]["state"]
    optimizer, scheduler, epoch = training(0.5, SCHEDULES[new])
    options = described(0.5, lr_scheduler={"class_path": new})
    found = renew_training(checkpoint, options, configured(optimizer, scheduler))
    assert ("model.init_args.optimizer.init_args.lr", 0.5, 0.1) in found
    optimizer.load_state_dict(checkpoint["optimizer_states"][0])
    if scheduler is not None:
        scheduler.load_state_dict(checkpoint["lr_schedulers"][0])
    assert torch.equal(optimizer.state_dict()["state"][0]["exp_avg"], moments[0]["exp_avg"])

    _, _, uninterrupted = training(0.5, SCHEDULES[new])
    rates = [uninterrupted() for _ in range(6)]
    assert [epoch() for _ in range(3)] == rates[3:]


def test_nothing_is_replaced_without_a_change():
    checkpoint = checkpoint_after(3, 0.1, SCHEDULES["cosine"])
    before = copy.deepcopy(checkpoint)
    optimizer, scheduler, _ = training(0.1, SCHEDULES["cosine"])
    assert renew_training(checkpoint, described(), configured(optimizer, scheduler)) == []
    assert str(checkpoint) == str(before)


def test_a_longer_training_gives_its_schedule_another_length():
    schedule = WarmupCosine

    def of_length(steps):
        def make(optimizer):
            scheduler = schedule(optimizer)
            scheduler.set_total(steps)
            return scheduler

        return make

    checkpoint = checkpoint_after(3, 0.1, of_length(4))
    optimizer, scheduler, epoch = training(0.1, of_length(8))
    assert renew_training(checkpoint, described(), configured(optimizer, scheduler))[0][1:] == (8, 4)
    optimizer.load_state_dict(checkpoint["optimizer_states"][0])
    scheduler.load_state_dict(checkpoint["lr_schedulers"][0])
    _, _, uninterrupted = training(0.1, of_length(8))
    assert [uninterrupted() for _ in range(4)][3] == epoch()


def test_another_interval_counts_steps():
    checkpoint = checkpoint_after(3, 0.1, SCHEDULES["cosine"])
    optimizer, scheduler, _ = training(0.1, SCHEDULES["cosine"])
    renew_training(checkpoint, described(lr_interval="step"), configured(optimizer, scheduler))
    assert checkpoint["lr_schedulers"][0]["last_epoch"] == 6


def test_a_plateau_starts_anew():
    checkpoint = checkpoint_after(3, 0.1, None)
    optimizer, scheduler, _ = training(0.5, ReduceLROnPlateau)
    renew_training(checkpoint, described(0.5), configured(optimizer, scheduler))
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == 0.5


def test_another_optimizer_is_refused():
    checkpoint = checkpoint_after(1, 0.1, None)
    optimizer, scheduler, _ = training(0.1, None)
    with pytest.raises(ConfigurationError, match=r"optimizer\.class_path: got torch\.optim\.SGD.*stores.*Adam"):
        renew_training(checkpoint, described(optimizer="torch.optim.SGD"), configured(optimizer, scheduler))


NETWORK = {
    "network": {"class_path": "spikefit.networks.ConvSNN", "init_args": {"channels": [4, 8], "neuron": {
        "class_path": "spikefit.neurons.LIF", "init_args": {"threshold": 1.0}}}},
    "quantizer": {"class_path": "spikefit.quantize.Codebook", "init_args": {"levels": 4}},
    "layer_quantizers": {"conv1": None},
    "prunable_synapses": False,
    "loss": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("quantizer.init_args.levels", 8, "quantizer.init_args.levels: got 8, but the checkpoint (ckpt_path) stores 4"),
        ("network.init_args.channels", [4, 9], "network.init_args.channels: got [4, 9], but"),
        ("network.init_args.neuron.init_args.threshold", 2.0, "neuron.init_args.threshold: got 2.0, but"),
        ("network.init_args.neuron.class_path", "spikefit.neurons.IF", "neuron.class_path: got 'spikefit.neurons.IF'"),
        ("quantizer", None, "quantizer: got None, but"),
        ("layer_quantizers", {"conv2": None}, "layer_quantizers: got {'conv2': None}, but"),
        ("prunable_synapses", True, "prunable_synapses: got True, but the checkpoint (ckpt_path) stores False"),
    ],
)
def test_what_contradicts_the_network_is_refused_with_both_values(path, value, named):
    given = copy.deepcopy(NETWORK)
    *above, last = path.split(".")
    place = given
    for name in above:
        place = place[name]
    place[last] = value
    with pytest.raises(ConfigurationError) as caught:
        require_same_network(given, NETWORK)
    assert named in str(caught.value)
    assert str(caught.value).count("stores") == 1


def test_the_same_network_under_other_names_is_accepted():
    given = copy.deepcopy(NETWORK)
    given["network"]["class_path"] = "spikefit.networks.plain.ConvSNN"  # the module that defines it
    given["network"]["init_args"]["channels"] = (4, 8)
    del given["network"]["init_args"]["neuron"]["init_args"]["threshold"]
    given["loss"] = {"class_path": "spikefit.losses.CrossEntropy"}
    require_same_network(given, NETWORK)
    require_same_network(NETWORK, given)
    require_same_network(NETWORK, {})
    assert [name for name, _, _ in changed(given, NETWORK, ("loss",))] == ["model.init_args.loss"]


@pytest.mark.parametrize("lr", [float("inf"), float("nan"), -1.0])
def test_a_learning_rate_that_is_no_number_is_refused(lr):
    weights = [torch.nn.Parameter(torch.ones(2, 2))]
    with pytest.raises(ConfigurationError, match=r"model\.init_args\.optimizer"):
        make_optimizer(lambda groups: torch.optim.SGD(groups, lr=lr), weights, (), 0.1)
