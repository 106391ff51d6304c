"""corrupt_tokens over NumPy arrays, without torch; the same bits as op.py's."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sslkernels._scalars import require_seed
from sslkernels.masking.results import Corruption
from sslkernels.masking.tokens import arguments

if TYPE_CHECKING:
    from numpy import ndarray


def corrupt_tokens(
    ids: "ndarray",
    *,
    ptr: "ndarray | None" = None,
    rate: "float | ndarray" = 0.15,
    mix: Sequence[float] = (0.8, 0.1, 0.1),
    mask_id: int | None = None,
    vocab_size: int | None = None,
    special_ids: Iterable[int] = (),
    maskable: "ndarray | None" = None,
    groups: "ndarray | None" = None,
    clusters: Any = None,
    labels: str = "original",
    exclude_original: bool = False,
    min_selected: "int | ndarray" = 0,
    ignore_index: int = -100,
    capacity: int | None = None,
    seed: int | None = None,
    step: int = 0,
    sample_ids: "ndarray | None" = None,
) -> Corruption:
    """sslkernels.masking.corrupt_tokens over NumPy arrays, on one thread, the GIL released."""
    import numpy as np

    from sslkernels import _numpy

    arguments.check_shapes(ids, ptr, maskable, groups, np.ndarray)
    if ids.dtype not in (np.int32, np.int64):
        raise ValueError(f"ids must be int32 or int64, got {ids.dtype}")
    batch = ids.shape[0] if ptr is None else ptr.shape[0] - 1
    plan = arguments.plan_once(
        mix,
        mask_id,
        vocab_size,
        special_ids,
        labels,
        ignore_index,
        capacity,
        arguments.vocabulary_of(clusters),
        int(np.iinfo(ids.dtype).max),
    )
    limit, fewest = arguments.limits(rate, min_selected, np.ndarray)
    if seed is None and not arguments.draws(rate, min_selected, mix):
        seed = 0
    seed, step = require_seed("corrupt_tokens", seed, step)
    tables: tuple[Any, ...] = (None,) * 4
    if clusters is not None and mix[1] > 0:
        tables = tuple(table.numpy() for table in clusters.tables(plan.special_ids, "cpu"))
    numbers = (
        limit,
        plan.mask_limit,
        plan.random_limit,
        plan.mask_id,
        plan.vocab_size,
        fewest,
        plan.ignore_index,
        plan.capacity,
        seed,
        step,
    )
    found = _numpy.corrupt_tokens(
        np.ascontiguousarray(ids),
        None if ptr is None else _integers("ptr", ptr, ptr.shape),
        None if sample_ids is None else _integers("sample_ids", sample_ids, (batch,)),
        _limits(rate, batch) if isinstance(rate, np.ndarray) else None,
        _integers("min_selected", min_selected, (batch,)) if isinstance(min_selected, np.ndarray) else None,
        None if maskable is None else _flags(maskable),
        None if groups is None else _integers("groups", groups, groups.shape),
        *tables,
        plan.special_ids,
        labels,
        exclude_original,
        numbers,
    )
    return Corruption(*found)


def _integers(name: str, value: Any, shape: tuple[int, ...]) -> Any:
    """`value` as a contiguous int64 array of this shape."""
    import numpy as np

    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be a ndarray, got {type(value).__name__}")
    if value.dtype not in (np.int32, np.int64):
        raise ValueError(f"{name} must be int32 or int64, got {value.dtype}")
    if value.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {value.shape}")
    return np.ascontiguousarray(value, dtype=np.int64)


def _flags(maskable: Any) -> Any:
    import numpy as np

    if maskable.dtype != np.bool_:
        raise ValueError(f"maskable must be bool, got {maskable.dtype}")
    return np.ascontiguousarray(maskable)


def _limits(rate: Any, batch: int) -> Any:
    """The limit of each row's rate; what is no number becomes one that the core refuses."""
    import numpy as np

    if rate.dtype.kind != "f":
        raise ValueError(f"rate must be a float array, got {rate.dtype}")
    if rate.shape != (batch,):
        raise ValueError(f"rate must have shape (B={batch},), got {rate.shape}")
    with np.errstate(invalid="ignore"):
        return np.floor(rate.astype(np.float64) * 4294967296.0 + 0.5).astype(np.int64)
