"""Triton's interpreter with the arithmetic of a GPU in bfloat16.

The interpreter of Triton 3.6 to 3.8 keeps bfloat16 values as uint16 bits. It truncates where a GPU rounds to
nearest even, and its `tl.dot` multiplies the bits as integers. `patch` mends both; sums and products of two
bfloat16 tensors stay wrong, so kernels convert what they load to float32.
"""

from typing import Any


def patch() -> None:
    """Mend the interpreter in this process; a second call changes nothing."""
    import numpy as np
    import torch
    import triton.language as tl
    from triton.runtime import interpreter

    if getattr(interpreter._convert_float, "rounds", False):
        return
    torch_types = {
        tl.float16: torch.float16,
        tl.bfloat16: torch.bfloat16,
        tl.float32: torch.float32,
        tl.float64: torch.float64,
    }
    bits = {2: (torch.int16, np.uint16), 4: (torch.int32, np.uint32), 8: (torch.int64, np.uint64)}
    original_convert = interpreter._convert_float
    original_dot = interpreter.InterpreterBuilder.create_dot
    toward_zero = interpreter._ir.ROUNDING_MODE.RTZ

    def convert(data: Any, source: Any, target: Any, rounding: Any) -> Any:
        """The bits of `data` as the dtype `target`, rounded by torch: to nearest even."""
        if rounding == toward_zero or source not in torch_types or target not in torch_types:
            return original_convert(data, source, target, rounding)
        data = np.ascontiguousarray(data)
        signed, _ = bits[data.itemsize]
        values = torch.from_numpy(data.view(f"int{8 * data.itemsize}")).view(signed).view(torch_types[source])
        found = values.to(torch_types[target])
        signed, unsigned = bits[found.element_size()]
        return found.view(signed).numpy().view(unsigned).reshape(data.shape)

    def upcast(handle: Any) -> Any:
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        data = (handle.data.astype(np.uint32) << 16).view(np.float32)
        return interpreter.TensorHandle(data, tl.float32)

    def create_dot(self: Any, a: Any, b: Any, d: Any, *rest: Any) -> Any:
        return original_dot(self, upcast(a), upcast(b), d, *rest)

    convert.rounds = True  # type: ignore[attr-defined]
    interpreter._convert_float = convert
    interpreter.InterpreterBuilder.create_dot = create_dot
