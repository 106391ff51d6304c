"""segment_softmax: softmax over the rows of each segment, column by column."""

from torch import Tensor

from sslkernels._op import Op
from sslkernels.graph.segments import reference

_backward = Op(
    "segment_softmax_backward(Tensor grad_out, Tensor out, Tensor ptr) -> (Tensor grad_x)",
    shapes="grad_out: N D | N; out: N D | N; ptr: S+1 int",
    reference=reference.segment_softmax_backward,
    check=reference.check_backward,
)
_op = Op(
    "segment_softmax(Tensor x, Tensor ptr) -> (Tensor out)",
    shapes="x: N D | N; ptr: S+1 int",
    reference=reference.segment_softmax,
    backward=_backward,
    gradients=("x",),
    check=reference.check,
)


def segment_softmax(x: Tensor, ptr: Tensor) -> Tensor:
    """exp(x) over its sum in the segment, for each column of each segment of rows.

    x       float (N, D) or (N,); 16-bit inputs are summed in 32 bits
    ptr     int32 or int64 (S+1,): segment s holds the rows ptr[s] .. ptr[s+1]; starts at 0, never falls, ends
            at N. Any number of segments may be empty
    -> like x. A column of a segment that holds -inf alone gives 0 with zero gradients; NaN, or +inf, anywhere
    in it gives NaN. Differentiable once, in x.

    Raises ValueError naming ptr or x: shapes, dtypes, and offsets as above (on CUDA only with
    SSLKERNELS_CHECK=1; there an offset outside [0, N] is taken as the nearest inside).
    Cost: x is read once and the result written once; the backward reads two tensors and writes one.

    Sources: the softmax over a node's in-edges of graph attention networks (Velickovic et al., ICLR 2018,
    equation 3); the maximum is the segment's own, so that no segment underflows beside another.
    """
    return _op(x, ptr)
