"""A chip of the user's own, with only those limits that a test names."""

from typing import Any

from spikefit.hardware.target import HardwareTarget

_BASE: dict[str, dict[str, Any]] = {
    "limits": {},
    "weights": {"bits": [8], "min": -128, "max": 127},
    "neuron": {"models": ["if", "lif", "linear_leak_if"], "resets": ["subtract", "zero"]},
    "layers": {
        "kinds": ["conv", "dense"],
        "readouts": ["membrane", "spikes"],
        "pooling": ["sum", "max"],
        "graded_input": "host",
    },
    "energy": {},
}


def _sourced(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {name: _sourced(entry) for name, entry in value.items()}
    return {"value": value, "source": "test", "confidence": "D"}


def own_content(family: str, **sections: dict[str, Any]) -> dict[str, Any]:
    """Plain content of a chip of ``family``; ``sections`` are plain values of ``limits``, ``weights``, ..."""
    sizes = {"limits": {"kernel_entries": None, "neuron_entries": None}} if family == "layer_per_core" else {}
    merged = {name: {**sizes.get(name, {}), **base, **sections.get(name, {})} for name, base in _BASE.items()}
    return {"description": "A test's own chip", "placement": {"family": family}, **_sourced(merged)}


def own_chip(family: str, **sections: dict[str, Any]) -> HardwareTarget:
    """The chip that :func:`own_content` describes."""
    return HardwareTarget.from_dict(own_content(family, **sections), "own", "own.yaml")
