"""Benchmark of placement: VGG-11 on crossbars of TrueNorth's size; time, cores, and hops before and after the search.

    python -m scripts.bench.placement --out docs/results/bench_placement.json

Images of 32 x 32, IF neurons, and either a codebook of four values per layer or TrueNorth's axon types. The number of
cores is unlimited.
"""

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scripts.bench.timing import table, versions, write
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.placement import place
from spikefit.hardware.placement.mesh import on_mesh
from spikefit.hardware.sourced_value import SourcedValue
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.networks import VGG, Network
from spikefit.neurons import IF
from spikefit.program.lower import lower
from spikefit.quantize import AxonCodebook, Codebook
from spikefit.quantize.base import attach


def vgg(axon: bool, width: float) -> Network:
    """VGG-11 with quantised weights, in evaluation mode."""
    torch.manual_seed(0)
    network = VGG((3, 32, 32), 10, plan="vgg11", width=width, neuron=partial(IF, reset="zero"), readout="spikes")
    for position, (_, layer) in enumerate(network.named_synapses()):
        weight = layer.weight.detach()
        attach(layer, AxonCodebook(weight) if axon and position else Codebook(weight))
    return network.eval()


def measured(network: Network, target: HardwareTarget) -> dict[str, Any]:
    """Place the network and return a row of the table."""
    program = lower(network, DeploymentContext(target, 4, InputKind.CONSTANT), "target")
    start = time.perf_counter()
    placement = place(target, program, hops=False)
    placed = time.perf_counter() - start
    start = time.perf_counter()
    mesh = on_mesh(target, program, list(placement.cores))
    searched = time.perf_counter() - start
    shares = [max(core.utilisation.values(), default=0.0) for core in placement.cores]
    return {
        "neurons": program.neurons,
        "cores": placement.cores_used,
        "lower_bound": placement.lower_bound,
        "unplaced": len(placement.unplaced),
        "utilisation": round(sum(shares) / max(1, len(shares)), 3),
        "place_s": round(placed, 1),
        "mesh_s": round(searched, 1),
        "hops_along_curve": None if mesh is None else round(mesh.hops_along_curve, 2),
        "hops_per_spike": None if mesh is None else round(mesh.hops_per_spike, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=1.0, help="width of all layers, relative to VGG-11's")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    arguments = parser.parse_args()
    truenorth = HardwareTarget.load("truenorth")
    target = replace(truenorth, limits=replace(truenorth.limits, cores=SourcedValue(None)))
    rows = []
    for axon in (False, True):
        rows.append({"codebook": "axon" if axon else "layer", **measured(vgg(axon, arguments.width), target)})
        print(rows[-1], flush=True)
    print(table(rows))
    write(arguments.out, rows, versions())


if __name__ == "__main__":
    main()
