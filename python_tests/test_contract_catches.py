"""Purposely broken operators: each check of the contract catches the kind of fault it is there for."""

import itertools
from collections.abc import Callable
from typing import Any

import contract
import pytest
import torch
from torch import Tensor

from sslkernels import _op

NAMESPACE = "sslkernels_broken"
_numbers = itertools.count()
_libraries: list[torch.library.Library] = []  # a kernel lives as long as its library


def good(x: Tensor, weight: Tensor | None, ids: Tensor) -> tuple[Tensor, Tensor]:
    """out = 3 x (plus weight), rank = 2 ids."""
    return (x * 3 if weight is None else x * 3 + weight), ids * 2


def good_backward(grad_out: Tensor, weight: Tensor | None, needs: list[bool]) -> tuple[Any, Any]:
    return grad_out * 3 if needs[0] else None, grad_out.sum(0) if needs[1] else None


SHAPES = "x: N D; weight: D?; ids: N int"


def declare(
    kernel: Any = good, backward: Any = good_backward, shapes: str = SHAPES, fake: Any = good
) -> _op.Op:
    """An operator whose reference is right, and whose CPU kernels are the ones given."""
    name = f"op{next(_numbers)}"
    library = torch.library.Library(NAMESPACE, "IMPL")
    _libraries.append(library)
    library.impl(name, lambda *args: kernel(*args), "CPU")
    library.impl(f"{name}_backward", lambda *args: backward(*args), "CPU")
    gradient = _op.Op(
        f"{name}_backward(Tensor grad_out, Tensor? weight, bool[] needs)"
        " -> (Tensor? grad_x, Tensor? grad_weight)",
        shapes="grad_out: N D; weight: D?",
        reference=good_backward,
        namespace=NAMESPACE,
    )
    return _op.Op(
        f"{name}(Tensor x, Tensor? weight, Tensor ids) -> (Tensor out, Tensor rank)",
        shapes=shapes,
        reference=good,
        fake=fake,
        backward=gradient,
        gradients=("x", "weight"),
        namespace=NAMESPACE,
    )


def arguments(dtype: torch.dtype = torch.float64, rows: int = 300) -> contract.Args:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 5, generator=generator, dtype=torch.float64)
    return x.to(dtype), torch.randn(5, generator=generator, dtype=torch.float64).to(dtype), torch.arange(rows)


def everything(op: _op.Op, dtype: torch.dtype = torch.float64) -> None:
    """The whole contract on one operator."""
    args = arguments(dtype)
    for check in (contract.assert_parity, contract.assert_bits, contract.assert_any_strides):
        check(op, args, "cpu")
    contract.assert_gradient(op, arguments(), "cpu")
    contract.assert_differentiable_once(op, arguments())
    contract.assert_opcheck(op, args)
    contract.assert_compiles(op, args)
    contract.assert_exports(op, args)
    contract.assert_refuses(op, args)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_right_operator_passes(dtype: torch.dtype) -> None:
    everything(declare(), dtype)


def slightly_off(x: Tensor, weight: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    return good(x * (1 + 4 * torch.finfo(x.dtype).eps), weight, ids)


def wrong_bit(x: Tensor, weight: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    return good(x, weight, ids)[0], ids * 2 + (ids == 17).long()


def hides_nan(x: Tensor, weight: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    return good(x.nan_to_num(), weight, ids)


def random_result(x: Tensor, weight: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    out, rank = good(x, weight, ids)
    return out + torch.rand_like(out) * 1e-16, rank


def depends_on_threads(x: Tensor, weight: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    return good(x, weight, ids)[0], ids * 2 + torch.get_num_threads()


def leaves_a_hole(x: Tensor, weight: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    out, rank = torch.empty_like(x), torch.empty_like(ids)
    out[1:], rank[:] = good(x, weight, ids)[0][1:], ids * 2
    return out, rank


def writes_its_input(x: Tensor, weight: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    results = good(x, weight, ids)
    ids.add_(1)
    return results


def ignores_strides(x: Tensor, weight: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    return good(x.as_strided(x.shape, (x.shape[1], 1)), weight, ids)


@pytest.mark.parametrize(
    ("kernel", "check", "message"),
    [
        (slightly_off, contract.assert_parity, "differs from the reference"),
        (wrong_bit, contract.assert_parity, "rank"),
        (random_result, contract.assert_bits, "two runs differ"),
        (depends_on_threads, contract.assert_bits, "number of threads"),
        (leaves_a_hole, contract.assert_bits, "two runs differ"),
        (writes_its_input, contract.assert_bits, "ids was modified"),
        (ignores_strides, contract.assert_any_strides, "strided inputs"),
    ],
)
def test_wrong_kernels(kernel: Callable[..., Any], check: Callable[..., None], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check(declare(kernel), arguments(), "cpu")


def test_hidden_nan() -> None:
    args = arguments()
    args[0][7, 3] = float("nan")
    contract.assert_parity(declare(), args, "cpu")
    with pytest.raises(AssertionError, match="differs from the reference"):
        contract.assert_parity(declare(hides_nan), args, "cpu")


def half_a_gradient(grad_out: Tensor, weight: Tensor, needs: list[bool]) -> tuple[Any, Any]:
    gradients = good_backward(grad_out, weight, needs)
    return None if gradients[0] is None else gradients[0] * 0.5, gradients[1]


def no_gradient(grad_out: Tensor, weight: Tensor, needs: list[bool]) -> tuple[Any, Any]:
    return torch.zeros_like(grad_out), good_backward(grad_out, weight, needs)[1]


def mixed_up_needs(grad_out: Tensor, weight: Tensor, needs: list[bool]) -> tuple[Any, Any]:
    found = good_backward(grad_out, weight, [True, True])
    return found[0] if all(needs) else found[0] + 1, found[1]


def one_element_off(grad_out: Tensor, weight: Tensor, needs: list[bool]) -> tuple[Any, Any]:
    gradients = good_backward(grad_out, weight, needs)
    if gradients[0] is not None:
        gradients[0][7, 3] *= 0.99
    return gradients


@pytest.mark.parametrize("rows", [30, 300])
@pytest.mark.parametrize("backward", [half_a_gradient, no_gradient, mixed_up_needs])
def test_wrong_gradients(backward: Callable[..., Any], rows: int) -> None:
    """In the whole Jacobian of a few inputs, and in a projection of many."""
    assert (rows * 5 + 5 > contract.MOST_WHOLE) == (rows == 300)
    with pytest.raises((AssertionError, RuntimeError)):
        contract.assert_gradient(declare(backward=backward), arguments(rows=rows), "cpu")


def test_one_wrong_element_of_a_gradient() -> None:
    op = declare(backward=one_element_off)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        contract.assert_gradient(op, arguments(rows=30), "cpu")
    with pytest.raises(AssertionError, match="differs from the reference"):
        contract.assert_parity(op, arguments(), "cpu")


def test_silent_double_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(op: _op.Op) -> Callable[..., Any]:
        def kernel(*args: Any) -> Any:
            with torch._C._AutoDispatchBelowAutograd():
                return op.overload(*args)

        return kernel

    monkeypatch.setattr(_op, "_refusing_kernel", silent)
    with pytest.raises(AssertionError, match="does not say"):
        contract.assert_differentiable_once(declare(), arguments())


def wrong_fake(x: Tensor, weight: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], x.shape[1] + 1), ids.new_empty(ids.shape)


def looks_at_values(x: Tensor, weight: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    return good(x, weight, ids) if x.sum() > 0 else good(x, None, ids)


@pytest.mark.parametrize(
    ("fake", "check"),
    [
        (wrong_fake, contract.assert_opcheck),
        (looks_at_values, contract.assert_opcheck),
        (looks_at_values, contract.assert_compiles),
        (looks_at_values, contract.assert_exports),
    ],
)
def test_wrong_fake(fake: Callable[..., Any], check: Callable[..., None]) -> None:
    with pytest.raises(Exception, match=r"(?i)mismatch|shape|data-dependent|data dependent"):
        check(declare(fake=fake), arguments())


def test_shapes_that_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    op = declare()
    monkeypatch.setattr(op.shapes, "check", lambda values: None)
    with pytest.raises(AssertionError, match="a wrong x"):
        contract.assert_refuses(op, arguments())


def test_numbers_that_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def scale(x: Tensor, n: int) -> Tensor:
        return x * n

    name = f"op{next(_numbers)}"
    op = _op.Op(f"{name}(Tensor x, SymInt n) -> Tensor", shapes="x: N", reference=scale, namespace=NAMESPACE)
    contract.assert_refuses(op, (torch.ones(3), 2))
    monkeypatch.setattr(op, "_with_plain", lambda args: args)
    with pytest.raises(AssertionError, match="a wrong n"):
        contract.assert_refuses(op, (torch.ones(3), 2))


def test_shape_line_must_name_every_tensor() -> None:
    with pytest.raises(ValueError, match="ids"):
        declare(shapes="x: N D; weight: D?")


def test_operator_without_gradient_refuses() -> None:
    def scale(x: Tensor) -> Tensor:
        return x * 2

    op = _op.Op(
        f"op{next(_numbers)}(Tensor x) -> Tensor", shapes="x: N", reference=scale, namespace=NAMESPACE
    )
    out = op(torch.ones(3, requires_grad=True))
    with pytest.raises(RuntimeError, match="has no gradient"):
        out.sum().backward()
