"""masked_linear_cross_entropy: faults met in the field, then their classes, on every backend here."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sslkernels import _op, use
from sslkernels.masking import masked_linear_cross_entropy

FORWARD = "masked_linear_cross_entropy"


def backends() -> list[str]:
    op = _op.OPS[FORWARD] if FORWARD in _op.OPS else (_op.declare_all() or _op.OPS[FORWARD])
    return ["reference", *(name for name in ("cpu", "triton") if op.kernel(name, "CPU") is not None)]


@pytest.fixture(autouse=True, params=backends())
def backend(request):
    with use(request.param):
        yield request.param


def problem(t=40, v=23, d=7, dtype=torch.float64, scored=0.5, seed=0, bias=True):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(t, d, generator=generator, dtype=torch.float64)
    weight = torch.randn(v, d, generator=generator, dtype=torch.float64)
    offset = torch.randn(v, generator=generator, dtype=torch.float64) if bias else None
    labels = torch.randint(v, (t,), generator=generator)
    labels[torch.rand(t, generator=generator) >= scored] = -100
    floats = (x if x is None else x.to(dtype).requires_grad_() for x in (hidden, weight, offset))
    hidden, weight, offset = floats
    return hidden, weight, labels, offset


def eager(hidden, weight, labels, bias=None, *, ignore_index=-100, reduction="mean"):
    """torch's own, over all rows."""
    logits = functional.linear(hidden, weight, bias)
    return functional.cross_entropy(logits, labels.long(), ignore_index=ignore_index, reduction=reduction)


def gradients(loss: Tensor, *inputs: Tensor | None, upstream: Tensor | None = None):
    return torch.autograd.grad(loss, [x for x in inputs if x is not None], upstream)


def assert_close(found, expected, tolerance=1e-11):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


# -- upstream gradients --------------------------------------------------------------------------------------


def test_each_row_has_its_upstream_gradient() -> None:
    """Liger-Kernel #968, #678, #1298: rows multiplied by the first upstream value."""
    hidden = torch.tensor([[1.0, 0], [0, 1], [1, 1]], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([[1.0, 0], [0, 1], [-1, -1]], dtype=torch.float64)
    loss = masked_linear_cross_entropy(hidden, weight, torch.tensor([-100, 0, 2]), reduction="none")
    assert_close(loss.detach(), torch.tensor([0, 1.407606, 3.717736], dtype=torch.float64), 1e-6)
    (grad,) = gradients(loss, hidden, upstream=torch.tensor([5.0, 1, 2], dtype=torch.float64))
    expected = torch.tensor([[0, 0], [-0.845302, 0.575210], [2.927133, 2.927133]], dtype=torch.float64)
    assert_close(grad, expected, 1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("factor", [1.0, -3.0, 0.0, 65536.0])
def test_upstream_gradients_of_every_reduction(reduction: str, factor: float) -> None:
    hidden, weight, labels, bias = problem()
    weights = torch.linspace(-2, 2, len(labels), dtype=torch.float64) * factor
    results = []
    for function in (masked_linear_cross_entropy, eager):
        loss = function(hidden, weight, labels, bias, reduction=reduction)
        total = (loss * weights).sum() if reduction == "none" else loss * factor
        results.append((loss.detach(), *gradients(total, hidden, weight, bias)))
    for found, expected in zip(*results, strict=True):
        assert_close(found, expected, 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_tiles_of_classes_follow_the_threads(dtype: torch.dtype, reduction: str, backend: str) -> None:
    """More classes than a tile has on one thread, with a remainder: other tiles on two, the same numbers."""
    if backend != "cpu":
        pytest.skip("the others have no threads")
    given = problem(t=50, v=1301, d=9, dtype=dtype)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            hidden, weight, labels, bias = given
            loss = masked_linear_cross_entropy(hidden, weight, labels, bias, reduction=reduction)
            grads = torch.autograd.grad(loss.sum(), (hidden, weight, bias))
            with torch.no_grad():
                value = masked_linear_cross_entropy(hidden, weight, labels, bias, reduction=reduction)
            found.append((loss.detach(), value, *grads))
    finally:
        torch.set_num_threads(before)
    rtol = 1e-5 if dtype == torch.float32 else 2**-7
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=rtol, atol=1e-6)


def test_backward_twice_through_a_kept_graph() -> None:
    """A gradient finished in the forward must not be scaled in place by the first backward."""
    hidden, weight, labels, bias = problem()
    for reduction in ("mean", "none"):
        loss = masked_linear_cross_entropy(hidden, weight, labels, bias, reduction=reduction).sum()
        first = torch.autograd.grad(loss * 3, [hidden, weight, bias], retain_graph=True)
        for gradient in first:
            gradient.clone()
        second = torch.autograd.grad(loss * 3, [hidden, weight, bias])
        for left, right in zip(first, second, strict=True):
            assert torch.equal(left, right)


# -- only what is asked for ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradients_nobody_asked_for(reduction: str, monkeypatch) -> None:
    """flash-linear-attention #1253: a frozen head still cost a (V, D) gradient."""
    hidden, weight, labels, bias = problem()
    everything = (hidden, weight, bias)
    expected = gradients(
        masked_linear_cross_entropy(hidden, weight, labels, bias, reduction=reduction).sum(), *everything
    )
    for asked in itertools.product([False, True], repeat=3):
        h, w, b = (x.detach().requires_grad_(a) for x, a in zip(everything, asked, strict=True))
        loss = masked_linear_cross_entropy(h, w, labels, b, reduction=reduction).sum()
        assert loss.requires_grad == any(asked)
        wanted = [x for x, a in zip((h, w, b), asked, strict=True) if a]
        found = iter(torch.autograd.grad(loss, wanted) if wanted else ())
        for gradient, one in zip(expected, asked, strict=True):
            if one:
                assert torch.equal(next(found), gradient)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_no_grad_has_the_same_loss(reduction: str) -> None:
    hidden, weight, labels, bias = problem()
    loss = masked_linear_cross_entropy(hidden, weight, labels, bias, reduction=reduction)
    with torch.no_grad():
        alone = masked_linear_cross_entropy(hidden, weight, labels, bias, reduction=reduction)
    assert not alone.requires_grad
    assert torch.equal(loss.detach(), alone)


# -- the numbers ---------------------------------------------------------------------------------------------


def test_bias_in_loss_and_gradient() -> None:
    """ml-cross-entropy #52: losses without the bias's share, even negative ones."""
    hidden, weight = torch.zeros(3, 2, dtype=torch.float64), torch.ones(3, 2, dtype=torch.float64)
    bias = torch.tensor([10.0, 0, -10], dtype=torch.float64, requires_grad=True)
    loss = masked_linear_cross_entropy(hidden, weight, torch.arange(3), bias, reduction="none")
    assert_close(loss.detach(), torch.tensor([0.000045, 10.000045, 20.000045], dtype=torch.float64), 1e-6)
    (grad,) = gradients(loss.sum(), bias)
    assert_close(grad, torch.tensor([1.999864, -0.999864, -1], dtype=torch.float64), 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_losses_are_never_negative(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(64, 16, generator=generator).to(dtype)
    weight = (torch.randn(129, 16, generator=generator) * 8).to(dtype)
    labels = functional.linear(hidden.float(), weight.float()).argmax(1)
    loss = masked_linear_cross_entropy(hidden, weight, labels, reduction="none")
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (loss >= 0).all()


def test_an_ignored_class_stays_in_the_denominator() -> None:
    """pytorch #63004, #15508: ignore_index says which labels are left out, not which classes."""
    hidden = torch.ones(1, 1, dtype=torch.float64)
    weight = torch.tensor([[0.0], [1], [1]], dtype=torch.float64)
    loss = masked_linear_cross_entropy(hidden, weight, torch.tensor([1]), ignore_index=0)
    assert math.isclose(loss.item(), 0.861995, abs_tol=1e-6)
    both = masked_linear_cross_entropy(
        hidden.expand(2, 1), weight, torch.tensor([1, 0]), ignore_index=0, reduction="sum"
    )
    assert math.isclose(both.item(), 0.861995, abs_tol=1e-6)


@pytest.mark.parametrize("ignore_index", [255, -1, 0, 2, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ids", [torch.int32, torch.int64])
def test_any_ignore_index(ignore_index: int, reduction: str, ids: torch.dtype) -> None:
    hidden, weight, _, bias = problem(t=5, v=3)
    labels = torch.tensor([0, 1, ignore_index, 2, ignore_index], dtype=ids)
    found = masked_linear_cross_entropy(
        hidden, weight, labels, bias, ignore_index=ignore_index, reduction=reduction
    )
    expected = eager(hidden, weight, labels, bias, ignore_index=ignore_index, reduction=reduction)
    assert_close(found, expected)


@pytest.mark.parametrize("magnitude", [1e-30, 1.0, 50.0, 1e4, 1e30])
def test_extreme_logits(magnitude: float) -> None:
    hidden, weight, labels, bias = problem(dtype=torch.float32)
    hidden = (hidden.detach() * magnitude).requires_grad_()
    results = [f(hidden, weight, labels, bias) for f in (masked_linear_cross_entropy, eager)]
    assert_close(results[0], results[1], 1e-5)
    for found, expected in zip(*(gradients(loss, hidden, weight, bias) for loss in results), strict=True):
        scale = expected.abs().max().item() or 1.0
        assert_close(found / scale, expected / scale, 1e-5)


def test_infinite_bias_forbids_a_class() -> None:
    hidden, weight, labels, bias = problem(v=5)
    bias = bias.detach().clone()
    bias[4] = -torch.inf
    labels = labels.clamp(max=3)
    hidden = hidden.detach().requires_grad_()
    loss = masked_linear_cross_entropy(hidden, weight, labels, bias)
    assert_close(loss, eager(hidden, weight, labels, bias))
    assert gradients(loss, hidden)[0].isfinite().all()


def test_nan_in_a_scored_row_is_not_hidden() -> None:
    hidden, weight, labels, bias = problem(scored=1)
    values = hidden.detach().clone()
    values[3, 0] = torch.nan
    loss = masked_linear_cross_entropy(values, weight, labels, bias, reduction="none")
    assert loss[3].isnan()
    assert loss.isnan().sum() == 1


# -- rows that are not scored --------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("rows", [0, 4])
def test_no_scored_row(rows: int, reduction: str) -> None:
    """cross_entropy's mean over nothing is NaN."""
    hidden, weight, _, bias = problem(t=rows)
    loss = masked_linear_cross_entropy(hidden, weight, torch.full((rows,), -100), bias, reduction=reduction)
    assert loss.shape == ((rows,) if reduction == "none" else ())
    assert (loss == 0).all()
    for x, gradient in zip((hidden, weight, bias), gradients(loss.sum(), hidden, weight, bias), strict=True):
        assert gradient.shape == x.shape
        assert (gradient == 0).all()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("filler", [torch.nan, torch.inf, 1e38])
def test_rows_behind_ignore_index_never_show(reduction: str, filler: float) -> None:
    """WeatherGenerator #2717: NaN times zero."""
    hidden, weight, labels, bias = problem(dtype=torch.float32)
    poisoned = hidden.detach().clone()
    poisoned[labels == -100] = filler
    poisoned.requires_grad_()
    upstream = torch.where(labels == -100, torch.nan, 1.0)
    results = []
    for x in (hidden, poisoned):
        loss = masked_linear_cross_entropy(x, weight, labels, bias, reduction=reduction)
        grads = gradients(loss, x, weight, bias, upstream=upstream if reduction == "none" else None)
        results.append((loss.detach(), *grads))
    for clean, found in zip(*results, strict=True):
        assert torch.equal(clean, found)
    assert (results[1][1][labels == -100] == 0).all()


# -- dtypes --------------------------------------------------------------------------------------------------

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtypes", list(itertools.product(DTYPES, repeat=2)), ids=str)
def test_unequal_dtypes_are_promoted(dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    hidden, weight, labels, bias = problem()
    hidden, weight = (
        x.detach().to(t).requires_grad_() for x, t in zip((hidden, weight), dtypes, strict=True)
    )
    common = torch.promote_types(*dtypes)
    bias = bias.detach().to(dtypes[0]).requires_grad_()
    loss = masked_linear_cross_entropy(hidden, weight, labels, bias)
    assert loss.dtype == (torch.float64 if common == torch.float64 else torch.float32)
    exact = eager(hidden.double(), weight.double(), labels, bias.double())
    coarse = torch.finfo(common).eps
    assert_close(loss.double(), exact, 8 * coarse)
    for x, gradient in zip((hidden, weight, bias), gradients(loss, hidden, weight, bias), strict=True):
        assert gradient.dtype == x.dtype


def test_autocast() -> None:
    """A 16-bit hidden state from an autocast layer beside a 32-bit head."""
    hidden, weight, labels, bias = problem(dtype=torch.float32)
    layer = torch.nn.Linear(7, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        state = layer(hidden)
        loss = masked_linear_cross_entropy(state, weight, labels, bias)
    assert state.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert_close(loss, eager(state.float(), weight, labels, bias), 1e-5)
    loss.backward()
    assert layer.weight.grad.dtype == weight.grad.dtype == torch.float32


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [-1, 23, 24, 2**31 - 1, -99, -101])
@pytest.mark.parametrize("ids", [torch.int32, torch.int64])
def test_labels_out_of_range(label: int, ids: torch.dtype) -> None:
    hidden, weight, labels, bias = problem()
    labels = labels.to(ids)
    labels[7] = label
    with pytest.raises(ValueError, match=rf"labels\[7\] is {label}, outside \[0, 23\)"):
        masked_linear_cross_entropy(hidden, weight, labels, bias)
    compiled = torch.compile(masked_linear_cross_entropy, fullgraph=True, backend="aot_eager")
    with pytest.raises(ValueError, match=r"labels\[7\]"):
        compiled(hidden, weight, labels, bias)


def test_huge_labels_are_not_cut_to_32_bits() -> None:
    hidden, weight, labels, _ = problem()
    labels[0] = 2**32 + 1
    with pytest.raises(ValueError, match=r"labels\[0\] is 4294967297"):
        masked_linear_cross_entropy(hidden, weight, labels)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"hidden": torch.zeros(40, 6)}, "weight"),
        ({"hidden": torch.zeros(2, 20, 7)}, "hidden must have shape"),
        ({"hidden": torch.zeros(40, 7, dtype=torch.int64)}, "hidden must be"),
        ({"labels": torch.zeros(39, dtype=torch.int64)}, "labels must have shape"),
        ({"labels": torch.zeros(40)}, "labels must be int32 or int64"),
        ({"labels": torch.zeros(40, 1, dtype=torch.int64)}, "labels must have shape"),
        ({"bias": torch.zeros(22)}, "bias must have shape"),
        ({"bias": 0.0}, "bias must be a tensor or None"),
        ({"weight": None}, "weight must be a tensor"),
        ({"reduction": "average"}, "reduction must be one of mean, sum, none"),
        ({"ignore_index": 1.5}, "ignore_index must be an int"),
    ],
)
def test_bad_arguments(change, text: str) -> None:
    hidden, weight, labels, bias = problem(dtype=torch.float32)
    given = {"hidden": hidden, "weight": weight, "labels": labels, "bias": bias, **change}
    with pytest.raises((ValueError, TypeError), match=text) as caught:
        masked_linear_cross_entropy(**given)
    assert "\n" not in str(caught.value)


def test_sharded_weight() -> None:
    """FSDP2 leaves DTensors outside its module's forward; their rows are only partly here."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_tensor
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        hidden, weight, labels, bias = problem(v=24)
        sharded = distribute_tensor(weight.detach(), init_device_mesh("cpu", (2,)))
        with pytest.raises(TypeError, match=r"weight is a DTensor .*full_tensor\(\)"):
            masked_linear_cross_entropy(hidden, sharded, labels, bias)
    finally:
        torch.distributed.destroy_process_group()


# -- torch's machinery ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradcheck(reduction: str) -> None:
    hidden, weight, labels, bias = problem(t=9, v=6, d=3)
    torch.autograd.gradcheck(
        lambda h, w, b: masked_linear_cross_entropy(h, w, labels, b, reduction=reduction),
        (hidden, weight, bias),
    )


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_differentiable_once(reduction: str) -> None:
    hidden, weight, labels, bias = problem()
    loss = masked_linear_cross_entropy(hidden, weight, labels, bias, reduction=reduction)
    plain = torch.autograd.grad(loss.sum(), [hidden, weight, bias], retain_graph=True)
    kept = torch.autograd.grad(loss.pow(1).sum(), [hidden, weight, bias], create_graph=True)
    for left, right in zip(plain, kept, strict=True):
        assert torch.equal(left, right.detach())
    with pytest.raises(RuntimeError, match="differentiable once"):
        kept[0].square().sum().backward()
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(hidden.detach(), torch.ones_like(hidden))
        with pytest.raises((RuntimeError, NotImplementedError)):
            masked_linear_cross_entropy(dual, weight, labels, bias, reduction=reduction)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiled(reduction: str) -> None:
    torch._dynamo.reset()
    hidden, weight, labels, bias = problem(dtype=torch.float32)
    compiled = torch.compile(masked_linear_cross_entropy, fullgraph=True, backend="aot_eager", dynamic=True)
    for rows in (40, 33, 21):
        ours = [
            function(hidden[:rows], weight, labels[:rows], bias, reduction=reduction).sum()
            for function in (compiled, masked_linear_cross_entropy)
        ]
        assert torch.equal(ours[0], ours[1])
        for left, right in zip(*(gradients(loss, hidden, weight, bias) for loss in ours), strict=True):
            assert_close(left, right, 1e-7)


class Head(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(7, 23)

    def forward(self, hidden: Tensor, labels: Tensor) -> Tensor:
        return masked_linear_cross_entropy(hidden, self.linear.weight, labels, self.linear.bias)


def test_exported_with_dynamic_shapes() -> None:
    hidden, _, labels, _ = problem(dtype=torch.float32)
    head, rows = Head(), torch.export.Dim("rows")
    with torch.no_grad():
        program = torch.export.export(head, (hidden.detach(), labels), dynamic_shapes=({0: rows}, {0: rows}))
        for size in (40, 7):
            found = program.run_decompositions().module()(hidden[:size].detach(), labels[:size])
            assert torch.equal(found, head(hidden[:size], labels[:size]))
