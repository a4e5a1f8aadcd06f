"""Transforms of events: allowed classes, error messages, and randomness."""

import inspect

import pytest
from tonic import transforms

from spikefit.data.events.pipeline import EventPipeline
from spikefit.data.events.transforms import DETERMINISTIC, _of_events, choose, equip
from spikefit.errors import ConfigurationError


def tonic(name, **arguments):
    return {"class_path": f"tonic.transforms.{name}", "init_args": arguments}


@pytest.mark.parametrize("name", _of_events())
def test_a_transform_counts_as_random_if_it_draws_random_numbers(name):
    assert draws(getattr(transforms, name)) == (name not in DETERMINISTIC)


def draws(cls):
    """Whether the class, or the function of tonic that it calls, uses numpy's random numbers for plain values."""
    source = inspect.getsource(cls.__call__)
    for called in vars(transforms.functional).values():
        if inspect.isfunction(called) and f"functional.{called.__name__}(" in source:
            source += inspect.getsource(called)
    # Which draws only where a range is given.
    source = source.replace(inspect.getsource(transforms.functional.time_skew_numpy), "")
    return "random" in source


@pytest.mark.parametrize(
    ("given", "random"),
    [
        (tonic("RefractoryPeriod", delta=100), False),
        (tonic("RefractoryPeriod", delta=[100, 200]), True),
        (tonic("TimeSkew", coefficient=1.5), False),
        (tonic("TimeSkew", coefficient=[0.5, 1.5]), True),
        (tonic("TimeSkew", coefficient=1.5, offset=[0, 10]), True),
        (tonic("Denoise", filter_time=1), False),
        (tonic("DropEvent", p=0.1), True),
        ({"class_path": "helpers.event_source.Twice"}, True),
        ({"class_path": "helpers.event_source.TwiceAlways"}, False),
    ],
)
def test_what_is_random(given, random):
    (choice,) = choose("augment", [given])
    assert choice.random == random


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (tonic("Denoize"), r"transforms\[0\].class_path: got 'tonic.transforms.Denoize'.*expected one of .*Denoise"),
        (tonic("ToFrame", n_time_bins=3), r"class_path: got .*ToFrame'.*for frames use framing"),
        (tonic("Denoise"), r"transforms\[0\].init_args:.*required: filter_time.*allowed are filter_time"),
        (tonic("Denoise", filter_tim=3), r"'filter_tim' is not accepted; allowed are filter_time"),
        (tonic("Denoise", filter_time="long"), r"filter_time.*long"),
        (tonic("CenterCrop", size=3, sensor_size=[3, 3, 2]), r"sensor_size is filled in"),
        (tonic("DropPixel"), r"transforms\[0\]: tonic.transforms.DropPixel with .* fails on events .* 12 x 10 x 2"),
        (tonic("Downsample", target_size=[0, 3]), r"nothing is left of the sensor: 0 x 3"),
        (tonic("DropEvent", p=0.3), r"transforms\[0\]: .*DropEvent is random, expected a deterministic.* augment"),
        ({"class_path": "no.such.Thing"}, r"class_path: got 'no.such.Thing', which can't be imported"),
        ({"class_path": "Thing"}, r"class_path: got 'Thing'"),
        (
            {"class_path": "helpers.event_source.DTYPE"},
            r"class_path: got 'helpers.event_source.DTYPE'.*map events to events",
        ),
        (
            {"class_path": "helpers.event_source.MadeUp"},
            r"class_path: got 'helpers.event_source.MadeUp'.*map events to events",
        ),
        ({"class": "x"}, r"transforms\[0\]: got {'class': 'x'}, expected class_path"),
        ({"class_path": "x", "args": 3}, r"transforms\[0\]: got .* expected class_path and optionally init_args"),
    ],
)
def test_a_wrong_transform_is_named(given, named):
    with pytest.raises(ConfigurationError, match=named):
        EventPipeline(transforms=[given]).shape((12, 10, 2))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (tonic("SpatialJitter"), r"augment\[1\].init_args.clip_outliers: got False, expected true"),
        (tonic("RandomFlipLR", p=3), r"augment\[1\]: .*RandomFlipLR with .*fails"),
        (tonic("RandomCrop", target_size=[20, 20]), r"augment\[1\]: .*fails on events"),
    ],
)
def test_a_wrong_augmentation_is_named(given, named):
    with pytest.raises(ConfigurationError, match=named):
        EventPipeline(augment=[tonic("DropEvent", p=0.1), given]).shape((12, 10, 2))


def test_a_transform_of_rows_is_refused_for_audio():
    pipeline = EventPipeline(augment=[tonic("RandomFlipUD")])
    pipeline.shape((12, 10, 2))
    with pytest.raises(ConfigurationError, match=r"RandomFlipUD with .* fails on events of a sensor of 700 x 1 x 1"):
        pipeline.shape((700, 1, 1))


@pytest.mark.parametrize("options", [{"cache": "tape"}, {"cache_limit": -1}])
def test_a_bad_value_is_named(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        EventPipeline(**options)


def test_lists_become_tuples_where_the_transform_says_so():
    """tonic takes a list for one value, and fails or draws nothing."""
    (choice,) = choose("augment", [tonic("DropEvent", p=[0.1, 0.5])])
    assert choice.arguments == {"p": (0.1, 0.5)}
    assert [step.after for step in equip([choice], (3, 3, 2))] == [(3, 3, 2)]
