"""What the masking room returns. Imports no torch: the NumPy face fills the same tuples with arrays."""

from typing import Any, NamedTuple


class Corruption(NamedTuple):
    """A corrupted batch; tensors, or arrays from sslkernels.host.

    ids        like the input
    labels     int64, shape of ids; ignore_index where nothing is scored
    selected   bool, shape of ids
    positions  int32 (B, capacity), ascending, padded with -1: where `selected` is set
    counts     int32 (B,): how many are selected, which may exceed capacity; both are None without `capacity`
    """

    ids: Any
    labels: Any
    selected: Any
    positions: Any = None
    counts: Any = None


class PatchMask(NamedTuple):
    """Which patches of a grid are hidden, in V views a sample; tensors.

    mask     bool (B, V, N): True where hidden
    keep     int64 (B, V, K): the visible patches, ascending
    restore  int64 (B, V, N): where each patch stands in cat(visible, hidden), both ascending
    """

    mask: Any
    keep: Any
    restore: Any
