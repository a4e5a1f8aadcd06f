"""Table and plots of the method comparison, from artificial results."""

from itertools import pairwise

import pytest

from scripts.compare import plots as compare_plots
from scripts.compare import table as compare_table


def result(name, seed, accuracy, fraction=None, **figures):
    base = dict.fromkeys(compare_table.FIGURES, 2.0)
    row = {"name": name, "method": name, "prune_fraction": fraction, "seed": seed, "epochs": 8}
    row |= {"target": "loihi", "fits": True}
    return {**base, **row, "accuracy_float": accuracy, "accuracy_deployed": accuracy - 0.01, **figures}


def test_means_deviations_and_differences():
    """Deviations of a sample: of 90, 92 and 94 it is 2, of the paired differences 1, 1 and 2 it is 0.577."""
    results = [
        *(result("cat", seed, value) for seed, value in ((0, 0.91), (2, 0.96), (1, 0.93))),
        *(result("float", seed, value) for seed, value in ((0, 0.90), (1, 0.92), (2, 0.94), (3, 0.5))),
        result("late", 0, 0.8, fraction=0.5, energy_per_inference_j=None),
    ]
    first, second, third = compare_table.summarise(results, [("float", None), ("absent", None), ("cat", None)], {})
    assert (first.name, first.seeds, second.name, second.seeds) == ("float", 4, "cat", 3)
    assert second.measures["accuracy_float"].mean == pytest.approx(0.93333, abs=1e-5)
    assert second.to_float.mean == pytest.approx(0.04 / 3)
    assert second.to_float.deviation == pytest.approx(0.0057735, abs=1e-6)
    assert third.to_float.deviation is None
    lines = compare_table.table([first, second, third]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    # The quantile of Student's t with 2 degrees of freedom is 4.303: 1.33 -+ 4.303 * 0.577 / sqrt(3).
    assert "| cat | 3 | 8 | - | 93.33 ± 2.52 | 92.33 ± 2.52 | +1.33 ± 0.58 | -0.10 to +2.77 |" in lines[3]
    assert "| late 50% | 1 | 8 | - | 80.00 | 79.00 | -10.00 | - |" in lines[4]
    assert "unknown" in lines[4]


def test_held_out_images_and_the_chip():
    rows = [result("a", seed, 0.9, accuracy_held_out=0.92, fits=seed == 1) for seed in range(2)]
    *_, line = compare_table.table(compare_table.summarise(rows, [], {})).splitlines()
    assert "| a | 2 | 8 | 92.00 ± 0.00 |" in line
    assert line.endswith("| loihi | 1 of 2 |")


def crowded():
    """26 points, many of them at nearly the same accuracy."""
    results = []
    for index in range(11):
        for seed in range(2):
            energy, size = 1e-6 * (1 + index % 4 / 50), 1e5 * (1 + index % 3)
            accuracy = 0.92 + index / 2000 + seed / 1000
            results.append(result(f"method_{index}", seed, accuracy, energy_per_inference_j=energy, model_bytes=size))
    for index in range(5):
        for fraction in (0.5, 0.7, 0.85):
            figures = {"energy_per_inference_j": 1e-6 * (1 - fraction)}
            results.append(result(f"pruned_{index}", 0, 0.92 - fraction**4 / 20 * index, fraction, **figures))
    results.append(result("poor", 0, 0.4, energy_per_inference_j=8e-7))
    return compare_table.summarise(results, [], {})


def test_plots_are_written(tmp_path):
    paths = compare_plots.plot(crowded()[-4:], tmp_path / "out.json")
    assert [path.name for path in paths] == ["out_energy.png", "out_bytes.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    unknown = compare_table.summarise([result("a", 0, 0.9, energy_per_inference_j=None)], [], {})
    assert [path.name for path in compare_plots.plot(unknown, tmp_path / "one.json")] == ["one_bytes.png"]


def test_labels_do_not_cover_each_other():
    from matplotlib.figure import Figure

    axes = compare_plots.draw(Figure(figsize=(10, 6.5), layout="constrained"), crowded(), "energy_per_inference_j")
    axes.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert len(boxes) == len(crowded())
    covered = sum(compare_plots.shared(one, other) for index, one in enumerate(boxes) for other in boxes[index + 1 :])
    assert covered < 0.02 * sum(box.width * box.height for box in boxes)


def test_the_accuracy_axis_separates_the_best():
    from matplotlib.figure import Figure

    accuracies = (0.4, 0.8, 0.9, 0.91, 0.92, 0.925)
    rows = [result(f"m{accuracy}", 0, 0, accuracy_deployed=accuracy) for accuracy in accuracies]
    axes = compare_plots.draw(Figure(), compare_table.summarise(rows, [], {}), "model_bytes")
    axes.figure.draw_without_rendering()
    heights = [axes.transData.transform(line.get_xydata())[0, 1] for line in axes.lines if line.get_zorder() == 1]
    assert len(heights) == 6
    assert all(low < high for low, high in pairwise(heights))
    assert heights[4] - heights[3] > heights[3] - heights[2]
    written = [text.get_text() for text in axes.get_yticklabels()]
    assert {"92", "89", "84", "44"} <= set(written)
    assert all(0 <= float(text) <= 100 for text in written)


def test_methods_come_from_the_grid():
    rows = [result("a", 0, 0.9), result("b", 0, 0.8), result("c", 0, 0.7)]
    summaries = compare_table.summarise(rows, [], {"b": "float", "c": "cat (channel) + fsc"})
    assert [summary.method for summary in summaries] == ["a", "float", "cat (channel) + fsc"]
    assert [round(summary.to_float.mean, 6) for summary in summaries] == [0.1, 0, -0.1]


@pytest.mark.parametrize(
    ("low", "high"), [(3e-6, 7e-6), (1e4, 3e6), (4.1e-6, 5.9e-6), (2e-3, 2.1e1), (1.1, 1.3), (2.0, 2.1), (1.2, 80.0)]
)
def test_axes_have_ticks_enough_to_read(low, high):
    ticks = compare_plots.ticks(low, high)
    assert len(ticks) >= 3
    assert ticks == sorted(set(ticks))
    assert low <= ticks[0] < ticks[-1] <= high
