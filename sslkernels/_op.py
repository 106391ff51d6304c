"""The one way to declare an operator.

PyTorch's dispatcher is the registry of backends and Python owns the schema. An `Op` holds

- the schema, whose argument names tie everything together;
- the shape line (`_shapes.py`): what is checked before any kernel runs;
- the reference in plain torch: the fallback on any device and the oracle of the tests;
- the fake kernel (shapes only), where the reference's control flow depends on data;
- the backward, an `Op` of its own. Its schema says what it needs *by name*: `grad_<output>`, inputs and
  outputs of the forward, and `needs` (bool[], one entry an argument in `gradients`); it returns one gradient
  (None where not needed) for each name in `gradients`. An output without a `grad_<output>` has no gradient.

Native kernels register themselves (csrc/<room>/<family>/cpu.cpp and cuda.cu, under the same name); Triton
kernels are the functions of the family's triton_kernels.py that carry the operator's name.
"""

import contextlib
import functools
import importlib
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sslkernels import _native, _scalars
from sslkernels._shapes import Shapes

OPS: dict[str, "Op"] = {}
BACKENDS = ("auto", "reference", "cpu", "cuda", "triton", "cuda-emulated")
_KEYS = {"CPU": "cpu", "CUDA": "cuda"}
_MOST_ACCEPTED = 1024  # ragged data has ever new sizes: what was accepted is forgotten past this many
_PLAIN = {"bool": bool, "int": int, "SymInt": int, "float": float, "str": str}
_CHECKS: dict[type, Callable[[str, Any], Any]] = {
    bool: _scalars.as_bool,
    int: _scalars.as_int,
    float: _scalars.as_float,
}
_TRACED = (torch.SymBool, torch.SymInt, torch.SymFloat)


class Op:
    """One operator: `op(*args)` checks shapes and dtypes, then calls it through the dispatcher.

    schema        "name(Tensor x, SymInt n, Tensor? bias) -> (Tensor out, Tensor lse)"; results are named
    shapes        the shape line; every tensor argument of the schema is in it
    reference     plain torch over the schema's arguments; holds no checks of values (they cannot be traced)
    fake          shapes and dtypes of the results; None: the reference is its own fake kernel
    backward      the Op of the gradients; gradients: the names of the inputs that have one
    check         value checks that an eager call of the reference makes before it runs
    triton        whether the family's triton_kernels.py serves this operator
    exceptions    what a backend does not do, in words: {"cuda": "no float64"}; python -m sslkernels prints it
    """

    def __init__(
        self,
        schema: str,
        *,
        shapes: str,
        reference: Callable[..., Any],
        fake: Callable[..., Any] | None = None,
        backward: "Op | None" = None,
        gradients: Sequence[str] = (),
        check: Callable[..., None] | None = None,
        triton: bool = False,
        exceptions: dict[str, str] | None = None,
        namespace: str = "sslkernels",
    ) -> None:
        self.name = schema.split("(", 1)[0]
        self.namespace, self._schema = namespace, schema
        self.reference, self.backward, self.gradients = reference, backward, tuple(gradients)
        self.exceptions = exceptions or {}
        self.package = reference.__module__.rpartition(".")[0]
        self._check, self._warned = check, False
        self._library = torch.library.Library(namespace, "FRAGMENT")
        self._library.define(schema)
        self._library.impl(self.name, self._fallback, "CompositeExplicitAutograd")
        self.overload = getattr(getattr(torch.ops, namespace), self.name).default
        self.arguments = tuple(argument.name for argument in self.overload._schema.arguments)
        self.results = tuple(result.name for result in self.overload._schema.returns)
        self.shapes = Shapes(shapes)
        self._places = [self.arguments.index(entry.name) for entry in self.shapes.entries]
        self._accepted: set[tuple[object, ...]] = set()  # shapes, dtypes, devices and types of calls
        kinds = [_PLAIN.get(str(argument.type)) for argument in self.overload._schema.arguments]
        self._plain = [at for at, kind in enumerate(kinds) if kind is not None]
        self._kinds = [kind for kind in kinds if kind is not None]
        self._require_whole_shape_line()
        self._register_fake(fake or reference)
        self._has_triton = triton and importlib.util.find_spec("triton") is not None
        self.native = tuple(key for key in _KEYS if _has_kernel(namespace, self.name, key))
        if self._has_triton and "CUDA" not in self.native:
            self._library.impl(self.name, self._triton, "CUDA")
        if backward is not None:
            self._library.impl(self.name, _autograd_kernel(self, backward), "Autograd")
        elif any(entry.kind in ("float", "real") for entry in self.shapes.entries):
            self._library.impl(self.name, _refusing_kernel(self), "Autograd")
        if namespace == "sslkernels":
            OPS[self.name] = self
        _scope.declare(self)

    def __call__(self, *args: Any) -> Any:
        if torch.compiler.is_compiling():  # traced calls are checked by the fake kernel
            return self.overload(*args)
        call: list[object] = []
        for value in args:
            if isinstance(value, Tensor):
                call += (value.shape, value.dtype, value.device)
            else:
                call.append(type(value))
        signature = tuple(call)
        try:
            known = signature in self._accepted
        except TypeError:  # a symbolic size, of make_fx or a fake tensor, has no hash
            known, signature = False, ()
        if not known:
            args = self._accept(args, signature)
        try:
            return self.overload(*args)
        except RuntimeError:
            self._with_plain(args)  # names an int past 64 bits, where torch speaks of types
            raise

    def _accept(self, args: tuple[Any, ...], signature: tuple[object, ...]) -> tuple[Any, ...]:
        """Check a call that is not like an earlier one; numbers come back as the schema has them.

        signature: what the next call like it is known by; empty: it cannot be.
        """
        self.shapes.check([args[place] for place in self._places])
        if [type(args[at]) for at in self._plain] != self._kinds:
            return self._with_plain(args)
        if signature:
            if len(self._accepted) >= _MOST_ACCEPTED:
                self._accepted.clear()
            self._accepted.add(signature)
        return args

    def _with_plain(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Numbers, flags and words as the schema has them; torch would take a float or None for a flag."""
        given = list(args)
        for at, kind in zip(self._plain, self._kinds, strict=True):
            name, value = self.arguments[at], args[at]
            if isinstance(value, _TRACED):
                continue
            if kind is str:
                if not isinstance(value, str):
                    raise TypeError(f"{name} must be a str, got {type(value).__name__}")
                continue
            given[at] = _CHECKS[kind](name, value)
        return tuple(given)

    def __repr__(self) -> str:
        return f"<Op {self.namespace}::{self.name}>"

    # -- kernels ---------------------------------------------------------------------------------------

    def kernel(self, backend: str, key: str) -> Callable[..., Any] | None:
        """What `backend` runs for tensors of dispatch key `key`; None: it has nothing there."""
        if backend == "reference":
            return self._checked_reference
        if (
            backend == "triton"
            and self._has_triton
            and (key == "CUDA" or os.environ.get("TRITON_INTERPRET") == "1")
        ):
            return self._triton
        if backend == "cuda-emulated" and key == "CPU":
            return self._emulated()
        if backend == _KEYS[key] and key in self.native:
            return _NATIVE
        return None

    @functools.cache  # noqa: B019  (operators live as long as the process)
    def _emulated(self) -> Callable[..., Any] | None:
        """The CUDA kernel as C++ (csrc/emulation): it is registered for CPU in a namespace of its own."""
        if not _native.load_emulated():
            return None
        namespace = f"{self.namespace}_emulated"
        self._emulated_library = torch.library.Library(namespace, "FRAGMENT")
        self._emulated_library.define(self._schema)
        if not _has_kernel(namespace, self.name, "CPU"):
            return None
        return getattr(getattr(torch.ops, namespace), self.name).default

    def backend_on(self, key: str) -> str:
        """The backend that serves this operator for `key` when nothing is asked for."""
        if key in self.native:
            return _KEYS[key]
        return "triton" if key == "CUDA" and self._has_triton else "reference"

    def _require_whole_shape_line(self) -> None:
        described = {entry.name for entry in self.shapes.entries}
        for argument in self.overload._schema.arguments:
            if "Tensor" in str(argument.type) and argument.name not in described:
                raise ValueError(f"{self.name}: the shape line does not describe {argument.name}")

    def serves(self, tensor: Tensor) -> bool:
        """Whether the backend in use has a kernel of its own, not only the reference, for this tensor."""
        key, backend = tensor.device.type.upper(), _scope.stack[-1]
        if key not in _KEYS:
            return False
        if backend == "auto":
            return self.backend_on(key) != "reference"
        return self.kernel(backend, key) is not None

    def _triton(self, *args: Any) -> Any:
        kernel = getattr(importlib.import_module(f"{self.package}.triton_kernels"), self.name)
        device = next((value.device for value in args if isinstance(value, Tensor)), None)
        if device is None or device.type != "cuda":
            return kernel(*args)
        with torch.cuda.device(device):  # Triton launches on the current device, wherever its tensors lie
            return kernel(*args)

    def _checked_reference(self, *args: Any) -> Any:
        if self._check is not None and not torch.compiler.is_compiling():
            self._check(*args)
        with torch._C._DisableAutocast():  # a kernel takes its inputs as they are; the reference too
            return self.reference(*args)

    def _fallback(self, *args: Any) -> Any:
        if any(isinstance(value, Tensor) and value.is_cuda for value in args):
            message = f"{self.namespace}::{self.name} has no CUDA kernel here: its slow reference runs"
            if os.environ.get("SSLKERNELS_STRICT") == "1":
                raise RuntimeError(f"{message} (SSLKERNELS_STRICT=1)")
            self._warn_once(message)
        elif self.namespace == "sslkernels" and _native.has_cpu:
            self._warn_once(
                f"sslkernels::{self.name} has no kernel in the native CPU library, which is older than the "
                f"Python files: its slow reference runs: {_native.BUILD_HINT}"
            )
        return self._checked_reference(*args)

    def _warn_once(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(message, stacklevel=3)

    def _register_fake(self, fake: Callable[..., Any]) -> None:
        @functools.wraps(fake)
        def checked(*args: Any, **kwargs: Any) -> Any:
            given = {**dict(zip(self.arguments, args, strict=False)), **kwargs}
            self.shapes.check([given.get(entry.name) for entry in self.shapes.entries])
            with torch._C._DisableAutocast():
                return fake(*args, **kwargs)

        torch.library.register_fake(f"{self.namespace}::{self.name}", checked, lib=self._library)


def _has_kernel(namespace: str, name: str, key: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"{namespace}::{name}", key)


def _NATIVE(*_: Any) -> Any:  # noqa: N802
    """Stands for a kernel that a native library has registered: it is left in its place."""
    raise AssertionError("a native kernel is called by the dispatcher alone")


def declare_all() -> None:
    """Import every family's op.py, so that OPS holds every operator of the package."""
    root = Path(__file__).parent
    for path in sorted(root.glob("*/*/op.py")):
        importlib.import_module(".".join(["sslkernels", *path.relative_to(root).with_suffix("").parts]))


# -- autograd ----------------------------------------------------------------------------------------------


def _wants_gradient(args: Sequence[Any]) -> bool:
    """Some input requires grad, or a forward-mode level is open (which torch then refuses by itself)."""
    if torch.autograd.forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(
        isinstance(value, Tensor) and value.requires_grad for value in args
    )


def _as_tuple(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def _autograd_kernel(op: Op, backward: Op) -> Callable[..., Any]:
    """The kernel of the Autograd key: straight through, unless a gradient is wanted."""
    index = {name: position for position, name in enumerate(op.arguments)}
    outputs = {name: position for position, name in enumerate(op.results)}
    differentiable = {name for name in outputs if f"grad_{name}" in backward.arguments}

    class Gradient(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            with torch._C._AutoDispatchBelowAutograd():
                results = op.overload(*args)
            values = _as_tuple(results)
            saved = {name: args[at] for name, at in index.items() if name in backward.arguments}
            saved.update({name: values[at] for name, at in outputs.items() if name in backward.arguments})
            ctx.names = [name for name, value in saved.items() if isinstance(value, Tensor)]
            ctx.save_for_backward(*(saved.pop(name) for name in ctx.names))
            ctx.constants = saved
            constant = [values[at] for name, at in outputs.items() if name not in differentiable]
            ctx.mark_non_differentiable(*(value for value in constant if isinstance(value, Tensor)))
            return results

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            needs = [ctx.needs_input_grad[index[name]] for name in op.gradients]
            known = {**ctx.constants, **dict(zip(ctx.names, ctx.saved_tensors, strict=True)), "needs": needs}
            known.update({f"grad_{name}": grads[at] for name, at in outputs.items()})
            found = _as_tuple(backward.overload(*(known[name] for name in backward.arguments)))
            result: list[Any] = [None] * len(op.arguments)
            for name, wanted, gradient in zip(op.gradients, needs, found, strict=True):
                result[index[name]] = gradient if wanted else None
            return tuple(result)

    def kernel(*args: Any) -> Any:
        if _wants_gradient(args):
            return Gradient.apply(*args)
        with torch._C._AutoDispatchBelowAutograd():
            return op.overload(*args)

    return kernel


def _refusing_kernel(op: Op) -> Callable[..., Any]:
    """For an operator over floats without a backward: a gradient is an error, never a silent zero."""

    class Refusal(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            with torch._C._AutoDispatchBelowAutograd():
                results = op.overload(*args)
            integers = [r for r in _as_tuple(results) if isinstance(r, Tensor) and not r.is_floating_point()]
            ctx.mark_non_differentiable(*integers)
            return results

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            forward = op.name.removesuffix("_backward")
            once = "is differentiable once" if forward != op.name else "has no gradient"
            raise RuntimeError(f"sslkernels: {forward} {once}")

    def kernel(*args: Any) -> Any:
        if _wants_gradient(args):
            return Refusal.apply(*args)
        with torch._C._AutoDispatchBelowAutograd():
            return op.overload(*args)

    return kernel


# -- choosing a backend ------------------------------------------------------------------------------------


class _Scope:
    """The backend that `use` asks for, process-wide; operators declared inside a scope obey it too."""

    def __init__(self) -> None:
        self.stack: list[str] = ["auto"]
        self._ops: list[Op] = []
        self._overrides: list[torch.library.Library] = []

    def switch(self) -> None:
        """Put the kernels of the innermost scope under every operator."""
        for library in reversed(self._overrides):
            library._destroy()
        self._overrides.clear()
        for op in self._ops:
            self._apply(op)

    def declare(self, op: Op) -> None:
        self._ops.append(op)
        self._apply(op)

    def _apply(self, op: Op) -> None:
        backend = self.stack[-1]
        if backend == "auto":
            return
        for key in _KEYS:
            kernel = op.kernel(backend, key)
            if kernel is _NATIVE:
                continue
            library = torch.library.Library(op.namespace, "IMPL")
            library.impl(op.name, kernel or _lacking(op, backend, key), key, allow_override=True)
            self._overrides.append(library)


def _lacking(op: Op, backend: str, key: str) -> Callable[..., Any]:
    def raise_lacking(*_: Any) -> Any:
        raise RuntimeError(f"{op.namespace}::{op.name} has no {backend} kernel for {_KEYS[key]} tensors")

    return raise_lacking


_scope = _Scope()


@contextlib.contextmanager
def use(backend: str) -> Iterator[None]:
    """Run every operator on `backend` inside the scope, process-wide; scopes nest.

    backend: "auto" (what the dispatcher would pick), "reference", "cpu", "cuda" or "triton" (with
    TRITON_INTERPRET=1 also for CPU tensors); in tests "cuda-emulated": the CUDA kernels, run on the CPU. A
    call of an operator that lacks it raises RuntimeError naming both; entering the scope does not. An unknown
    name raises ValueError.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    _scope.stack.append(backend)
    try:
        _scope.switch()
        yield
    finally:
        _scope.stack.pop()
        _scope.switch()


def backends() -> dict[str, dict[str, str]]:
    """operator -> {device: backend that would run}, for the devices of this machine."""
    declare_all()
    keys = ["CPU", "CUDA"] if torch.cuda.is_available() else ["CPU"]
    return {name: {_KEYS[key]: op.backend_on(key) for key in keys} for name, op in sorted(OPS.items())}
