"""Deploy a trained network on every chip and compare the results.

    python -m scripts.deploy_to_all_chips runs/NAME/version_0/checkpoints/best.ckpt --dataset FashionMNIST --out
    targets.json

The table has a row for each chip: whether the network fits, the findings, the number and utilisation of cores (without
the layers that no core can hold), synops of the network and of relays, energy, accuracy of the trained network and of
the chip's integers, and the share of neuron steps in which their spikes agree. If a chip can't run this kind of network
at any size (because of a neuron model or a readout), its row has the reasons. The data are the test set of an image
data set of ``spikefit.data.images``, directly coded.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.bench.timing import table, versions, write
from scripts.export import trained_module
from spikefit.data import SpikeDataModule, images
from spikefit.deploy.deployment import Deployment, require_structure
from spikefit.deploy.report.terminal import quantity
from spikefit.errors import ConfigurationError, SpikeFitError, TargetError
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.target import HardwareTarget, available_targets
from spikefit.module import SpikingClassifier

Batch = tuple[Tensor, Tensor, Tensor]  # inputs, labels, logits of the trained network


@torch.no_grad()
def deployed(
    module: SpikingClassifier, context: DeploymentContext, batches: list[Batch], parity_samples: int
) -> dict[str, Any]:
    """Deploy the network on one chip and return its row of the table."""
    network, target = module.network, context.chip
    try:
        require_structure(network, context)
    except TargetError as error:
        reasons = [line.strip(" -") for line in str(error).splitlines()[1:]]
        return {"target": target.name, "runs": False, "findings": reasons}
    deployment = Deployment(network, context, parity_samples=parity_samples)
    for inputs, labels, logits in batches:
        deployment.update(inputs, labels, logits)
    report = deployment.report(module.accuracy_before_compression)
    cores = deployment.placement.cores
    shares = [max(core.utilisation.values(), default=0.0) for core in cores]
    return {
        "target": target.name,
        "runs": True,
        "fits": report.fits,
        "partial": report.partial,
        "findings": [finding.text for finding in report.findings],
        "cores": len(cores),
        "lower_bound": report.cores.lower_bound,
        "unplaced": list(report.cores.unplaced),
        "relay_synops": report.relay_synops_per_inference,
        "utilisation": sum(shares) / len(shares) if shares else None,
        "synops": report.synops_per_inference,
        "energy_j": report.energy_per_inference_j,
        "energy_unknown": list(report.energy.unknown),
        "accuracy_before_compression": report.accuracy_before_compression,
        "accuracy_float": report.accuracy_float,
        "accuracy_deployed": report.accuracy_deployed,
        "samples": report.samples,
        "agreement": None if report.target_agreement is None else report.target_agreement.agreement,
        "overflows": report.overflows_per_inference,
    }


def shown(row: dict[str, Any]) -> dict[str, str]:
    """Format a row for the printed table."""
    if not row["runs"]:
        return {"target": row["target"], "fits": f"can't run: {len(row['findings'])} findings"}
    unknown = " and unknown terms" if row["energy_unknown"] and row["energy_j"] is not None else ""
    partial = ", partial" if row["partial"] else ""
    without = f", without {', '.join(row['unplaced'])}" if row["unplaced"] else ""
    relays = "unknown" if row["relay_synops"] is None else f"{row['relay_synops']:,.0f}"
    agreement = "-" if row["agreement"] is None else f"{row['agreement']:.4%}"
    return {
        "target": row["target"],
        "fits": "yes" if row["fits"] else f"no, {len(row['findings'])} findings",
        "cores": f"{row['cores']} (at least {row['lower_bound']}){without or partial}",
        "utilisation": "-" if row["utilisation"] is None else f"{row['utilisation']:.0%}",
        "synops": f"{row['synops']:,.0f}",
        "synops of relays": relays,
        "energy": quantity(row["energy_j"], "J") + unknown + partial,
        "trained": f"{row['accuracy_float']:.2%}",
        "deployed": f"{row['accuracy_deployed']:.2%} of {row['samples']}",
        "spikes that agree": agreement,
    }


def main(words: list[str] | None = None) -> int:
    """Run the script; the exit status is 0, or 2 if the checkpoint, the data or a target can't be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--hardware", nargs="+", help="names or YAML files; all of configs/hardware by default")
    names = ("Digits", "MNIST", "FashionMNIST", "CIFAR10", "CIFAR100")
    parser.add_argument("--dataset", default="FashionMNIST", choices=names, help="class of spikefit.data.images")
    parser.add_argument("--time_steps", type=int, default=4)
    parser.add_argument("--samples", type=int, help="number of test samples to use; all by default")
    parser.add_argument("--parity_samples", type=int, default=64, help="number of samples whose spikes are compared")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    arguments = parser.parse_args(words)
    try:
        targets = [HardwareTarget.load(name) for name in arguments.hardware or available_targets()]
        module = trained_module(arguments.checkpoint).eval()
        data = SpikeDataModule(getattr(images, arguments.dataset)(), time_steps=arguments.time_steps)
        if data.input_shape != module.network.input_shape:
            raise ConfigurationError(
                f"--dataset: got {arguments.dataset} with frames of {data.input_shape}, but the checkpoint's network "
                f"reads {module.network.input_shape}."
            )
        data.setup("test")
        batches, left = list[Batch](), arguments.samples or sys.maxsize
        for batch in data.test_dataloader():
            inputs, labels = data.on_after_batch_transfer(batch, 0)
            inputs, labels = inputs[:, :left], labels[:left]
            with torch.no_grad():
                batches.append((inputs, labels, module(inputs)))
            left -= len(labels)
            if left <= 0:
                break
        rows = []
        for target in targets:
            context = DeploymentContext(target, data.time_steps, data.input_kind)
            rows.append(deployed(module, context, batches, arguments.parity_samples))
            print(shown(rows[-1]), flush=True)
    except SpikeFitError as error:
        print(f"deploy_to_all_chips: error: {error}", file=sys.stderr)
        return 2
    print(table([{**dict.fromkeys(shown(max(rows, key=len)), "-"), **shown(row)} for row in rows]))
    try:
        write(arguments.out, rows, versions())
    except OSError as error:
        print(f"deploy_to_all_chips: error: --out: {arguments.out} can't be written ({error}).", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
