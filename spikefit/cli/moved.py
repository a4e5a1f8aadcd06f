"""Names of earlier versions: where classes and options are now, for error messages."""

import re

CLASSES = {
    "callbacks.ChipArithmetic": "callbacks.ChipEmulation",
    "spikefit.data.static": "spikefit.data.images",
    "spikefit.data.events_any": "spikefit.data.events",
    "spikefit.data.events_audio": "spikefit.data.events",
    "spikefit.data.events.folder": "spikefit.data.events",
    "spikefit.data.events_folder": "spikefit.data.events",
    "spikefit.data.events_vision": "spikefit.data.events",
    "spikefit.data.framing": "spikefit.data.events.framing",
    "spikefit.data.pipeline": "spikefit.data.events.pipeline",
    "spikefit.deploy.budget": "spikefit.prune.budget",
    "spikefit.deploy.costs": "spikefit.deploy.unit_cost",
    "spikefit.networks.FromNIR": "spikefit.nir.FromNIR",
    "spikefit.networks.from_nir": "spikefit.nir",
    "spikefit.prune.activity_scores": "spikefit.prune",
    "spikefit.prune.oracle": "spikefit.prune",
    "spikefit.prune.scores.FSC": "spikefit.prune.FSC",
    "spikefit.prune.synapse_scores": "spikefit.prune",
    "spikefit.prune.weight_scores": "spikefit.prune",
    "spikefit.quantize.axon": "spikefit.quantize",
    "spikefit.schedules": "spikefit.optim",
}
"""Class paths, or the modules in front of them."""

BLEND = "a quantizer between off and on always blends weights and values"
OPTIONS = {
    "arithmetic": "its new name is emulate_from.",
    "biases_behind_neurons": "its new name is biases_after_neurons.",
    "copy_quantizers": "removed; quantizers are always fitted to the copied weights.",
    "final": "removed; the learning rate always ends at 0.",
    "gradient_scale": "removed; model.init_args.codebook_lr_factor scales the learning rate of codebooks.",
    "handover": f"removed; {BLEND}.",
    "target": "the chip is named once now: hardware at the top of the configuration, or --hardware.",
}
"""Options that no class has any more."""
CHECKPOINT = (
    "If the option comes from the checkpoint in ckpt_path, an earlier version wrote it; a new run can start from its "
    "weights: --trainer.callbacks+=callbacks.InitialWeights, with the file as its checkpoint."
)


def moved_classes(message: str) -> list[str]:
    """A sentence for each class path in ``message`` that has a new place.

    Example:
        >>> moved_classes("No module named 'spikefit.schedules': spikefit.schedules.WarmupCosine")
        ['spikefit.schedules.WarmupCosine is spikefit.optim.WarmupCosine now.']
    """
    found = {}
    for path in re.findall(r"\b(?:spikefit|callbacks)(?:\.\w+)+", message):
        for old, new in CLASSES.items():
            if path == old and old.rpartition(".")[2][0].isupper():
                found[path] = new
            elif path.startswith(f"{old}."):
                found[path] = new + path[len(old) :]
    return [f"{old} is {new} now." for old, new in found.items()]
