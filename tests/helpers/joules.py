"""Comparison of joules, which are far below the absolute tolerance of ``pytest.approx``."""

from typing import Any

import pytest


def joules(expected: Any) -> Any:
    """``expected`` but for rounding."""
    return pytest.approx(expected, rel=1e-9, abs=0)
