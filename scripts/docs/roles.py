"""Griffe extension: Sphinx roles and ``Example:`` sections of docstrings as mkdocstrings reads them."""

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:func|class|meth|mod|data|attr|exc):`(~?)([\w.]+)`")
EXAMPLE = re.compile(r"(?m)^(\s*)Example:$")


class Roles(Extension):
    """Writes ``:class:`~a.b.C``` as code, and names the section of an example as griffe's parser expects it."""

    def on_instance(self, *, obj: Object, **unused: Any) -> None:
        """Change the docstring of one object before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)


def plain(text: str) -> str:
    """``text`` without roles.

    Example:
        >>> plain("see :class:`~a.b.C` and :func:`a.f`::")
        'see `C` and `a.f`:'
    """
    text = ROLE.sub(lambda role: f"`{role[2].rpartition('.')[2] if role[1] else role[2]}`", text)
    text = EXAMPLE.sub(r"\1Examples:", text)
    return re.sub(r"::(?=\n|$)", ":", text)
