"""The Triton kernels of codebooks against plain torch: on a GPU where there is one, else in Triton's interpreter."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("triton")

from helpers.kernel_tests import DEVICE, examples

from spikefit.functional.kernels.cuda.codebook import CodebookLookup, GridValues, IndexedLookup, summed_by_index
from spikefit.functional.quantize import _CodebookLookup, _IndexedLookup, assign, plain_grid_values

ROWS = st.sampled_from([1, 3])
COUNTS = st.sampled_from([1, 7, 27, 300, 1500])
LEVELS = st.one_of(st.integers(1, 17), st.sampled_from([64, 129, 255, 256]))
SEEDS = st.integers(0, 10**6)


def draw(seed, rows, count, levels, dtype=torch.float32):
    """Weights, some on midpoints and on values, and ascending codebooks, some of whose values coincide."""
    generator = torch.Generator().manual_seed(seed)
    codebook = torch.randn(rows, levels, generator=generator).to(dtype)
    if dtype == torch.bfloat16:  # sums without rounding, which the interpreter does in another way
        codebook = (codebook * 8).round() / 8
    repeated = torch.randint(levels, (rows, levels), generator=generator)
    codebook = torch.where(torch.rand(rows, levels, generator=generator) < 0.2, codebook.gather(1, repeated), codebook)
    codebook = codebook.sort(dim=1).values
    weight = torch.randn(rows, count, generator=generator).to(dtype)
    special = torch.cat([codebook, (codebook[:, 1:] + codebook[:, :-1]) / 2], dim=1)
    chosen = special.gather(1, torch.randint(special.shape[1], (rows, count), generator=generator))
    weight = torch.where(torch.rand(rows, count, generator=generator) < 0.3, chosen, weight)
    upstream = torch.randn(rows, count, generator=generator).to(dtype)
    return weight.to(DEVICE), codebook.to(DEVICE), upstream.to(DEVICE)


def gradients(function, upstream, *leaves):
    leaves = [leaf.detach().clone().requires_grad_(leaf.is_floating_point()) for leaf in leaves]
    out = function(*leaves)
    out.backward(upstream.to(out.dtype))
    return out.detach(), [leaf.grad for leaf in leaves]


@given(ROWS, COUNTS, LEVELS, st.sampled_from([torch.float32, torch.float64, torch.bfloat16]), SEEDS)
@examples(25)
def test_lookup(rows, count, levels, dtype, seed):
    weight, codebook, upstream = draw(seed, rows, count, levels, dtype)
    out, (of_weight, of_codebook) = gradients(CodebookLookup.apply, upstream, weight, codebook)
    expected, _ = gradients(_CodebookLookup.apply, upstream, weight, codebook)
    assert torch.equal(out, expected)
    assert torch.equal(of_weight, upstream)
    double = torch.zeros(rows, levels, dtype=torch.float64, device=DEVICE)
    double.scatter_add_(1, assign(weight, codebook), upstream.double())
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(of_codebook.double(), double, rtol=tolerance, atol=tolerance)


@given(ROWS, COUNTS, LEVELS, st.sampled_from([torch.uint8, torch.int64]), SEEDS)
@examples(15)
def test_indexed_lookup(rows, count, levels, dtype, seed):
    weight, codebook, upstream = (x.double() for x in draw(seed, rows, count, levels))
    index = torch.randint(levels, (rows, count), generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)
    found, expected = (
        gradients(function.apply, upstream, weight, codebook, index) for function in (IndexedLookup, _IndexedLookup)
    )
    assert torch.equal(found[0], expected[0])
    for one, other in zip(found[1][:2], expected[1][:2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_weight_that_is_no_number_takes_the_last_value():
    codebook = torch.tensor([[-1.0, 0.5, 2.0]], device=DEVICE)
    weight = torch.tensor([[torch.nan, -torch.inf, torch.inf]], device=DEVICE)
    assert CodebookLookup.apply(weight, codebook).tolist() == [[2.0, -1.0, 2.0]]


def test_a_transposed_gradient_and_a_sliced_weight():
    weight, codebook, upstream = draw(0, 4, 60, 4)
    padded = torch.cat([weight, weight], dim=1)[:, :60]
    out, (_, found) = gradients(CodebookLookup.apply, upstream.t().contiguous().t(), padded, codebook)
    again, (_, expected) = gradients(CodebookLookup.apply, upstream, weight, codebook)
    assert torch.equal(out, again)
    assert torch.equal(found, expected)


def test_long_rows_are_summed_in_chunks_and_always_to_the_same():
    """100,000 times 0.1 in float32 alone is off by 1 percent when summed one after the other."""
    x = torch.full((1, 100_000), 0.1, device=DEVICE)
    index = (torch.arange(100_000, device=DEVICE) % 5 == 0).to(torch.uint8)[None]
    sums = summed_by_index(x, index, 2)
    torch.testing.assert_close(sums, torch.tensor([[8000.0, 2000.0]], device=DEVICE), rtol=1e-6, atol=0)
    assert torch.equal(sums, summed_by_index(x, index, 2))


@given(
    groups=st.sampled_from([1, 3]),
    levels=st.sampled_from([2, 3, 4, 15, 70]),
    bits=st.sampled_from([2, 4, 8]),
    zero=st.sampled_from(["counted", "free", "none"]),
    learned=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=SEEDS,
)
@examples(25)
def test_grid(groups, levels, bits, zero, learned, dtype, seed):
    """To the last bit, but for the scale's gradient, which sums over the codebook in another order."""
    generator = torch.Generator().manual_seed(seed)
    largest = 2 ** (bits - 1) - 1
    scale = torch.rand(groups, 1, dtype=dtype, generator=generator) + 0.1
    codebook = torch.randn(groups, levels, dtype=dtype, generator=generator) * scale * largest
    exact = torch.randint(-2 * largest, 2 * largest, (groups, levels), generator=generator) / 2  # halves, and beyond
    codebook = torch.where(torch.rand(groups, levels, generator=generator) < 0.3, exact * scale, codebook).to(DEVICE)
    scale = scale.to(DEVICE) * (torch.rand(groups, 1, generator=generator).to(DEVICE) - 0.5).sign() ** learned
    upstream = torch.randn(groups, levels + (zero == "free"), dtype=dtype, generator=generator).to(DEVICE)

    def run(function):
        c, s = codebook.clone().requires_grad_(), scale.clone().requires_grad_(learned)
        values = function(c, s, largest, zero, learned)
        values.backward(upstream)
        return values.detach(), c.grad, s.grad

    (values, of_codebook, of_scale), expected = run(GridValues.apply), run(plain_grid_values)
    assert torch.equal(values, expected[0])
    assert torch.equal(of_codebook, expected[1])
    if learned:
        tolerance = 1e-4 if dtype == torch.float32 else 1e-11
        torch.testing.assert_close(of_scale, expected[2], rtol=tolerance, atol=tolerance * levels * largest)
    else:
        assert of_scale is expected[2] is None


@pytest.mark.parametrize("zero", ["counted", "free", "none"])
def test_a_codebook_that_diverged_stays_so(zero):
    codebook = torch.tensor([[torch.nan, 1.0, -1.0, torch.nan]], device=DEVICE)
    scale = torch.ones(1, 1, device=DEVICE)
    found, expected = (f(codebook, scale, 7, zero, False) for f in (GridValues.apply, plain_grid_values))
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
