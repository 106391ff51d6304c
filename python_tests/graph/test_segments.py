"""segment_softmax beyond the contract: field cases, special values, offsets that are wrong."""

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sslkernels
from sslkernels import _op
from sslkernels.graph import segment_softmax
from sslkernels.graph.segments import op as segments_op

BACKENDS = ["reference", "cpu", "cuda-emulated"]


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Every test runs on every backend, CUDA with its checks of values."""
    monkeypatch.setenv("SSLKERNELS_CHECK", "1")
    with sslkernels.use(request.param):
        yield request.param


def test_the_cuda_kernels_run_without_a_gpu() -> None:
    for op in (segments_op._op, segments_op._backward):
        assert op.kernel("cuda-emulated", "CPU") is not None, "make test builds the emulated GPU first"


def test_each_segment_has_its_own_maximum() -> None:
    """pytorch_geometric #2013, #2274: one maximum for all groups lets the others underflow."""
    found = segment_softmax(torch.tensor([0.0, -1, -130, -131]), torch.tensor([0, 2, 4]))
    torch.testing.assert_close(found, torch.tensor([0.731059, 0.268941] * 2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("gap", [80, 200, 1e4, 1e30])
@pytest.mark.parametrize("rows", [2, 300])
def test_segments_far_apart(gap: float, rows: int) -> None:
    """A segment's result is the one it has alone, however far the others lie."""
    x = torch.randn(rows, generator=torch.Generator().manual_seed(0))
    far = torch.cat([x + gap, x, x - gap])
    found = segment_softmax(far, torch.arange(4) * rows)
    for part, shift in zip(found.chunk(3), (gap, 0, -gap), strict=True):
        torch.testing.assert_close(part, ((x + shift) - (x + shift).max()).softmax(0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits_are_summed_in_thirty_two(dtype: torch.dtype) -> None:
    """4,000 equal rows: in float16 a running sum would stop growing at 2,048, in bfloat16 at 256."""
    found = segment_softmax(torch.zeros(4000, dtype=dtype), torch.tensor([0, 4000]))
    assert (found == torch.tensor(1 / 4000).to(dtype)).all() or _is_reference()


@pytest.mark.parametrize("columns", [1, 5])
def test_a_long_segment_loses_no_small_rows(columns: int) -> None:
    """Row 0 weighs 2^24 times as much as another: added to it one by one, the others would change nothing."""
    rows = 1 << 16
    x = torch.full((rows, columns), -24 * math.log(2))
    x[0] = 0
    x.requires_grad_()
    out = segment_softmax(x, torch.tensor([0, rows]))
    share = 1 / (1 + 2**-24 * (rows - 1))
    assert _is_reference() or torch.allclose(out[0].double(), torch.tensor(share).double(), rtol=1e-3)
    # The sum of grad_out * out is 1 for row 0 and the others' share, 2^-8 of it.
    (grad,) = torch.autograd.grad(out, x, torch.ones_like(out))
    assert _is_reference() or grad[0].abs().max() < 1e-3


def _is_reference() -> bool:
    return _op._scope.stack[-1] == "reference"


@pytest.mark.parametrize("rows", [1, 3, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_lowest_group_gives_zero_and_no_gradient(rows: int, dtype: torch.dtype) -> None:
    x = torch.full((2 * rows, 2), float("-inf"), dtype=dtype)
    x[rows:, 1] = 1
    x.requires_grad_()
    out = segment_softmax(x, torch.tensor([0, rows, 2 * rows]))
    assert (out[:rows] == 0).all()
    assert (out[:, 0] == 0).all()
    (out * torch.arange(4 * rows).reshape(-1, 2)).sum().backward()
    assert x.grad is not None
    assert (x.grad[:rows] == 0).all()
    assert (x.grad[:, 0] == 0).all()


def test_lowest_entry_beside_others() -> None:
    x = torch.tensor([1.0, float("-inf"), 1.0], requires_grad=True)
    out = segment_softmax(x, torch.tensor([0, 3]))
    assert out.tolist() == [0.5, 0.0, 0.5]
    out[0].backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.25, 0.0, -0.25]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("rows", [2, 400])
def test_nan_stays_in_its_segment(value: float, rows: int) -> None:
    """NaN, or inf - inf, fills its own column of its own segment; a neighbour does not see it."""
    for at in (0, rows - 1):
        x = torch.zeros(2 * rows, 2)
        x[at, 1] = value
        out = segment_softmax(x, torch.tensor([0, rows, 2 * rows]))
        assert out[:rows, 1].isnan().all()
        torch.testing.assert_close(out[:rows, 0], torch.full((rows,), 1 / rows))
        torch.testing.assert_close(out[rows:], torch.full((rows, 2), 1 / rows))


@pytest.mark.parametrize("ids", [torch.int32, torch.int64])
@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([1, 3, 5], r"ptr\[0\] is 1, it must be 0"),
        ([-1, 3, 5], r"ptr\[0\] is -1, it must be 0"),
        ([0, 3, 4], r"ptr\[2\] is 4, it must be the number of rows, 5"),
        ([0, 3, 6], r"ptr\[2\] is 6, it must be the number of rows, 5"),
        ([0, 4, 2, 5], r"ptr\[2\] is 2, less than the entry before it"),
        ([0, -1, 5], r"ptr\[1\] is -1, less than the entry before it"),
        ([0, 2**31 - 1, 5], r"ptr\[2\] is 5, less than the entry before it"),
        ([0], r"ptr\[0\] is 0, it must be the number of rows, 5"),
    ],
)
def test_wrong_offsets(offsets: list[int], message: str, ids: torch.dtype) -> None:
    for shape in ((5,), (5, 2)):
        with pytest.raises(ValueError, match=message):
            segment_softmax(torch.zeros(shape), torch.tensor(offsets, dtype=ids))


def test_wrong_offsets_in_a_compiled_graph(backend: str) -> None:
    if backend == "reference":
        pytest.skip("a traced reference looks at no values")
    compiled = torch.compile(segment_softmax, fullgraph=True, backend="aot_eager")
    compiled(torch.zeros(5), torch.tensor([0, 5]))
    with pytest.raises(ValueError, match=r"ptr\[1\] is 9"):
        compiled(torch.zeros(5), torch.tensor([0, 9]))


def test_no_offsets_at_all() -> None:
    with pytest.raises(ValueError, match="ptr must have shape"):
        segment_softmax(torch.zeros(0), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("offsets", [[0, 0, 0, 4, 4], [0, 4], [0, 1, 2, 3, 4], [0, 0, 2, 2, 4, 4, 4]])
def test_empty_segments_change_nothing(offsets: list[int]) -> None:
    x = torch.tensor([[0.0, 1], [2, 3], [1, 1], [-5, 9]])
    out = segment_softmax(x, torch.tensor(offsets))
    for begin, end in itertools.pairwise(offsets):
        torch.testing.assert_close(out[begin:end], x[begin:end].softmax(0))


def test_nothing_at_all() -> None:
    for shape in ((0,), (0, 3), (3, 0)):
        rows = shape[0]
        x = torch.zeros(shape, requires_grad=True)
        out = segment_softmax(x, torch.tensor([0, rows]))
        assert out.shape == shape
        out.sum().backward()


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=12), columns=st.integers(1, 13))
def test_rows_of_a_segment_sum_to_one(lengths: list[int], columns: int) -> None:
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    generator = torch.Generator().manual_seed(sum(lengths) * 31 + columns)
    x = torch.randn(int(ptr[-1]), columns, generator=generator, dtype=torch.float64) * 30
    out = segment_softmax(x, ptr)
    for begin, end in itertools.pairwise(ptr.tolist()):
        expected = torch.ones(columns, dtype=torch.float64) if end > begin else torch.zeros(columns)
        torch.testing.assert_close(out[begin:end].sum(0), expected.double())


def test_order_of_the_batch_does_not_matter() -> None:
    """Segments moved to other places in the batch keep their bits."""
    generator = torch.Generator().manual_seed(3)
    parts = [torch.randn(n, 8, generator=generator) for n in (3, 1, 700, 40, 2)]
    alone = [segment_softmax(part, torch.tensor([0, len(part)])) for part in parts]
    for order in itertools.islice(itertools.permutations(range(5)), 0, 120, 17):
        ptr = torch.tensor([0, *(len(parts[at]) for at in order)]).cumsum(0)
        together = segment_softmax(torch.cat([parts[at] for at in order]), ptr)
        expected = torch.cat([alone[at] for at in order])
        assert torch.equal(together, expected) or _is_reference()


@pytest.mark.parametrize("columns", [1, 3, 4, 8, 17, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_neighbours_of_any_length_do_not_matter(columns: int, dtype: torch.dtype, backend: str) -> None:
    """Short segments are worked on side by side where most are short, else one by one: with the same bits."""
    generator = torch.Generator().manual_seed(columns)
    lengths = [*range(12), 8, 9, 1, 40, 3, 3, 8]
    parts = [torch.randn(n, columns, generator=generator).mul(3).to(dtype) for n in lengths]
    for at, special in ((2, float("nan")), (4, float("inf")), (7, float("-inf")), (11, float("nan"))):
        parts[at][at // 2, 0] = special
    grads = [torch.randn(n, columns, generator=generator).to(dtype) for n in lengths]

    def run(order: list[int]) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        ptr = torch.tensor([0, *(lengths[at] for at in order)]).cumsum(0)
        x = torch.cat([parts[at] for at in order]).requires_grad_()
        out = segment_softmax(x, ptr)
        (grad,) = torch.autograd.grad(out, x, torch.cat([grads[at] for at in order]))
        cuts = ptr.diff().tolist()
        return dict(zip(order, zip(out.split(cuts), grad.split(cuts), strict=True), strict=True))

    alone = {at: run([at])[at] for at in range(len(lengths))}
    mostly_short = [at for at in range(len(lengths)) if lengths[at] <= 8]
    for order in (list(alone), list(alone)[::-1], mostly_short, [15, 9, 1, 10, 11]):
        for at, found in run(order).items():
            for one, other in zip(found, alone[at], strict=True):
                same = torch.equal(one.nan_to_num(7), other.nan_to_num(7))
                assert same or _is_reference(), (lengths[at], backend)


def test_exponential_of_doubles() -> None:
    """Two rows [0, x] in float64, down to where a float32 is 0."""
    x = torch.linspace(-700, 0, 5001, dtype=torch.float64)
    pairs = torch.stack([torch.zeros_like(x), x], dim=1).reshape(-1, 1)
    out = segment_softmax(pairs, torch.arange(len(x) + 1) * 2).reshape(-1, 2)
    exact = torch.tensor(
        [math.exp(value) / (1 + math.exp(value)) for value in x.tolist()], dtype=torch.float64
    )
    torch.testing.assert_close(out[:, 1], exact, rtol=2**-50, atol=0)


def test_exponential_is_exact_to_two_units(backend: str) -> None:
    """Two rows [0, x]: the second's weight is exp(x) / (1 + exp(x)), down to subnormals."""
    if backend != "cpu":
        pytest.skip("the CPU's own exponential")
    x = torch.linspace(-104, 0, 20001)
    pairs = torch.stack([torch.zeros_like(x), x], dim=1).reshape(-1, 1)
    out = segment_softmax(pairs, torch.arange(len(x) + 1) * 2).reshape(-1, 2).double()
    exact = x.double().exp() / (1 + x.double().exp())
    unit = torch.maximum(exact * 2**-23, torch.tensor(math.ldexp(1.0, -149), dtype=torch.float64))
    assert ((out[:, 1] - exact).abs() / unit).max() < 4
