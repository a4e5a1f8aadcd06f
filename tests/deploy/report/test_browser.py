"""The page in a browser: no error, nothing wider than a phone, pictures with content, light and dark."""

import random
from dataclasses import replace

import pytest
from helpers.browser import look
from helpers.hand_made_report import FINDING, RIGHT, TRAINING, WEIGHTS, epoch, layer, report

from spikefit.deploy.report.html import render
from spikefit.deploy.report.picture_data import CodebookEntry, CoreMapEntry, RasterRows
from spikefit.deploy.report.sections import CoresEntry, Utilisation

PICTURES = ["codebook"] * 2 + ["sample", "raster"] * 2 + ["rates", "cores", "accuracy", "energy", "living", "confusion"]


def without_pictures():
    """A report as an earlier version wrote it."""
    empty = dict.fromkeys(("codebooks", "rates", "examples", "chips"), ())
    return report(**empty, confusion=None, core_map=None, training=None, accuracy_before_compression=None)


def crowded():
    """100 classes, 24 layers with long names, 4096 cores, 300 epochs, a codebook by channel, 128 steps."""
    draw = random.Random(0)
    names = [f"stage{index}.residual_block.convolution_of_the_second_branch" for index in range(24)]
    rows = tuple(RasterRows(name, 5000, (0,), ("".join(draw.choice("..1z") for _ in range(128)),)) for name in names)
    many = tuple(index / 50 - 0.5 for index in range(48))
    record = replace(
        TRAINING,
        layers=tuple(names),
        units=(64,) * 24,
        epochs=tuple(replace(epoch(number, 0), alive=(64 - number // 20,) * 24) for number in range(300)),
    )
    return report(
        findings=(replace(FINDING, where=names[0], remedy="prune " + "many of the neurons " * 8),) * 3,
        layers=tuple(layer(name, spikes=1e12, synops=1e13) for name in names),
        codebooks=tuple(CodebookEntry(name, "Codebook", 64, WEIGHTS, many, (3,) * 48, True) for name in names),
        examples=(replace(RIGHT, steps=500, rows=rows),),
        confusion=tuple(tuple(draw.choice((0, 0, 0, 1, 9)) for _ in range(100)) for _ in range(100)),
        core_map=CoreMapEntry(
            False, 9000, tuple(names), tuple((core % 24, 256) for core in range(4096)), (50,) * 4096,
            tuple(core // 64 for core in range(4096)), tuple(core % 64 for core in range(4096)),
        ),
        cores=CoresEntry(9000, None, 8000, tuple(names[:3]), None, None, {"synapse memory": Utilisation(0.5, 1)}),
        training=record,
    )  # fmt: skip


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    reports = {
        "fits": report(),
        "not": report(findings=(FINDING, FINDING)),
        "old": without_pictures(),
        "crowded": crowded(),
    }
    pages = {name: render(made) for name, made in reports.items()}
    return look(tmp_path_factory.mktemp("light"), pages, (390, 1280)), pages


def test_the_console_is_silent(seen):
    (_, console), _ = seen
    assert console == ""


def test_nothing_is_wider_than_the_page(seen):
    (found, _), _ = seen
    for (name, width), page in found.items():
        assert page["overflow"] == [], (name, width)
        assert page["width"] <= width, (name, width)


def test_every_picture_has_content(seen):
    (found, _), _ = seen
    for key, page in found.items():
        for picture in page["pictures"]:
            assert min(picture["width"], picture["height"]) >= 7, (key, picture)
            assert picture["marks"] > 0, (key, picture)
            assert picture["size"] > 1, (key, picture)
            assert not picture["spoilt"], (key, picture)
    for name in ("fits", "not"):
        kinds = [picture["name"].split()[1] for picture in found[name, 390]["pictures"] if "bar" not in picture["name"]]
        assert kinds == PICTURES
    assert not [picture for picture in found["old", 390]["pictures"] if "bar" not in picture["name"]]


def test_text_in_pictures_can_be_read_on_a_phone(seen):
    (found, _), _ = seen
    for name in ("fits", "not"):
        assert found[name, 390]["smallest"] >= 8
        assert found[name, 1280]["smallest"] >= 9


def test_a_dark_page_is_dark_with_its_pictures(seen, tmp_path):
    (light, _), pages = seen
    found, console = look(tmp_path, {"fits": pages["fits"]}, (1280,), dark=True)
    assert console == ""
    bright, dark = light["fits", 1280], found["fits", 1280]
    assert brightness(bright["page"]) > 0.9 > 0.3 > brightness(bright["ink"])
    assert brightness(dark["page"]) < 0.1 < 0.8 < brightness(dark["ink"])
    assert not set(bright["fills"]) & set(dark["fills"]) - {"none"}, "a colour that does not change"
    for colours in (bright, dark):
        text = [fill for fill in colours["fills"] if fill == colours["ink"]]
        assert text
        assert contrast(colours["ink"], colours["section"]) > 7


def test_the_browser_would_tell(tmp_path):
    """What the other tests rely on: a blocked script and a wide element are seen."""
    page = render(report()).replace("<main>", "<script>1</script><main><p style='width: 900px'>wide</p>")
    found, console = look(tmp_path, {"spoilt": page}, (390,))
    assert "Content Security Policy" in console
    assert any("wide" in element for element in found["spoilt", 390]["overflow"])


def brightness(colour: str) -> float:
    """Relative luminance of ``rgb(...)``, 0 to 1 (WCAG 2.1)."""
    channels = [int(value) / 255 for value in colour[4:-1].split(",")]
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted((brightness(first), brightness(second)))
    return (high + 0.05) / (low + 0.05)
