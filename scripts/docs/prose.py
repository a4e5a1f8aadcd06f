"""Sentences of README and docs that quote figures, written with the figures of ``docs/results``.

A sentence stands in its page word for word, line breaks aside. When a figure changes, so does the sentence that is
expected, and ``python -m scripts.docs.figures`` names it.
"""

import statistics
from collections.abc import Iterator

from scripts.docs.results import change, joules, mean, read, row, rows, spread
from scripts.docs.tables import DEPLOYED, FLOAT, TRAINED

Sentence = tuple[str, str]  # page, words


def sentences() -> Iterator[Sentence]:
    """All of them."""
    yield from _readme()
    yield from _results()
    yield from _speed()
    yield from _trust()


def _percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f}"


def _readme() -> Iterator[Sentence]:
    page, first = "README.md", row("quickstart", seed=0)
    accuracy = _percent(first[DEPLOYED])
    yield page, f"accuracy, trained network {_percent(first[TRAINED])}% of {first['samples']} samples"
    yield page, f"accuracy, deployed {accuracy}% of {first['samples']} samples"
    yield page, f"of 136 ({_percent(first['units_pruned_fraction'], 1)}%)"
    yield page, f"neurons {first['neurons']:,} synapses {first['synapses']:,} unique weights, worst layer 4"
    yield page, f"cores used {first['cores_used']} synops {first['synops_per_inference']:,.0f} per inference of 4 steps"
    yield page, f"energy {joules(first['energy_per_inference_j'])} per inference"
    pruned = rows("compare_fashion_mnist_12", name="cat_channel_fsc_layer")
    floats = rows("compare_fashion_mnist_12", **FLOAT)
    yield (
        page,
        f"{_percent(mean(floats, TRAINED))} % in floating point, {_percent(mean(pruned, TRAINED))} % with four values "
        f"per output channel and half of the units, in {mean(pruned, 'model_bytes'):,.0f} instead of "
        f"{mean(floats, 'model_bytes'):,.0f} bytes",
    )


def _results() -> Iterator[Sentence]:
    page, file = "docs/results.md", "compare_fashion_mnist"
    small = row(file, name="float_25_38_49")
    yield page, f"trained from scratch for as long, reaches {_percent(small[TRAINED])} % (seed 0;"
    pruned = row(file, name="cat_m4_fsc", seed=0)
    yield page, f"Variants of the pruned row with seed 0 ({_percent(pruned[TRAINED])} %)"
    taught = row(file, name="cat_m4_fsc_distilled")
    yield page, f"a teacher ({_percent(taught[TRAINED])} %)"
    fast = row(file, name="cat_m4_fsc_fast")
    yield page, f"twice the learning rate ({_percent(fast[TRAINED])} %)"
    yield page, f"four values per output channel ({_percent(row(file, name='cat_channel_fsc')[TRAINED])} %)"
    layer = row(file, name="cat_channel_fsc_layer")
    energies = [each["energy_per_inference_j"] for each in (layer, row(file, name="cat_channel_fsc"))]
    yield (
        page,
        f"the same share of units taken from each layer ({_percent(layer[TRAINED])} %, for {energies[0] * 1e6:.2f} "
        f"instead of {energies[1] * 1e6:.2f} uJ)",
    )
    longer = row("compare_fashion_mnist_12", name="cat_channel_fsc_layer", seed=0)
    words = f"from {_percent(layer[TRAINED])} to {_percent(longer[TRAINED])} %"
    yield page, f"four more epochs bring the last variant {words}"
    small12, floats = (rows("compare_fashion_mnist_12", name=name) for name in ("cat_channel_fsc_layer", "float"))
    share = mean(small12, "energy_per_inference_j") / mean(floats, "energy_per_inference_j")
    lost = [f"{-100 * each:.2f}" for each in change(small12, floats, TRAINED)]
    yield page, f"at {100 * share:.0f} % of the energy"
    yield page, f"seed by seed the trained networks lose {lost[0]}, {lost[1]} and {lost[2]}"
    yield (
        page,
        f"each layer of a trained float network ({row('layer_sensitivity', layer='-')['weights'][:-1]} %, seed 0)",
    )
    file = "compare_fashion_mnist_20k"
    yield page, f"(8 epochs, {spread(each[TRAINED] for each in rows(file, **FLOAT))} %)"
    by_layer, over_all = (
        {share: rows(file, name=name, prune_fraction=share) for share in (0.5, 0.7, 0.85)}
        for name in ("prune_fsc_layer", "prune_fsc")
    )
    moved = {
        s: round(100 * mean(by_layer[s], TRAINED), 2) - round(100 * mean(over_all[s], TRAINED), 2) for s in by_layer
    }
    yield page, f"({-moved[0.7]:.2f} lower at 70 %, {moved[0.85]:.2f} higher at 85 %)"
    energies = [1e6 * mean(each[0.5], "energy_per_inference_j") for each in (by_layer, over_all)]
    yield page, f"({energies[0]:.2f} instead of {energies[1]:.2f} uJ with half of the units pruned)"


def _speed() -> Iterator[Sentence]:
    page = "docs/speed.md"

    def median(file: str, library: str, mode: str, steps: int) -> float:
        return float(row(file, library=library, mode=mode, T=steps)["median_ms"])

    ratios = [
        median(file, "spikefit", "float", 4) / median(file, "ReLU network", "channels_last", 4)
        for file in ("bench_training", "bench_training_channels_last")
    ]
    yield page, f"{ratios[0]:.2f} times as long as the ReLU network in this run and {ratios[1]:.2f} times in the next"
    file, mode = "bench_training_channels_last", "eager, channels_last"
    compiled = rows(file, mode="compiled, channels_last", T=4)
    fastest = min(compiled, key=lambda each: float(each["median_ms"]))
    assert fastest["library"] == "norse"
    yield (
        page,
        f"at T=4 SpikingJelly then takes {median(file, 'spikingjelly', mode, 4):.0f} ms and the fastest compiled "
        f"library, Norse, {fastest['median_ms']:.0f} ms, against {median(file, 'spikefit', 'float', 4):.0f} ms; at "
        f"T=16 SpikingJelly takes {median(file, 'spikingjelly', mode, 16):.0f} ms against "
        f"{median(file, 'spikefit', 'float', 16):.0f} ms",
    )
    forms = {(each["form"], each["T"]): each["median_ms"] for each in rows("bench_scan")}
    slower = {
        form: [forms[form, steps] / forms["numba kernel", steps] for steps in (4, 16, 64)]
        for form in ("plain loop", "plain loop, compiled", "hand-written torch")
    }
    yield (
        page,
        f"a compiled plain loop takes {slower['plain loop, compiled'][0]:.1f} times as long at T=4 and "
        f"{slower['plain loop, compiled'][2]:.0f} times at T=64, a hand-written torch function "
        f"{min(slower['hand-written torch']):.0f} to {max(slower['hand-written torch']):.0f} times, a plain loop "
        f"{min(slower['plain loop']):.0f} to {max(slower['plain loop']):.0f} times",
    )
    ours = row("bench_codebook", reclustering="spikefit, k-means")
    sklearn = row("bench_codebook", reclustering="scikit-learn, n_init=auto")
    yield page, f"takes {ours['median_ms']:.0f} ms, {sklearn['ratio']:.0f} times as fast as scikit-learn's `KMeans`"
    steps, scoring = (
        [each["ratio"] for each in rows("bench_codebook", step=step)]
        for step in ("training step, CAT M=4", "FSC scoring batch")
    )
    yield (
        page,
        f"takes {min(steps):.2f} to {max(steps):.2f} times as long as a float step, a scoring batch of FSC "
        f"{min(scoring):.2f} to {max(scoring):.2f} times",
    )
    simulated = rows("bench_simulator")
    speeds = [each["relative_speed"] for each in simulated]
    yield page, f"at {min(speeds):.2f} to {max(speeds):.2f} times the speed of the trained network's forward pass"
    each_step = [each["simulator_ms_a_step"] for each in simulated]
    yield page, f"takes {min(each_step):.0f} to {max(each_step):.0f} ms per step from T=4 to 32"
    emulated = {each["network"]: each for each in rows("bench_emulation")}
    conv, vgg = emulated["ConvSNN 32-64-128, batch 64"], emulated["VGG-11, batch 8"]
    integers = "CAT on the chip's integers"
    yield (
        page,
        f"takes {conv['ratio_to_cat'][integers]:.2f} times as long as one with codebooks for conv32-64-128 at batch 64 "
        f"({conv['steps_ms'][integers]['median_ms']:.0f} against {conv['steps_ms']['CAT']['median_ms']:.0f} ms",
    )
    yield page, f"and {vgg['ratio_to_cat'][integers]:.2f} times for VGG-11 at batch 8"
    images = {each["images"]: each["images_per_s"] / 1e3 for each in rows("bench_images")}
    yield (
        page,
        f"{images['tensors, as they are']:.0f} thousand images per second from tensors, "
        f"{images['DataLoader, as they are']:.0f} thousand from a `DataLoader`. With a random crop and flip, "
        f"{images['tensors, batches augmented']:.0f} thousand from tensors, "
        f"{images['DataLoader, torchvision']:.1f} thousand from a `DataLoader` and torchvision",
    )
    yield from _events(page)
    yield from _gpu(page)


def _events(page: str) -> Iterator[Sentence]:
    given = {(each["table"], each["data"]): each for each in rows("bench_data")}
    speed = {
        kind: sorted(given["cold", f"{kind}: spikefit, {what}"]["speed-up"] for what in ("counts", "spikes"))
        for kind in ("events", "files")
    }
    waits = {what: 100 * given["waiting", what]["share"] for what in ("disk", "none", "memory, augment")}
    yield (
        page,
        f"a batch is framed {speed['events'][0]:.1f} to {speed['events'][1]:.1f} times as fast as by tonic's `ToFrame` "
        f"and `PadTensors`, or {speed['files'][0]:.1f} to {speed['files'][1]:.1f} times if each file is read first",
    )
    warm = given["warm", "spikefit, disk, spikes"]["speed-up"]
    yield page, f"A warm disk cache is {warm:.0f} times as fast as tonic's `DiskCachedDataset`"
    yield (
        page,
        f"A training step waits {waits['disk']:.1f} % of its time for cached frames, {waits['none']:.0f} % without a "
        f"cache, and {waits['memory, augment']:.0f} % for cached events that are augmented",
    )


def _gpu(page: str) -> Iterator[Sentence]:
    figures = read("bench_gpu")
    step = {name: each["median_ms"] for name, each in figures["step VGG-11, T=4, bf16"]["figures"].items()}
    integers = "CAT M=4 on a chip's integers, CUDA graph"
    yield (
        page,
        f"A step of VGG-11 then takes {step['float, CUDA graph']:.1f} ms, with codebooks "
        f"{step['CAT M=4, CUDA graph']:.1f} ms, and with the integers of Loihi "
        f"{step[integers]:.1f} ms. The ReLU network on as many "
        f"frames takes {step['ReLU, channels last']:.1f} ms and SpikingJelly, channels last, "
        f"{step['SpikingJelly, channels last']:.1f} ms",
    )
    cifar = {each["name"]: each for each in rows("cifar10_gpu")}
    cat = next(each for name, each in cifar.items() if name != "float")
    yield (
        page,
        f"{len(cifar['float']['epochs'])} epochs of 50,000 images in {cifar['float']['wall_seconds']} s give "
        f"{_percent(cifar['float']['test_accuracy'], 1)} %, with codebooks of 4 values "
        f"{_percent(cat['test_accuracy'], 1)} %",
    )
    half, full = ([100 * each[TRAINED] for each in rows(name)] for name in ("quickstart_bf16", "quickstart"))
    yield (
        page,
        f"{statistics.mean(half):.2f} % (standard deviation {statistics.stdev(half):.2f}, "
        f"`docs/results/quickstart_bf16.json`) against {statistics.mean(full):.2f} % ({statistics.stdev(full):.2f}) in "
        "float32",
    )


def _trust() -> Iterator[Sentence]:
    page, found = "docs/trust.md", read("trust")
    kills, lost = found["kills"], found["lost processes"]
    yield page, f"{kills['exact']} of {kills['kills']} were resumed exactly"
    yield page, f"Of {found['checkpoints']['damaged']:,} damaged copies of a checkpoint and as many of a bundle"
    yield page, f"When one of two processes was killed ({lost['ended']} times)"
    mutated = found["configurations"]
    assert mutated["tracebacks"] == mutated["hangs"] == 0
    yield (
        page,
        f"Of {mutated['mutated']} configurations with a changed value {mutated['refused']} were refused with one "
        f"message, {mutated['clean']} trained, and none ended in a traceback or hung",
    )
