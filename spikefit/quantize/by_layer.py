"""Choice of a quantizer for every layer of a network."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from spikefit.errors import ConfigurationError
from spikefit.networks.blocks import Network
from spikefit.quantize.base import QuantizerFactory


def quantizers_by_layer(
    network: Network, default: QuantizerFactory | None, by_pattern: Mapping[str, QuantizerFactory | None]
) -> dict[str, QuantizerFactory | None]:
    """Choose the quantizer factory of every layer with weights.

    Args:
        network: the network.
        default: factory for layers that no pattern matches.
        by_pattern: factories by :mod:`fnmatch` pattern; the first pattern that matches a layer's name is used.

    Returns:
        Factories by layer name.

    Raises:
        ConfigurationError: for a pattern that matches no layer; the message names the layers.
    """
    names = [name for name, _ in network.named_synapses()]
    for pattern in by_pattern:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigurationError(f"layer_quantizers: {pattern!r} matches no layer, expected {', '.join(names)}.")
    return {
        name: next((factory for pattern, factory in by_pattern.items() if fnmatchcase(name, pattern)), default)
        for name in names
    }
