"""gather_visible and scatter_visible: selection, gradients, NaN behind the mask, indices out of range."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

import sslkernels
from sslkernels.masking import gather_visible, patch_mask, scatter_visible

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
NAN = float("nan")


@pytest.fixture(autouse=True, params=["cpu", "reference"])
def backend(request: pytest.FixtureRequest):
    with sslkernels.use(request.param):
        yield request.param


def randn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.to(dtype)


# -- selection -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ids", [torch.int64, torch.int32])
def test_is_what_mae_gathers(dtype: torch.dtype, ids: torch.dtype) -> None:
    """The released method: gather by an expanded index, append mask tokens, gather by ids_restore."""
    x, fill = randn(4, 12, 5, dtype=dtype), randn(5, dtype=dtype, seed=1)
    made = patch_mask(4, (3, 4), 0.75, seed=2)
    keep, restore = made.keep[:, 0], made.restore[:, 0]
    visible = gather_visible(x, keep.to(ids))
    assert torch.equal(visible, x.gather(1, keep[:, :, None].expand(-1, -1, 5)))
    padded = torch.cat([visible, fill.expand(4, 9, 5)], 1)
    expected = padded.gather(1, restore[:, :, None].expand(-1, -1, 5))
    out = scatter_visible(visible, restore.to(ids), fill)
    assert torch.equal(out, expected)
    assert torch.equal(out, torch.where(made.mask[:, 0, :, None], fill, x))


def test_views() -> None:
    x, fill = randn(3, 12, 4), randn(4, seed=1)
    made = patch_mask(3, (3, 4), 0.5, views=2, disjoint=True, seed=2)
    visible = gather_visible(x, made.keep)
    assert visible.shape == (3, 2, 6, 4)
    out = scatter_visible(visible, made.restore, fill)
    assert out.shape == (3, 2, 12, 4)
    for view in range(2):
        alone = gather_visible(x, made.keep[:, view])
        assert torch.equal(visible[:, view], alone)
        assert torch.equal(out[:, view], scatter_visible(alone, made.restore[:, view], fill))


@pytest.mark.parametrize(
    ("batch", "cells", "kept", "width"), [(0, 4, 2, 3), (2, 4, 0, 3), (2, 0, 0, 3), (2, 4, 2, 0)]
)
def test_empty(batch: int, cells: int, kept: int, width: int) -> None:
    x = randn(batch, cells, width).requires_grad_()
    keep = torch.arange(kept).expand(batch, kept)
    visible = gather_visible(x, keep)
    assert visible.shape == (batch, kept, width)
    fill = torch.zeros(width, requires_grad=True)
    out = scatter_visible(visible, torch.arange(cells).expand(batch, cells), fill)
    assert out.shape == (batch, cells, width)
    out.sum().backward()
    assert x.grad is not None
    assert fill.grad is not None
    assert torch.equal(fill.grad, torch.full((width,), float(batch * (cells - kept))))


def test_inputs_are_not_modified_and_may_have_any_strides() -> None:
    x, keep = randn(5, 3, 8).transpose(1, 2), torch.tensor([[3, 3, 0]] * 6)[::2].expand(3, 3)
    x = x[:3]
    before = x.clone()
    assert torch.equal(gather_visible(x, keep), x.gather(1, keep[:, :, None].expand(-1, -1, 3)))
    assert torch.equal(x, before)


# -- what lies behind the mask -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_behind_the_mask_never_shows(dtype: torch.dtype) -> None:
    """WeatherGenerator #2717: a mask that multiplies turns NaN at hidden cells into NaN everywhere."""
    made = patch_mask(3, (4, 4), 0.5, views=2, seed=1)
    x = randn(3, 16, 6, dtype=dtype)
    hidden = made.mask.all(1)  # in both views
    x[hidden] = NAN
    x.requires_grad_()
    visible = gather_visible(x, made.keep)
    assert visible.isfinite().all()
    visible.float().pow(2).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (x.grad[hidden] == 0).all()
    assert not x.grad[hidden].signbit().any()


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_a_bad_gradient_stays_where_it_belongs(value: float) -> None:
    """An upstream NaN at a hidden cell reaches the fill alone, one at a visible cell that cell alone."""
    made = patch_mask(2, (2, 3), 0.5, seed=3)
    visible, fill = randn(2, 3, 2).requires_grad_(), randn(2).requires_grad_()
    grad = torch.ones(2, 6, 2)
    grad[0][made.mask[0, 0]] = value
    out = scatter_visible(visible, made.restore[:, 0], fill)
    grads = torch.autograd.grad(out, (visible, fill), grad)
    assert torch.equal(grads[0], torch.ones(2, 3, 2))
    assert not grads[1].isfinite().any()
    grad = torch.ones(2, 6, 2)
    grad[0][~made.mask[0, 0]] = value
    out = scatter_visible(visible, made.restore[:, 0], fill)
    grads = torch.autograd.grad(out, (visible, fill), grad)
    assert torch.equal(grads[1], torch.full((2,), 6.0))
    assert not grads[0][0].isfinite().any()
    assert torch.equal(grads[0][1], torch.ones(3, 2))


def test_bad_values_where_nobody_looks() -> None:
    """NaN in a visible row that `restore` never names, and in a fill without hidden cells."""
    visible = torch.full((1, 2, 2), NAN)
    visible[0, 0] = 1
    out = scatter_visible(visible, torch.tensor([[0, 2, 2]]), torch.zeros(2))
    assert out.isfinite().all()
    everything = scatter_visible(torch.ones(1, 2, 2), torch.tensor([[1, 0]]), torch.full((2,), NAN))
    assert torch.equal(everything, torch.ones(1, 2, 2))


# -- gradients -----------------------------------------------------------------------------------------------


def test_repeats_and_views_add_up_in_order() -> None:
    """2^24 + 1 + 1 in float32 depends on the order: the first place comes first."""
    x = torch.zeros(1, 2, 1, requires_grad=True)
    keep = torch.tensor([[[0, 1], [0, 0]]])
    grad = torch.tensor([2.0**24, 5.0, 1.0, 1.0]).reshape(1, 2, 2, 1)
    (found,) = torch.autograd.grad(gather_visible(x, keep), x, grad)
    assert found.flatten().tolist() == [2.0**24, 5.0]
    (found,) = torch.autograd.grad(gather_visible(x, keep.flip(1)), x, grad.flip(1))
    assert found.flatten().tolist() == [2.0**24 + 2, 5.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_of_16_bit_gradients_have_32_bits(dtype: torch.dtype) -> None:
    x = torch.zeros(1, 1, 1, dtype=dtype, requires_grad=True)
    ones = torch.ones(1, 3000, 1, dtype=dtype)
    (found,) = torch.autograd.grad(gather_visible(x, torch.zeros(1, 3000, dtype=torch.int64)), x, ones)
    assert found.item() == torch.tensor(3000.0).to(dtype).item()
    fill = torch.zeros(1, dtype=dtype, requires_grad=True)
    out = scatter_visible(ones[:, :0], torch.arange(3000).expand(1, 3000), fill)
    (found,) = torch.autograd.grad(out, fill, ones)
    assert found.item() == torch.tensor(3000.0).to(dtype).item()


def test_gradients_do_not_depend_on_threads(backend: str) -> None:
    if backend != "cpu":
        pytest.skip("torch's own sums may")
    made = patch_mask(40, (8, 8), 0.75, views=3, seed=1)
    x, fill = randn(40, 64, 33).requires_grad_(), randn(33).requires_grad_()
    grad = randn(40, 3, 64, 33, seed=2)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        out = scatter_visible(gather_visible(x, made.keep), made.restore, fill)
        results.append(torch.autograd.grad(out, (x, fill), grad))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_gradient_of_the_whole() -> None:
    made = patch_mask(2, (2, 3), 0.5, views=2, seed=3)
    x, fill = randn(2, 6, 2, dtype=torch.float64), randn(2, dtype=torch.float64)

    def whole(x: Tensor, fill: Tensor) -> Tensor:
        return scatter_visible(gather_visible(x, made.keep), made.restore, fill)

    assert torch.autograd.gradcheck(whole, (x.requires_grad_(), fill.requires_grad_()))


def test_only_what_is_asked_for() -> None:
    made = patch_mask(2, (2, 3), 0.5, seed=3)
    visible, fill = randn(2, 3, 4), randn(4).requires_grad_()
    scatter_visible(visible, made.restore[:, 0], fill).sum().backward()
    assert torch.equal(fill.grad, torch.full((4,), 6.0))
    visible.requires_grad_()
    scatter_visible(visible, made.restore[:, 0], fill.detach()).sum().backward()
    assert torch.equal(visible.grad, torch.ones(2, 3, 4))


def test_second_derivatives_and_forward_mode_are_errors() -> None:
    x = randn(1, 4, 2).requires_grad_()
    keep = torch.tensor([[1, 3]])
    for make in (
        lambda: gather_visible(x, keep),
        lambda: scatter_visible(x, torch.tensor([[3, 2, 1, 0]]), torch.zeros(2)),
    ):
        (grad,) = torch.autograd.grad(make().pow(2).sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="differentiable once"):
            grad.pow(2).sum().backward()
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.func.jvp(lambda y: gather_visible(y, keep), (x.detach(),), (torch.ones_like(x),))


# -- bad inputs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [-1, 4, -(2**31), 2**31 - 1, 2**40, -(2**63), 2**63 - 1])
def test_indices_out_of_range_are_named(bad: int) -> None:
    x, fill = randn(2, 4, 3), torch.zeros(3)
    for ids in (torch.int64, torch.int32):
        if ids == torch.int32 and not -(2**31) <= bad < 2**31:
            continue
        keep = torch.tensor([[0, 1], [2, bad]], dtype=ids)
        with pytest.raises(ValueError, match=rf"keep\[1, 1\] is {bad}, outside \[0, 4\)"):
            gather_visible(x, keep)
        with pytest.raises(ValueError, match=rf"keep\[1, 0, 1\] is {bad}, outside \[0, 4\)"):
            gather_visible(x, keep[:, None])
        restore = torch.tensor([[0, 1, 2, 3], [0, bad, 2, 3]], dtype=ids)
        with pytest.raises(ValueError, match=rf"restore\[1, 1\] is {bad}, outside \[0, 4\)"):
            scatter_visible(x, restore, fill)
        with pytest.raises(ValueError, match="restore"):
            scatter_visible(x[:, None], restore[:, None], fill)
        with pytest.raises(ValueError, match="keep"):
            torch.ops.sslkernels.gather_visible_backward(randn(2, 2, 3), keep, 4, [True])
        with pytest.raises(ValueError, match="restore"):
            torch.ops.sslkernels.scatter_visible_backward(x, restore, 2, [True, True])


def test_shapes_and_dtypes_are_named() -> None:
    x, keep, restore, fill = (
        randn(2, 4, 3),
        torch.zeros(2, 2).long(),
        torch.zeros(2, 4).long(),
        torch.zeros(3),
    )
    visible = randn(2, 2, 3)
    calls = [
        (gather_visible, (x[0], keep), "x"),
        (gather_visible, (x, keep[0]), "keep"),
        (gather_visible, (x, keep[:1]), "keep"),
        (gather_visible, (x, keep.float()), "keep"),
        (gather_visible, (x, keep.bool()), "keep"),
        (gather_visible, (x.long(), keep), "x"),
        (scatter_visible, (visible[0], restore, fill), "visible"),
        (scatter_visible, (visible, restore[:1], fill), "restore"),
        (scatter_visible, (visible, restore[:, None], fill), "restore"),
        (scatter_visible, (visible[:, None], restore, fill), "restore"),
        (scatter_visible, (visible, restore[:, :1], fill), "visible"),  # K = 2 of N = 1
        (scatter_visible, (visible, restore, fill[:2]), "fill"),
        (scatter_visible, (visible, restore, fill.double()), "fill"),
        (scatter_visible, (visible, restore.float(), fill), "restore"),
    ]
    for function, arguments, name in calls:
        with pytest.raises(ValueError, match=name) as caught:
            function(*arguments)
        assert "\n" not in str(caught.value)
    for function, arguments, name in (
        (gather_visible, (None, keep), "x"),
        (gather_visible, (x, [0]), "keep"),
        (scatter_visible, (None, restore, fill), "visible"),
        (scatter_visible, (visible, None, fill), "restore"),
        (scatter_visible, (visible, restore, 0.0), "fill"),
    ):
        with pytest.raises(TypeError, match=name):
            function(*arguments)


def test_sizes_of_the_operators_are_checked() -> None:
    """Called by themselves, past the checks of the functions."""
    ops, x, keep = torch.ops.sslkernels, randn(2, 4, 3), torch.zeros(2, 2).long()
    restore = torch.zeros(2, 4).long()
    for call in (
        lambda: ops.gather_visible(x, keep, 5),
        lambda: ops.gather_visible(x, keep, -1),
        lambda: ops.scatter_visible(x, restore, torch.zeros(3), 5),
        lambda: ops.scatter_visible_backward(x, restore, 5, [True, True]),
        lambda: ops.scatter_visible_backward(x, restore, -1, [True, True]),
        lambda: ops.gather_visible_backward(randn(2, 3, 3), keep, 4, [True]),
        lambda: ops.gather_visible_backward(randn(2, 2, 3), keep, -4, [True]),
    ):
        with pytest.raises(ValueError, match="cells|keep|visible|kept|restore"):
            call()


def test_a_gpu_skips_what_is_out_of_range(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There values are not looked at first: nothing outside is read or written."""
    pytest.importorskip("triton")
    if backend != "cpu" or torch.cuda.is_available():
        pytest.skip("runs once, under the interpreter")
    from sslkernels.masking.patches import triton_kernels

    monkeypatch.setattr(triton_kernels, "values_are_checked", lambda tensor: False)
    x, fill = randn(2, 4, 3).requires_grad_(), randn(3, seed=1).requires_grad_()
    keep = torch.tensor([[1, -1, 4], [2**62, 3, -(2**63)]])
    with sslkernels.use("triton"):
        visible = gather_visible(x, keep)
        (grad,) = torch.autograd.grad(visible, x, torch.ones_like(visible))
        out = scatter_visible(x, torch.tensor([[1, -1, 2**62, 0], [3, 2, -(2**63), 1]]), fill)
    assert torch.equal(visible[0], torch.stack([x[0, 1], torch.zeros(3), torch.zeros(3)]))
    assert torch.equal(visible[1], torch.stack([torch.zeros(3), x[1, 3], torch.zeros(3)]))
    assert grad.sum(-1).tolist() == [[0, 3, 0, 0], [0, 0, 0, 3]]
    assert torch.equal(out[0], torch.stack([x[0, 1], fill, fill, x[0, 0]]))
    assert torch.equal(out[1], torch.stack([x[1, 3], x[1, 2], fill, x[1, 1]]))


# -- compiled ------------------------------------------------------------------------------------------------


def test_compiles_with_gradients_and_checks_values(backend: str) -> None:
    if backend != "cpu":
        pytest.skip("a traced reference does not look at values")
    torch._dynamo.reset()

    @torch.compile(fullgraph=True, backend="aot_eager", dynamic=True)
    def autoencode(x: Tensor, keep: Tensor, restore: Tensor, fill: Tensor) -> Tensor:
        return scatter_visible(gather_visible(x, keep) * 2, restore, fill)

    for batch in (2, 3, 5):
        made = patch_mask(batch, (3, 4), 0.75, views=2, seed=batch)
        x, fill = randn(batch, 12, 4).requires_grad_(), randn(4, seed=1).requires_grad_()
        found = autoencode(x, made.keep, made.restore, fill)
        expected = scatter_visible(gather_visible(x, made.keep) * 2, made.restore, fill)
        assert torch.equal(found, expected)
        pairs = zip(
            torch.autograd.grad(found.pow(2).sum(), (x, fill)),
            torch.autograd.grad(expected.pow(2).sum(), (x, fill)),
            strict=True,
        )
        assert all(torch.equal(a, b) for a, b in pairs)
    with pytest.raises(ValueError, match="keep"):
        autoencode(x, made.keep + 12, made.restore, fill)


def test_first_call_of_a_process_is_compiled() -> None:
    script = (
        "import torch\n"
        "from sslkernels.masking import PatchMask, gather_visible, patch_mask\n"
        "f = torch.compile(lambda x: gather_visible(x, patch_mask(2, (4, 4), 0.5, seed=1).keep),"
        " fullgraph=True, backend='aot_eager')\n"
        "assert f(torch.ones(2, 16, 3)).shape == (2, 1, 8, 3)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-1000:]


def test_exports_with_every_size_dynamic() -> None:
    class Rows(torch.nn.Module):
        def forward(self, x: Tensor, keep: Tensor, restore: Tensor, fill: Tensor) -> Tensor:
            return scatter_visible(gather_visible(x, keep), restore, fill)

    def inputs(batch: int, cells: int, kept: int, width: int) -> tuple[Tensor, ...]:
        keep = (torch.arange(kept) % cells).repeat(batch, 1)
        return torch.randn(batch, cells, width), keep, torch.arange(cells).repeat(batch, 1), torch.ones(width)

    b, n, k, d = map(torch.export.Dim, "BNKD")
    sizes = ({0: b, 1: n, 2: d}, {0: b, 1: k}, {0: b, 1: n}, {0: d})
    exported = torch.export.export(Rows(), inputs(2, 6, 3, 4), dynamic_shapes=sizes).module()
    for shape in ((2, 6, 3, 4), (5, 9, 9, 3), (3, 4, 2, 7)):
        given = inputs(*shape)
        assert torch.equal(exported(*given), Rows()(*given))
    with pytest.raises(ValueError, match="visible must have at most N=6 patches, got 7"):
        exported(*inputs(2, 6, 7, 4))
