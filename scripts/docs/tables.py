"""The tables of figures in README and docs, by name; each is computed from ``docs/results``."""

import statistics
from collections.abc import Callable, Sequence

from scripts.docs.results import Row, change, joules, markdown, mean, millions, row, rows, spread

FLOAT, TRAINED, DEPLOYED = {"name": "float", "prune_fraction": None}, "accuracy_float", "accuracy_deployed"
Named = tuple[str, str, float | None]  # title, name, fraction that is pruned


def runs() -> str:
    """The quickstart and POKER-DVS over their seeds."""
    quick, poker = rows("quickstart"), rows("pokerdvs")
    same = "the same for every seed" if all(each[TRAINED] == each[DEPLOYED] for each in quick) else "different"
    accuracies = [100 * each[TRAINED] for each in quick]
    right = ", ".join(f"{each[TRAINED] * each['samples']:.0f}" for each in poker)
    fits = {True: "fits", False: "does not fit"}
    return markdown(
        ["run", "trained network", "deployed on Loihi"],
        [
            [
                "quickstart: digits, CAT M=4, 40 % of the units pruned, the chip's integers, mean of seeds "
                f"{quick[0]['seed']} to {quick[-1]['seed']} (`docs/results/quickstart.json`)",
                f"{statistics.mean(accuracies):.2f} % of {quick[0]['samples']} (sd {statistics.stdev(accuracies):.2f})",
                f"{same}, {fits[all(each['fits'] for each in quick)]}",
            ],
            [
                f"POKER-DVS, CAT M=4, 40 % of the units pruned, seeds {poker[0]['seed']} to {poker[-1]['seed']} "
                "(`docs/results/pokerdvs.json`)",
                f"{right} of {poker[0]['samples']}",
                f"{'the same' if all(each[TRAINED] == each[DEPLOYED] for each in poker) else 'different'}, "
                f"{fits[all(each['fits'] for each in poker)]}",
            ],
        ],
    )


def compared(file: str, named: Sequence[Named], first: str = "", deployed_change: bool = False) -> str:
    """Rows of a method table: accuracy, change from float, bytes, synops and energy."""
    floats = rows(file, **FLOAT)
    head = [first, "seeds", "trained (%)", "deployed (%)", "change from float, trained (points)"]
    head += ["change from float, deployed"] * deployed_change
    body = []
    for title, name, fraction in named:
        given = rows(file, name=name, prune_fraction=fraction)
        changes = [TRAINED, *[DEPLOYED] * deployed_change]
        body.append(
            [
                title,
                str(len(given)),
                spread(each[TRAINED] for each in given),
                spread(each[DEPLOYED] for each in given),
                *("" if name == "float" else spread(change(given, floats, measure)) for measure in changes),
                f"{mean(given, 'model_bytes'):,.0f}",
                millions(mean(given, "synops_per_inference")),
                joules(mean(given, "energy_per_inference_j")),
            ]
        )
    return markdown([*head, "bytes", "synops", "energy (45 nm operations)"], body)


def fashion_mnist() -> str:
    """Four values per weight, eight epochs."""
    return compared(
        "compare_fashion_mnist",
        [
            ("float, in one run", "float", None),
            ("**CAT M=4**", "cat_m4", None),
            ("LSQ, 2 bits", "lsq_2bit", None),
            ("ternary", "ternary", None),
            ("CAT M=4 and FSC, half of the units", "cat_m4_fsc", 0.5),
        ],
    )


def fashion_mnist_12() -> str:
    """Twelve epochs."""
    pruned = "CAT M=4 per output channel and FSC, half of each layer's units"
    named: list[Named] = [("float", "float", None), (pruned, "cat_channel_fsc_layer", 0.5)]
    return compared("compare_fashion_mnist_12", named, "twelve epochs", deployed_change=True)


def fashion_mnist_20k() -> str:
    """More values, other rules, other quantizers."""
    named: list[Named] = [
        ("float", "float", None),
        ("CAT M=16", "cat_m16", None),
        ("**CAT M=4**", "cat_m4", None),
        ("CAT M=2", "cat_m2", None),
        ("CAT M=4 per output channel", "cat_channel", None),
        ("CAT under TrueNorth's rule: 4 types of inputs, 4 values per neuron", "cat_axon", None),
        ("LSQ, 2 bits", "lsq_2bit", None),
        ("ternary", "ternary", None),
        ("k-means after training, M=4", "kmeans_ptq_m4", None),
        ("uniform after training, 2 bits", "uniform_ptq_2bit", None),
    ]
    return compared("compare_fashion_mnist_20k", named)


def scores() -> str:
    """Accuracy after pruning by each score."""
    named = {
        "**FSC**": "prune_fsc",
        "SVS": "prune_svs",
        "magnitude": "prune_magnitude",
        "random": "prune_random",
        "firing rate": "prune_rate",
        "FSC, by layer": "prune_fsc_layer",
        "SVS, by layer": "prune_svs_layer",
        "magnitude, by layer": "prune_magnitude_layer",
    }
    body = []
    for title, name in named.items():
        given = [rows("compare_fashion_mnist_20k", name=name, prune_fraction=share) for share in (0.5, 0.7, 0.85)]
        cells = [spread(each[TRAINED] for each in part) for part in given]
        body.append([title, str(len(given[0])), *(f"**{cell}**" if title[0] == "*" else cell for cell in cells)])
    return markdown(["score", "seeds", "50 %", "70 %", "85 %"], body)


def nmnist() -> str:
    """N-MNIST, four and ten classes."""
    data = {"compare_nmnist4": "6 to 9 (1600 / 400)", "compare_nmnist10": "all (1000 / 100)"}
    methods: list[Named] = [
        ("float", "float", None),
        ("CAT M=4", "cat_m4", None),
        ("CAT M=4 and FSC, half of the units", "cat_m4_fsc", 0.5),
    ]
    body = []
    for file, digits in data.items():
        for title, name, fraction in methods:
            given = rows(file, name=name, prune_fraction=fraction)
            sizes = f"({given[0]['train_samples']} / {given[0]['samples']})"
            assert sizes in digits, f"docs/results/{file}.json has {sizes} recordings, not {digits}"
            body.append(
                [
                    *(digits, title),
                    *(spread(each[measure] for each in given) for measure in (TRAINED, DEPLOYED)),
                    *(f"{mean(given, measure):,.0f}" for measure in ("model_bytes", "synops_per_inference")),
                    joules(mean(given, "energy_per_inference_j")),
                ]
            )
    head = ["digits (train / test recordings)", "", "trained (%)", "deployed on Loihi's integers (%)", "bytes"]
    return markdown([*head, "synops", "energy (45 nm operations)"], body)


def targets() -> str:
    """One network on every chip that runs it."""
    given = rows("targets_fashion_mnist", runs=True)
    (trained,) = {each[TRAINED] for each in given}
    body = [
        [
            f"`{each['target']}`",
            "yes" if each["fits"] else f"{len(each['findings'])} findings",
            f"{each['cores']}",
            f"{each['utilisation']:.0%}",
            f"{each['synops'] / 1e3:.0f} k",
            joules(each["energy_j"]),
            f"{100 * each[DEPLOYED]:.2f}",
            f"{100 * each['agreement']:.2f} %",
        ]
        for each in given
    ]
    head = ["chip", "fits", "cores", "utilisation", "synops", "energy, known terms"]
    return markdown([*head, f"deployed (%; trained: {100 * trained:.2f})", "spikes that agree"], body)


def sensitivity() -> str:
    """Each layer quantised alone."""
    layers = {
        "conv1": "conv1, which reads the image",
        "conv2": "conv2",
        "fc1": "fc1",
        "readout": "readout",
        "all": "all",
    }
    body = []
    for layer, title in layers.items():
        cells = [row("layer_sensitivity", layer=layer, levels=levels) for levels in (4, 2)]
        values = [each[metric].replace("%", " %") for each in cells for metric in ("weights", "currents")]
        if layer in ("conv1", "all"):
            values[1] = f"**{values[1]}**"
        body.append([title, *values])
    head = ["quantised", "M=4, nearest values", "M=4, by currents", "M=2, nearest values", "M=2, by currents"]
    return markdown(head, body)


def ranks() -> str:
    """Rank correlation of each score with the true change of the loss."""
    named = {
        "**FSC** (default)": "FSC (sketched, 2 draws)",
        "FSC, exact Fisher information: one backward pass per class": "FSC (exact)",
        "FSC with the labels of the data": "FSC (empirical)",
        "mean absolute contribution (only in this script)": "absolute contribution",
        "SVS": "SVS",
        "magnitude": "magnitude",
        "firing rate": "firing rate",
        "random": "random",
    }
    networks = {"conv 8-12-24": "conv 8-12, fc 24", "conv 16-32-64": "conv 16-32, fc 64", "mlp 64-48": "MLP 64-48"}
    bold = {("FSC (sketched, 2 draws)", "conv 8-12-24"), ("FSC (sketched, 2 draws)", "conv 16-32-64")}
    bold |= {("absolute contribution", "mlp 64-48")}

    def cell(score: str, network: str) -> str:
        text = f"{row('rank_scores', score=score, network=network)['mean']:.3f}"
        return f"**{text}**" if (score, network) in bold else text

    body = [[title, *(cell(score, network) for network in networks)] for title, score in named.items()]
    return markdown(["score", *networks.values()], body)


def training() -> str:
    """Time and memory of a training step."""
    named = {
        "**spikefit**, float": ("spikefit", "float"),
        "spikefit, CAT M=4": ("spikefit", "CAT M=4"),
        "spikefit, the same image in every step (`encoding: direct`)": ("spikefit", "float, direct-coded image"),
        "spikefit, bf16-mixed": ("spikefit", "bf16-mixed"),
        "ReLU network, batch T x 32, channels_last": ("ReLU network", "channels_last"),
        "SpikingJelly 2.0.0, multi-step": ("spikingjelly", "eager"),
        "Norse 1.1.0": ("norse", "eager"),
        "snnTorch 1.0.0": ("snntorch", "eager"),
        "sinabs 3.1.3": ("sinabs", "eager"),
    }

    def cell(given: Row) -> str:
        return f"{given['median_ms']:.0f} ({given['peak_mib']:.0f})"

    body = [
        [title, *(cell(row("bench_training", library=library, mode=mode, T=steps)) for steps in (4, 16, 64))]
        for title, (library, mode) in named.items()
    ]
    compiled = rows("bench_training", mode="compiled", T=4)
    fastest = min(compiled, key=lambda each: float(each["median_ms"]))
    names = {"spikingjelly": "SpikingJelly", "norse": "Norse", "snntorch": "snnTorch", "sinabs": "sinabs"}
    title = f"fastest of these libraries with `torch.compile` ({names[fastest['library']]})"
    body.append([title, cell(fastest), "", ""])
    relu = row("bench_training", library="ReLU network", mode="channels_last, compiled", T=4)
    body.append(["ReLU network with `torch.compile`", cell(relu), "", ""])
    return markdown(["", "T=4", "T=16", "T=64"], body)


TABLES: dict[str, Callable[[], str]] = {
    "runs": runs,
    "fashion_mnist": fashion_mnist,
    "fashion_mnist_12": fashion_mnist_12,
    "fashion_mnist_20k": fashion_mnist_20k,
    "scores": scores,
    "nmnist": nmnist,
    "targets": targets,
    "sensitivity": sensitivity,
    "ranks": ranks,
    "training": training,
}
