"""serialize, deserialize and reindex over NumPy arrays, without torch; the same bits as op.py's."""

from typing import TYPE_CHECKING, Any

from sslkernels._scalars import as_bool, as_int, one_of, require_seed
from sslkernels.eulerian.results import EulerPaths

if TYPE_CHECKING:
    from numpy import ndarray

MODES = ("first_visit", "cyclic", "random")


def _array(name: str, value: Any, shape: tuple[int | None, ...], wide: bool = True) -> Any:
    """`value` as a contiguous integer array of this shape (None: any size); `wide`: in 64 bits."""
    import numpy

    if not isinstance(value, numpy.ndarray):
        raise TypeError(f"{name} must be a numpy.ndarray, got {type(value).__name__}")
    if value.dtype not in (numpy.int32, numpy.int64):
        raise ValueError(f"{name} must be int32 or int64, got {value.dtype}")
    fits = len(value.shape) == len(shape) and all(
        size in (None, given) for size, given in zip(shape, value.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must have shape ({wanted}), got {value.shape}")
    return numpy.ascontiguousarray(value, dtype=numpy.int64 if wide else None)


def _offsets(name: str, value: Any) -> Any:
    array = _array(name, value, (None,))
    if array.shape[0] == 0:
        raise ValueError(f"{name} must have at least one entry, got shape (0,)")
    return array


def _optional(name: str, value: Any, size: int) -> Any:
    return None if value is None else _array(name, value, (size,))


def _draw_from(function: str, seed: int | None, step: int, draws: bool) -> tuple[int, int]:
    return require_seed(function, seed, step) if draws else (0, 0)


def serialize(
    edge_index: "ndarray",
    graph_ptr: "ndarray",
    *,
    edge_ptr: "ndarray | None" = None,
    undirected: bool = True,
    closed: bool = False,
    shuffle: bool = True,
    start: "ndarray | None" = None,
    seed: int | None = None,
    step: int = 0,
    sample_ids: "ndarray | None" = None,
) -> EulerPaths:
    """sslkernels.eulerian.serialize over NumPy arrays, on one thread, the GIL released."""
    from sslkernels import _numpy

    columns = _array("edge_index", edge_index, (2, None), wide=False)
    ptr = _offsets("graph_ptr", graph_ptr)
    graphs = ptr.shape[0] - 1
    seed, step = _draw_from("serialize", seed, step, as_bool("shuffle", shuffle))
    return EulerPaths(
        *_numpy.serialize(
            columns,
            ptr,
            _optional("edge_ptr", edge_ptr, graphs + 1),
            as_bool("undirected", undirected),
            as_bool("closed", closed),
            shuffle,
            _optional("start", start, graphs),
            seed,
            step,
            _optional("sample_ids", sample_ids, graphs),
        )
    )


def deserialize(
    paths: EulerPaths, *, num_nodes: "ndarray | None" = None, undirected: bool = True
) -> tuple["ndarray", "ndarray"]:
    """sslkernels.eulerian.deserialize over NumPy arrays."""
    from sslkernels import _numpy

    if not isinstance(paths, tuple) or len(paths) != 3:
        raise TypeError(f"paths must be EulerPaths (nodes, edges, ptr), got {type(paths).__name__}")
    nodes = _array("nodes", paths[0], (None,), wide=False)
    edges = _array("edges", paths[1], nodes.shape, wide=False)
    for name, array in (("nodes", nodes), ("edges", edges)):
        if array.dtype.itemsize != 4:
            raise ValueError(f"{name} must be int32, got {array.dtype}")
    ptr = _offsets("ptr", paths[2])
    counts = _optional("num_nodes", num_nodes, ptr.shape[0] - 1)
    return _numpy.deserialize(nodes, edges, ptr, counts, as_bool("undirected", undirected))


def reindex(
    nodes: "ndarray",
    ptr: "ndarray",
    *,
    scope: int,
    mode: str = "first_visit",
    seed: int | None = None,
    step: int = 0,
    sample_ids: "ndarray | None" = None,
) -> "ndarray":
    """sslkernels.eulerian.reindex over NumPy arrays."""
    from sslkernels import _numpy

    walked, offsets = _array("nodes", nodes, (None,), wide=False), _offsets("ptr", ptr)
    seed, step = _draw_from("reindex", seed, step, one_of("mode", mode, MODES) != "first_visit")
    ids = _optional("sample_ids", sample_ids, offsets.shape[0] - 1)
    return _numpy.reindex(walked, offsets, as_int("scope", scope), mode, seed, step, ids)
