"""Plot how codebooks change during training, from the metrics.csv of runs with ``callbacks.CodebookMonitor``.

    python -m scripts.plot_codebooks runs/a/version_0/metrics.csv runs/b/version_0/metrics.csv --out flips.png

Each run has a row of three panels: the share of weights that changed their codebook value in each epoch, the relative
change of the codebook values, and the number of values that no weight uses. Each layer is a line.
"""

import argparse
import csv
from pathlib import Path

PANELS = {
    "flips": "share of weights that changed value",
    "drift": "relative change of values",
    "dead": "values without weights",
}


def read(path: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Read one metrics.csv as ``{panel: {layer: [(epoch, value)]}}``."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {panel: {} for panel in PANELS}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for key, value in row.items():
                parts = key.split("/")
                if value and parts[0] == "codebook" and parts[1] in found:
                    found[parts[1]].setdefault(parts[2], []).append((int(row["epoch"]), float(value)))
    return found


def plot(paths: list[Path], names: list[str], out: Path) -> None:
    """Plot the runs of ``paths`` below each other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        len(paths), len(PANELS), figsize=(10, 0.6 + 2.2 * len(paths)), squeeze=False, sharex="col", layout="constrained"
    )
    for axes, path, name in zip(grid, paths, names, strict=True):
        for axis, (panel, series) in zip(axes, read(path).items(), strict=True):
            for layer, points in series.items():
                axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=layer)
            axis.set_ylim(bottom=0)
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.set_title(f"{name}: {PANELS[panel]}", fontsize=8)
            axis.grid(alpha=0.3)
    for axis in grid[-1]:
        axis.set_xlabel("epoch")
    grid[0][0].legend(fontsize=8)
    figure.savefig(out, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", type=Path, nargs="+")
    parser.add_argument("--names", nargs="+", help="names of the runs; their folders by default")
    parser.add_argument("--out", type=Path, default=Path("codebooks.png"))
    arguments = parser.parse_args()
    names = arguments.names or [path.parent.parent.name for path in arguments.metrics]
    plot(arguments.metrics, names, arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
