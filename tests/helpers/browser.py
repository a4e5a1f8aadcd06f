"""Headless Chromium, which shows pages in frames and tells what they look like."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Runs in a page of its own, which the browser lets read the frames: the pages themselves allow no scripts.
PROBE = """
const outside = (box, width) => box.width > 0 && (box.right > width + 0.5 || box.left < -0.5);
function drawn(picture) {
  const box = picture.getBoundingClientRect();
  const marks = [...picture.querySelectorAll("rect, path, polyline, polygon, circle, text")];
  const sizes = marks.map(mark => mark.getBBox().width + mark.getBBox().height);
  return {
    name: picture.getAttribute("class"), width: box.width, height: box.height, marks: marks.length,
    size: Math.max(0, ...sizes), spoilt: marks.some(mark => /NaN|Infinity|undefined/.test(mark.outerHTML)),
  };
}
function probe(frame) {
  const page = frame.contentDocument, width = frame.clientWidth;
  const all = selector => [...page.querySelectorAll(selector)];
  const style = selector => getComputedStyle(page.querySelector(selector));
  const scale = text => Math.hypot(text.getScreenCTM().a, text.getScreenCTM().b);
  const letters = all("svg text").map(text => parseFloat(getComputedStyle(text).fontSize) * scale(text));
  return {
    width: page.documentElement.scrollWidth,
    overflow: all("body *").filter(each => !each.closest(".scroll > *"))
      .filter(each => outside(each.getBoundingClientRect(), width)).map(each => each.outerHTML.slice(0, 120)),
    pictures: all("svg.picture, svg.bar").map(drawn),
    smallest: Math.min(99, ...letters),
    page: style("body").backgroundColor, ink: style("body").color, section: style("section.figures").backgroundColor,
    fills: [...new Set(all("svg rect, svg path, svg circle, svg text").map(each => getComputedStyle(each).fill))],
  };
}
window.onload = () => {
  document.body.textContent = JSON.stringify([...document.querySelectorAll("iframe")].map(probe));
};
"""


def look(folder: Path, pages: dict[str, str], widths: tuple[int, ...], dark: bool = False) -> tuple[dict, str]:
    """What each page of ``pages`` looks like in frames of ``widths``, by (name, width), and the browser's console.

    Skips the test if no Chromium is installed.
    """
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium).")
    shown = []
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
        shown += [
            ((name, width), f'<iframe src="{name}.html" width="{width}" height="900" frameborder="0"></iframe>')
            for width in widths
        ]
    harness = folder / "harness.html"
    harness.write_text(
        f"<!DOCTYPE html><meta charset=utf-8><body>{''.join(frame for _, frame in shown)}<script>{PROBE}</script>"
    )
    command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += [f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--window-size=1600,1000"]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run(
        [*command, "--dump-dom", harness.as_uri()], capture_output=True, text=True, timeout=400, check=True
    )
    body = re.search(r"<body>(.*)</body>", done.stdout, re.DOTALL)
    assert body, done.stdout[-500:]
    text = body[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return dict(zip([key for key, _ in shown], json.loads(text), strict=True)), console
