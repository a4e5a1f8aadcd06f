"""Transforms of events by class path: validation of arguments, tracking of the sensor size, and randomness.

A transform is any class of callable objects that map an array of events to another: a class of ``tonic.transforms``, or
a user's own. A transform's module is imported only when a pipeline that names it is created.
"""

import copy
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikefit.data.events.event_types import EVENTS, SOUNDS, SensorSize, by_time, is_audio
from spikefit.errors import ConfigurationError, DataError

Transform = Callable[[np.ndarray], np.ndarray]

TONIC = "tonic.transforms"
DETERMINISTIC = (
    "CenterCrop",
    "CropTime",
    "Decimation",
    "Denoise",
    "Downsample",
    "DropPixel",
    "EventDownsampling",
    "MergePolarities",
    "RefractoryPeriod",
    "TimeAlignment",
    "TimeSkew",
)
"""Transforms of tonic that draw no random numbers. Any other counts as random, and is not cached."""
_OF_ANYTHING = ("Compose", "NumpyAsType", "Repeat")
DRAWN_FROM_A_RANGE = {"RefractoryPeriod": ("delta",), "TimeSkew": ("coefficient", "offset")}
"""Parameters that make a transform random when a range is given instead of a value."""


@dataclass(frozen=True)
class Choice:
    """A configured transform, validated as far as possible without a sensor.

    Attributes:
        option: option that configured it, for error messages, for example ``transforms[0]``.
        path: path of the class.
        maker: the class.
        arguments: arguments of the class with defaults filled in, without ``sensor_size``.
    """

    option: str
    path: str
    maker: Callable[..., Transform]
    arguments: dict[str, Any]

    @property
    def tonic(self) -> str | None:
        """Name of the class if it is one of tonic's transforms; None for others."""
        module, _, name = self.path.rpartition(".")
        return name if module == TONIC else None

    @property
    def random(self) -> bool:
        """Whether the transform is random; a user's own is, unless it has ``deterministic = True``."""
        if self.tonic is None:
            return not getattr(self.maker, "deterministic", False)
        drawn = DRAWN_FROM_A_RANGE.get(self.tonic, ())
        return self.tonic not in DETERMINISTIC or any(isinstance(self.arguments[name], tuple) for name in drawn)


@dataclass(frozen=True)
class Step:
    """A transform for a given sensor.

    Attributes:
        choice: the configured transform.
        transform: the callable object.
        before, after: size of the sensor before and after the transform.
    """

    choice: Choice
    transform: Transform
    before: SensorSize
    after: SensorSize

    def describe(self) -> dict[str, Any]:
        """Class, parameters and sensor size, for the key of a cache."""
        return {"class": self.choice.path, "arguments": self.choice.arguments, "sensor_size": self.before}


def choose(option: str, specifications: Sequence[Mapping[str, Any]]) -> list[Choice]:
    """Import the classes of transforms and check their arguments by name and type.

    Args:
        option: option that has the list, for error messages.
        specifications: transforms, each with ``class_path`` and optionally ``init_args``, without ``sensor_size``.

    Raises:
        ConfigurationError: for a class or an argument that is not allowed; the message names the option.
    """
    return [_choose(f"{option}[{number}]", given) for number, given in enumerate(specifications)]


def _choose(option: str, given: Mapping[str, Any]) -> Choice:
    if not isinstance(given, Mapping) or "class_path" not in given or set(given) - {"class_path", "init_args"}:
        raise ConfigurationError(f"{option}: got {given!r}, expected class_path and optionally init_args.")
    path, arguments = given["class_path"], dict(given.get("init_args") or {})
    maker = _find(f"{option}.class_path", path)
    if "sensor_size" in arguments:
        raise ConfigurationError(f"{option}.init_args: sensor_size is filled in; expected the other arguments only.")
    choice = Choice(option, path, maker, _arguments(option, maker, arguments))
    if choice.tonic == "SpatialJitter" and not choice.arguments["clip_outliers"]:
        raise ConfigurationError(
            f"{option}.init_args.clip_outliers: got False, expected true: events outside the sensor have no pixel."
        )
    return choice


def _find(option: str, path: object) -> Callable[..., Transform]:
    """The class at ``path``."""
    module, _, name = str(path).rpartition(".")
    allowed = f"expected one of {TONIC}.{{{', '.join(_of_events())}}} or the path of a class"
    if module == TONIC and name not in _of_events():
        raise ConfigurationError(f"{option}: got {path!r}, {allowed}; for frames use framing.")
    try:
        maker: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"{option}: got {path!r}, which can't be imported ({error}), {allowed}.") from error
    usable = inspect.isclass(maker) and "__call__" in dir(maker)
    if not usable:
        raise ConfigurationError(f"{option}: got {path!r}, {allowed} of callables that map events to events.")
    return maker


def _of_events() -> list[str]:
    """Names of tonic's transforms that return events: its others are named ``To...``, or work on anything."""
    module = importlib.import_module(TONIC)
    classes = (name for name, value in vars(module).items() if inspect.isclass(value) and value.__module__ == TONIC)
    return sorted(name for name in classes if not name.startswith("To") and name not in _OF_ANYTHING)


def _arguments(option: str, maker: Callable[..., Transform], given: dict[str, Any]) -> dict[str, Any]:
    """Check arguments against the class's signature and fill in defaults; lists become tuples by annotation."""
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False, default_env=False)
    parser.add_class_arguments(maker, skip={"sensor_size"}, fail_untyped=False)
    try:
        return dict(parser.parse_object(given).as_dict())
    except ArgumentError as error:
        allowed = [name for name in inspect.signature(maker).parameters if name != "sensor_size"]
        reason = " ".join(str(error).split()).rstrip(".")
        raise ConfigurationError(
            f"{option}.init_args: {reason}; allowed are {', '.join(allowed) or 'no arguments'}."
        ) from error


def equip(choices: Iterable[Choice], sensor_size: SensorSize) -> list[Step]:
    """Create the transforms in order, with their sensor sizes, and test those of tonic on a few artificial events.

    Raises:
        ConfigurationError: for a transform that fails on events of its sensor.
    """
    steps = []
    for choice in choices:
        step = _equip(choice, sensor_size)
        steps.append(step)
        sensor_size = step.after
    return steps


def _equip(choice: Choice, before: SensorSize) -> Step:
    arguments = dict(choice.arguments)
    if "sensor_size" in inspect.signature(choice.maker).parameters:
        arguments["sensor_size"] = before
    try:
        transform = choice.maker(**arguments)
        step = Step(choice, transform, before, _size_after(choice, transform, before))
        if choice.tonic is not None and choice.tonic != "EventDownsampling":  # it needs many events
            _try(step)
    except ConfigurationError:
        raise
    except Exception as error:  # a transform may raise anything for invalid arguments
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise ConfigurationError(
            f"{choice.option}: {choice.path} with {choice.arguments} fails on events of a sensor of "
            f"{' x '.join(map(str, before))} ({reason}); expected arguments that suit this sensor."
        ) from error
    return step


def _size_after(choice: Choice, transform: Transform, before: SensorSize) -> SensorSize:
    """Size of the sensor after a transform; a user's own transform can define ``sensor_size_after(sensor_size)``."""
    width, height, polarities = before
    arguments = choice.arguments
    if choice.tonic is None:
        own = getattr(transform, "sensor_size_after", None)
        return before if own is None else tuple(own(before))
    if choice.tonic == "CenterCrop":
        size = arguments["size"]
        width, height = (size, size) if isinstance(size, int) else size
    elif choice.tonic in ("RandomCrop", "EventDownsampling"):
        width, height = arguments["target_size"]
    elif choice.tonic == "MergePolarities":
        polarities = 1
    elif choice.tonic == "Downsample" and arguments["target_size"] is not None:
        width, height = arguments["target_size"]
    elif choice.tonic == "Downsample":
        factor = arguments["spatial_factor"]
        across, down = factor if isinstance(factor, tuple) else (factor, factor)
        width, height = int((width - 1) * across) + 1, int((height - 1) * down) + 1  # where the last pixel goes
    if min(width, height) < 1:
        raise ValueError(f"nothing is left of the sensor: {width} x {height}")
    return width, height, polarities


def _try(step: Step) -> None:
    """Run a transform on events all over the sensor, and restore the random state."""
    width, height, polarities = step.before
    number = np.arange(64)
    columns = {"t": 1000 * number, "x": number * (width - 1) // 63, "y": number[::-1] * (height - 1) // 63}
    columns["p"] = number % polarities
    dtype = SOUNDS if is_audio(step.before) else EVENTS
    events = np.zeros(64, dtype)
    for name in dtype.names or ():
        events[name] = columns[name]
    state = np.random.get_state()  # noqa: NPY002 - tonic uses this generator
    try:
        apply([step], events)
    finally:
        np.random.set_state(state)  # noqa: NPY002


def tidy(events: np.ndarray, sensor_size: SensorSize) -> np.ndarray:
    """Convert events to a packed structured array with the fields t (int64), x, y (int16) and p (int8), sorted by t.

    Events of equal t keep their order.

    Raises:
        DataError: for values that do not fit these types.
    """
    dtype = SOUNDS if is_audio(sensor_size) and "y" not in (events.dtype.names or ()) else EVENTS
    if len(events) == 0:
        return np.empty(0, dtype)
    if events.dtype != dtype:
        packed = np.empty(len(events), dtype)
        for name in dtype.names or ():
            packed[name] = events[name]
            if name != "t" and (packed[name] != events[name]).any():
                raise DataError(
                    f"events: {name} from {events[name].min()} to {events[name].max()} is outside of any sensor."
                )
        events = packed
    return by_time(events)


def apply(steps: Iterable[Step], events: np.ndarray) -> np.ndarray:
    """Apply transforms in order; events are sorted by t and packed after each. Empty events stay empty."""
    for step in steps:
        if len(events) == 0:
            break
        # A copy, because some of tonic's transforms keep state from one recording to the next.
        events = tidy(copy.copy(step.transform)(events), step.after)
    return events
