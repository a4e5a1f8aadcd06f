"""Pictures of the documentation: screenshots of a report's page by headless Chromium.

``python -m scripts.docs.pictures runs/quickstart/version_0/deployment/report.html`` writes ``docs/images``: the top of
the page, and some of its sections.
"""

import argparse
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
WIDTH, HEIGHT, MARGIN = 1200, 4000, 16
SECTIONS = ("report", "codebooks", "spikes", "energy", "cores")


def only(page: str, section: str) -> str:
    """The page with one section; ``report`` keeps the top of the page up to the codebooks."""
    if section == "report":
        rule = "main > section:not(#verdict, #codebooks), footer {display: none}"
    else:
        rule = f"main > :not(#{section}), body > :not(main), footer {{display: none}}"
    page = re.sub(r"<meta[^>]*Content-Security-Policy[^>]*>", "", page)  # it allows no style of others
    return page.replace("</head>", f"<style>{rule}</style></head>")


def screenshot(page: str, to: Path) -> None:
    """Write a picture of ``page``, without the empty rest of the window."""
    browser = next(path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name)))
    with tempfile.TemporaryDirectory() as folder:
        file, picture = Path(folder, "page.html"), Path(folder, "page.png")
        file.write_text(page, encoding="utf-8")
        command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture}", file.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        with Image.open(picture) as opened:
            image = opened.convert("RGB")
    background = Image.new("RGB", image.size, image.getpixel((0, image.height - 1)))
    box = ImageChops.difference(image, background).getbbox()
    bottom = min(image.height, (box[3] if box else image.height) + MARGIN)
    image.crop((0, 0, image.width, bottom)).quantize(128).save(to, optimize=True)


def main() -> None:
    """Write all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, metavar="REPORT.html")
    page = parser.parse_args().page.read_text(encoding="utf-8")
    IMAGES.mkdir(exist_ok=True)
    for name in SECTIONS:
        screenshot(only(page, name), IMAGES / f"{name}.png")
        print(f"written: docs/images/{name}.png")


if __name__ == "__main__":
    main()
