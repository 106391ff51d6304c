"""What every operator must do, as plain functions over an operator and its arguments.

test_contract.py runs them over every operator that the package declares, on every backend that can run here;
test_contract_catches.py shows on purposely broken operators that each of them catches its kind of fault.
"""

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sslkernels import _op, _problem

Args = tuple[Any, ...]
FLOATS = ("fp32", "fp64", "fp16", "bf16")
MOST_EMULATED = 10_000  # elements of all tensors: the emulated GPU runs one thread at a time
MOST_WHOLE = 500  # inputs of a whole numerical Jacobian, which costs two calls an input


# -- what is run --------------------------------------------------------------------------------------------


def lines(op: _op.Op) -> Iterator[str]:
    """The operator's problem lines; one that leaves the dtype open is run in every floating dtype."""
    keywords = inspect.signature(getattr(_problem.problems_of(op), op.name)).parameters
    for line in _problem.lines_of(op):
        if "dtype" in keywords and "dtype=" not in line:
            yield from (f"{line} dtype={dtype}" for dtype in FLOATS)
        else:
            yield line


def backends(op: _op.Op, device: str) -> list[str]:
    """The backends that have a kernel for this operator on this device, the reference left out."""
    key = "CUDA" if device == "cuda" else "CPU"
    names = ("cpu", "cuda", "triton", "cuda-emulated")
    return [name for name in names if op.kernel(name, key) is not None]


def serves(op: _op.Op, backend: str, line: str, args: Args) -> bool:
    """Whether the contract runs `backend` on this line.

    problems.LACKING has, by backend, words of the lines that it declares not to do; the emulated GPU lacks
    what CUDA lacks, and takes small inputs alone.
    """
    lacking = getattr(_problem.problems_of(op), "LACKING", {}).get(backend.removesuffix("-emulated"), ())
    if set(line.split()) & set(lacking):
        return False
    elements = sum(value.numel() for value in args if isinstance(value, Tensor))
    return backend != "cuda-emulated" or elements <= MOST_EMULATED


def optional_sets(op: _op.Op, candidates: list[tuple[str, Args]]) -> list[tuple[str, Args]]:
    """One candidate for each set of optional arguments that is given."""
    chosen: dict[tuple[bool, ...], tuple[str, Args]] = {}
    for line, args in candidates:
        chosen.setdefault(tuple(value is None for value in args), (line, args))
    return list(chosen.values())


# -- results ------------------------------------------------------------------------------------------------


def assert_parity(op: _op.Op, args: Args, backend: str) -> None:
    """Integers: the reference's bits. Floats: at most twice the error of eager torch, plus one ulp."""
    off = [difference for difference in _problem.compare(op, args, backend) if not difference.ok]
    assert not off, f"differs from the reference: {off}"


def assert_same_bits(left: dict[str, Any], right: dict[str, Any], what: str) -> None:
    for name, value in left.items():
        same = value is right[name] if not isinstance(value, Tensor) else _bits_equal(value, right[name])
        assert same, f"{name}: {what}"


def _bits_equal(left: Tensor, right: Tensor) -> bool:
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    if left.is_floating_point():
        view = {2: torch.int16, 4: torch.int32, 8: torch.int64}[left.element_size()]
        left, right = left.contiguous().view(view), right.contiguous().view(view)
    return torch.equal(left, right)


def simulated(args: Args, backend: str) -> bool:
    """Whether the kernels are interpreted or emulated here: slow, and one operation after another."""
    on_gpu = any(isinstance(value, Tensor) and value.is_cuda for value in args)
    return backend == "cuda-emulated" or (backend == "triton" and not on_gpu)


def assert_bits(op: _op.Op, args: Args, backend: str) -> None:
    """The inputs stay as they are, and every run gives the same bits: on other memory, by other threads.

    Simulated kernels know no threads, and their run on other memory is the second one.
    """
    expected = assert_leaves_inputs(op, args, backend)
    if not simulated(args, backend):
        assert_repeatable(op, args, backend, expected)
    assert_initialised(op, args, backend, expected)


def assert_leaves_inputs(op: _op.Op, args: Args, backend: str) -> dict[str, Any]:
    """Returns the results."""
    copies = [value.clone() if isinstance(value, Tensor) else value for value in args]
    found = _problem.run(op, args, backend)
    for name, value, copy in zip(op.arguments, args, copies, strict=True):
        assert not isinstance(value, Tensor) or _bits_equal(value, copy), f"{name} was modified"
    return found


def assert_repeatable(op: _op.Op, args: Args, backend: str, expected: dict[str, Any]) -> None:
    """Another run gives the bits of the first; integer results also with another number of threads."""
    assert_same_bits(expected, _problem.run(op, args, backend), "two runs differ")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        other = _problem.run(op, args, backend)
    finally:
        torch.set_num_threads(threads)
    integers = {n: v for n, v in expected.items() if isinstance(v, Tensor) and not v.is_floating_point()}
    assert_same_bits(integers, other, "depends on the number of threads")


def assert_initialised(op: _op.Op, args: Args, backend: str, expected: dict[str, Any]) -> None:
    """No result holds memory that the kernel did not write: allocations come filled with NaN."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    filling = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        poisoned = _problem.run(op, args, backend)
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = filling
    assert_same_bits(expected, poisoned, "two runs differ: it depends on uninitialised memory, or on chance")


def strided(value: Any) -> Any:
    """The same values behind other strides: every second entry of a tensor twice as wide."""
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    filler = torch.zeros_like(value) if value.dtype == torch.bool else value + 1
    return torch.stack([value, filler], dim=-1)[..., 0]


def transposed(value: Any) -> Any:
    """The same values stored column by column, where there are two dimensions or more."""
    if not isinstance(value, Tensor) or value.dim() < 2:
        return value
    return value.transpose(-1, -2).contiguous().transpose(-1, -2)


def strided_columns(value: Any) -> Any:
    """Both at once, where there are two dimensions or more."""
    if not isinstance(value, Tensor) or value.dim() < 2:
        return strided(value)
    return strided(value.transpose(-1, -2)).transpose(-1, -2)


def assert_any_strides(op: _op.Op, args: Args, backend: str) -> None:
    expected = _problem.run(op, tuple(v.contiguous() if isinstance(v, Tensor) else v for v in args), backend)
    for change in (strided_columns,) if simulated(args, backend) else (strided, transposed):
        found = _problem.run(op, tuple(map(change, args)), backend)
        assert_same_bits(expected, found, f"differs for {change.__name__} inputs")


# -- gradients ----------------------------------------------------------------------------------------------


def _leaves(op: _op.Op, args: Args) -> list[Tensor]:
    places = [at for at, name in enumerate(op.arguments) if name in op.gradients and args[at] is not None]
    return [args[at].detach().clone().requires_grad_() for at in places]


def _with_leaves(op: _op.Op, args: Args, leaves: tuple[Tensor, ...]) -> Args:
    remaining = iter(leaves)
    return tuple(
        next(remaining) if name in op.gradients and value is not None else value
        for name, value in zip(op.arguments, args, strict=True)
    )


def _differentiable_results(op: _op.Op, args: Args) -> tuple[Tensor, ...]:
    results = zip(op.results, _op._as_tuple(op(*args)), strict=True)
    assert op.backward is not None
    return tuple(value for name, value in results if f"grad_{name}" in op.backward.arguments)


def assert_gradient(op: _op.Op, args: Args, backend: str) -> None:
    """Numerical against analytical gradients, in float64; and each gradient alone is the one among all.

    Of many inputs, or where kernels are simulated, one random projection of the Jacobian is taken;
    assert_parity compares single elements.
    """
    leaves = _leaves(op, args)
    with _op.use(backend):
        torch.autograd.gradcheck(
            lambda *leaves: _differentiable_results(op, _with_leaves(op, args, leaves)),
            leaves,
            fast_mode=simulated(args, backend) or sum(leaf.numel() for leaf in leaves) > MOST_WHOLE,
        )
        together = _gradients(op, args, ...)
        for at, gradient in enumerate(together):
            assert _bits_equal(_gradients(op, args, at)[0], gradient), (
                "depends on which gradients are asked for"
            )


def _gradients(op: _op.Op, args: Args, which: Any) -> tuple[Tensor, ...]:
    leaves = _leaves(op, args)
    asked = leaves if which is ... else [leaves[which]]
    for leaf in leaves:
        leaf.requires_grad_(any(leaf is one for one in asked))
    results = _differentiable_results(op, _with_leaves(op, args, tuple(leaves)))
    return torch.autograd.grad(results, asked, [torch.ones_like(result) for result in results])


def assert_differentiable_once(op: _op.Op, args: Args) -> None:
    """Double backward and forward mode raise: they are never a silent zero."""
    leaves = _leaves(op, args)
    results = _differentiable_results(op, _with_leaves(op, args, tuple(leaves)))
    gradients = torch.autograd.grad([r.pow(2).sum() for r in results], leaves, create_graph=True)
    _assert_raises(
        RuntimeError, "differentiable once", lambda: torch.autograd.grad([g.sum() for g in gradients], leaves)
    )
    with torch.autograd.forward_ad.dual_level():
        duals = [torch.autograd.forward_ad.make_dual(leaf.detach(), torch.ones_like(leaf)) for leaf in leaves]
        _assert_raises(
            (NotImplementedError, RuntimeError), "", lambda: op(*_with_leaves(op, args, tuple(duals)))
        )


def _assert_raises(kinds: Any, text: str, call: Any) -> None:
    try:
        call()
    except kinds as error:
        if text in str(error):
            return
        raise AssertionError(f"the message does not say {text!r}: {error}") from error
    raise AssertionError(f"nothing was raised, expected {kinds}")


# -- torch's own machinery ----------------------------------------------------------------------------------


def assert_opcheck(op: _op.Op, args: Args) -> None:
    tracked = args if op.backward is None else _with_leaves(op, args, tuple(_leaves(op, args)))
    torch.library.opcheck(op.overload, tracked)


class _Call(torch.nn.Module):
    """An operator as a module over its tensor arguments; the others are constants."""

    def __init__(self, op: _op.Op, args: Args) -> None:
        super().__init__()
        self.op, self.constants = op, args
        self.places = [at for at, value in enumerate(args) if isinstance(value, Tensor)]

    def forward(self, *tensors: Tensor) -> Any:
        args = list(self.constants)
        for at, tensor in zip(self.places, tensors, strict=True):
            args[at] = tensor
        return tuple(value for value in _op._as_tuple(self.op(*args)) if value is not None)


def _tensors(args: Args) -> tuple[Tensor, ...]:
    return tuple(value for value in args if isinstance(value, Tensor))


def assert_compiles(op: _op.Op, args: Args) -> None:
    torch._dynamo.reset()
    call = _Call(op, args)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for expected, found in zip(call(*_tensors(args)), compiled(*_tensors(args)), strict=True):
        assert _bits_equal(expected, found), "differs when compiled"


def assert_exports(op: _op.Op, args: Args) -> None:
    tensors = _tensors(args)
    dynamic = [dict.fromkeys(range(tensor.dim()), torch.export.Dim.AUTO) for tensor in tensors]
    program = torch.export.export(_Call(op, args), tensors, dynamic_shapes=(tuple(dynamic),))
    expected = _Call(op, args)(*tensors)
    for left, right in zip(expected, program.run_decompositions().module()(*tensors), strict=True):
        assert _bits_equal(left, right), "differs when exported"


# -- bad inputs ---------------------------------------------------------------------------------------------


def wrong_arguments(op: _op.Op, args: Args) -> Iterator[tuple[str, Args]]:
    """Arguments with one tensor of a wrong number of dimensions, a wrong size, dtype or type."""
    index = {name: at for at, name in enumerate(op.arguments)}
    for entry in op.shapes.entries:
        at, value = index[entry.name], args[index[entry.name]]
        if not isinstance(value, Tensor):
            continue
        changed: list[Any] = ["text"]
        if not entry.leading:
            changed.append(value[(None,) * 4])
        if entry.kind != "any":
            changed.append(value.to(torch.complex64))
        shared = [
            name
            for other in op.shapes.entries
            for name in {dimension.symbol for shape in other.shapes for dimension in shape}
            if other.name != entry.name and args[index[other.name]] is not None
        ]
        if len(entry.shapes) == 1 and entry.shapes[0] and entry.shapes[0][-1].symbol in shared:
            changed.append(
                torch.cat([value, value[..., :1]], dim=-1) if value.shape[-1] else value.new_zeros(9)
            )
        for bad in changed:
            yield entry.name, (*args[:at], bad, *args[at + 1 :])


def wrong_numbers(op: _op.Op, args: Args) -> Iterator[tuple[str, Args]]:
    """Arguments with one number, flag or word of a wrong type."""
    for at, kind in zip(op._plain, op._kinds, strict=True):
        wrong = {str: (3, None), float: ("text", None, True)}.get(kind, ("text", None, 1.5, torch.ones(2)))
        for bad in wrong:
            yield op.arguments[at], (*args[:at], bad, *args[at + 1 :])


def assert_refuses(op: _op.Op, args: Args) -> None:
    """Wrong shapes, dtypes and types: one line that names the argument, before any kernel runs."""
    names = {entry.name for entry in op.shapes.entries}
    for name, bad in wrong_arguments(op, args):
        _assert_refused(op, name, bad, names)
    for name, bad in wrong_numbers(op, args):
        _assert_refused(op, name, bad, {name})


def _assert_refused(op: _op.Op, name: str, bad: Args, names: set[str]) -> None:
    """`names`: those the message may speak of, because a wrong size shows at either of two arguments."""
    try:
        op(*bad)
    except Exception as error:
        text = str(error)
        if not isinstance(error, ValueError | TypeError):
            raise AssertionError(f"a wrong {name} raises {type(error).__name__}: {text}") from error
        if "\n" in text or not any(known in text for known in names):
            raise AssertionError(f"a wrong {name}: not one line naming an argument: {text}") from error
    else:
        raise AssertionError(f"a wrong {name} was accepted")


def pairs(ops: list[_op.Op], devices: list[str]) -> Iterator[tuple[_op.Op, str, str, str]]:
    """(operator, line, device, backend) for everything that can run here."""
    for op, device in itertools.product(ops, devices):
        found = backends(op, device)
        for line in lines(op):
            args = _problem.inputs(line)[1] if "cuda-emulated" in found else ()
            wanted = [backend for backend in found if serves(op, backend, line, args)]
            yield from ((op, line, device, backend) for backend in wanted)
