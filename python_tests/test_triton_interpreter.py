"""The patched interpreter rounds and multiplies bfloat16 as a GPU does."""

import pytest
import torch

tl = pytest.importorskip("triton.language")
triton = pytest.importorskip("triton")

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter stands in for a GPU"),
    pytest.mark.filterwarnings("ignore:overflow encountered in cast"),
]


@triton.jit
def _convert(source, target, n, BLOCK: tl.constexpr):  # noqa: N803
    at = tl.arange(0, BLOCK)
    value = tl.load(source + at, mask=at < n).to(tl.float32)
    tl.store(target + at, value.to(target.dtype.element_ty), mask=at < n)


@triton.jit
def _product(a, b, out, N: tl.constexpr):  # noqa: N803
    row, column = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
    at = row * N + column
    tl.store(out + at, tl.dot(tl.load(a + at), tl.load(b + at)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_conversion_rounds_to_nearest_even(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    extremes = torch.tensor([0.0, -0.0, 1e-40, -3e38, 3.4e38, 65504.0, float("inf"), float("-inf")])
    x = torch.cat([extremes, torch.randn(1000, generator=generator), 1 + torch.arange(16) / 2**9])
    found = torch.empty(len(x), dtype=dtype)
    _convert[(1,)](x, found, len(x), BLOCK=1024)
    assert torch.equal(found, x.to(dtype))
    back = torch.empty(len(x))
    _convert[(1,)](found, back, len(x), BLOCK=1024)
    assert torch.equal(back, found.float())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dot_accumulates_in_float32(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(32, 32, generator=generator).to(dtype) for _ in range(2))
    found = torch.empty(32, 32)
    _product[(1,)](a, b, found, N=32)
    torch.testing.assert_close(found, a.double().matmul(b.double()).float(), rtol=1e-5, atol=1e-5)
