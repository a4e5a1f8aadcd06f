"""Hooks of mkdocs: adds the generated pages, and writes equations as MathML, which needs no script."""

import html
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # mkdocs loads this file by its path
    sys.path.insert(0, str(ROOT))

from latex2mathml.converter import convert  # noqa: E402
from mkdocs.structure.files import File, Files  # noqa: E402

from scripts.docs.reference import pages  # noqa: E402

# What pymdownx.arithmatex writes: a tag, the delimiters, and the equation in LaTeX.
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, *, config: Any) -> Files:
    """Add the generated pages."""
    for path, content in pages().items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_content(content: str, **unused: Any) -> str:
    """Write the equations of a page."""
    return EQUATION.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    return str(convert(html.unescape(found[3]).strip(), display="inline" if found[2] == "(" else "block"))
