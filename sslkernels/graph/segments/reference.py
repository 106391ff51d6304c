"""segment_softmax and its backward in plain torch."""

import torch
from torch import Tensor


def _segments(ptr: Tensor, rows: int) -> Tensor:
    """The segment of each row."""
    numbers = torch.arange(ptr.shape[0] - 1, device=ptr.device)
    return torch.repeat_interleave(numbers, ptr.diff().long(), output_size=rows)


def segment_softmax(x: Tensor, ptr: Tensor) -> Tensor:
    segment = _segments(ptr, x.shape[0])
    each = (ptr.shape[0] - 1, *x.shape[1:])
    index = segment.reshape(-1, *[1] * (x.dim() - 1)).expand_as(x)
    lowest = x.new_full(each, float("-inf"))
    maximum = lowest.scatter_reduce(0, index, x, "amax")
    maximum = torch.where(maximum == float("-inf"), 0.0, maximum).to(x.dtype)
    exponentials = (x - maximum.index_select(0, segment)).exp()
    total = x.new_zeros(each).index_add(0, segment, exponentials)
    total = torch.where(total == 0, 1.0, total).to(x.dtype)
    return exponentials / total.index_select(0, segment)


def segment_softmax_backward(grad_out: Tensor, out: Tensor, ptr: Tensor) -> Tensor:
    segment = _segments(ptr, out.shape[0])
    inner = out.new_zeros(ptr.shape[0] - 1, *out.shape[1:]).index_add(0, segment, grad_out * out)
    return out * (grad_out - inner.index_select(0, segment))


def check(x: Tensor, ptr: Tensor) -> None:
    """ptr starts at 0, never falls and ends at the number of rows."""
    values, rows = ptr.tolist(), x.shape[0]
    if values[0] != 0:
        raise ValueError(f"ptr[0] is {values[0]}, it must be 0")
    for at in range(1, len(values)):
        if values[at] < values[at - 1]:
            raise ValueError(f"ptr[{at}] is {values[at]}, less than the entry before it")
    if values[-1] != rows:
        raise ValueError(f"ptr[{len(values) - 1}] is {values[-1]}, it must be the number of rows, {rows}")


def check_backward(grad_out: Tensor, out: Tensor, ptr: Tensor) -> None:
    check(out, ptr)
