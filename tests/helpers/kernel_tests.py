"""Device of the tests of Triton kernels, and the number of random examples on it."""

import pytest
import torch
from hypothesis import Phase, settings

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

needs_no_gpu = pytest.mark.skipif(DEVICE == "cuda", reason="runs without a GPU as well, and takes minutes")


def examples(interpreted: int, compiled: int = 8) -> settings:
    """Settings of a property test: ``interpreted`` examples in Triton's interpreter, ``compiled`` ones on a GPU.

    A GPU compiles kernels for nearly every example, which takes seconds. It does not look for a smaller example either.
    """
    if DEVICE == "cpu":
        return settings(max_examples=interpreted)
    return settings(max_examples=compiled, phases=(Phase.explicit, Phase.reuse, Phase.generate), database=None)
