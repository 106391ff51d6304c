"""The value checks of an eager call of a reference; the native kernels make the same ones themselves."""

from itertools import pairwise

from torch import Tensor

from sslkernels.eulerian.walks import directed
from sslkernels.eulerian.walks.reference import columns_of

MODES = ("first_visit", "cyclic", "random")


def check_ptr(name: str, ptr: Tensor, end: int | None = None) -> None:
    values = ptr.tolist()
    if values[0] != 0:
        raise ValueError(f"{name}[0] is {values[0]}, it must be 0")
    for i, (before, value) in enumerate(pairwise(values)):
        if value < before:
            raise ValueError(f"{name}[{i + 1}] is {value}, below the entry before it, {before}")
    if end is not None and values[-1] != end:
        raise ValueError(f"{name}[{len(values) - 1}] is {values[-1]}, it must be {end}")


def check_columns(edge_index: Tensor, graph_ptr: Tensor, edge_ptr: Tensor | None) -> None:
    """Every column joins nodes of one graph, and columns come in the order of the graphs."""
    ptr, everything = graph_ptr.tolist(), graph_ptr.tolist()[-1]
    places = None if edge_ptr is None else edge_ptr.tolist()
    g = 0
    for c, ends in enumerate(zip(*edge_index.tolist(), strict=True)):
        for row, end in enumerate(ends):
            if not 0 <= end < everything:
                raise ValueError(f"edge_index[{row}, {c}] is {end}, outside [0, {everything})")
        while (c >= places[g + 1]) if places is not None else (ends[0] >= ptr[g + 1]):
            g += 1
        for row, end in enumerate(ends):
            if not ptr[g] <= end < ptr[g + 1]:
                raise ValueError(
                    f"edge_index[{row}, {c}] is {end}, outside graph {g}, [{ptr[g]}, {ptr[g + 1]}): "
                    "columns come in the order of the graphs and join nodes of one graph"
                )


def serialize(
    edge_index: Tensor,
    graph_ptr: Tensor,
    edge_ptr: Tensor | None,
    undirected: bool,
    closed: bool,
    shuffle: bool,
    start: Tensor | None,
    seed: int,
    step: int,
    sample_ids: Tensor | None,
) -> None:
    check_ptr("graph_ptr", graph_ptr)
    if edge_ptr is not None:
        check_ptr("edge_ptr", edge_ptr, edge_index.shape[1])
    sizes = graph_ptr.diff().tolist()
    for g, node in enumerate([] if start is None else start.tolist()):
        if not -1 <= node < sizes[g]:
            raise ValueError(f"start[{g}] is {node}, outside [-1, {sizes[g]})")
    check_columns(edge_index, graph_ptr, edge_ptr)
    if undirected or not closed:
        return
    for g, (_, columns) in enumerate(columns_of(edge_index, graph_ptr, edge_ptr)):
        if not directed.has_closed_walk(sizes[g], columns):
            raise ValueError(f"closed=True: graph {g} has a component that is not strongly connected")


def deserialize(
    nodes: Tensor, edges: Tensor, ptr: Tensor, num_nodes: Tensor | None, undirected: bool
) -> None:
    check_ptr("ptr", ptr, nodes.numel())
    walked, names, offsets = nodes.tolist(), edges.tolist(), ptr.tolist()
    for g, (begin, end) in enumerate(pairwise(offsets)):
        most = 1 << 31 if num_nodes is None else int(num_nodes[g])
        for i in range(begin, end):
            if i == begin and names[i] != -1:
                raise ValueError(f"edges[{i}] is {names[i]}, it must be -1 at the first step of a graph")
            if i > begin and (names[i] < -2 or names[i] == -1):
                raise ValueError(
                    f"edges[{i}] is {names[i]}, it must be a column or -2 after the first step of a graph"
                )
            if not 0 <= walked[i] < most:
                limit = "2^31" if num_nodes is None else most
                raise ValueError(f"nodes[{i}] is {walked[i]}, outside [0, {limit})")
        if not 0 <= most <= 1 << 31:
            raise ValueError(f"num_nodes[{g}] is {most}, outside [0, 2^31)")
    for begin, end in pairwise(offsets):
        found: dict[int, int] = {}
        for i in range(begin + 1, end):
            if names[i] < 0:
                continue
            one = found.setdefault(names[i], i)
            before, now = (walked[one - 1], walked[one]), (walked[i - 1], walked[i])
            if before != now and not (undirected and before == now[::-1]):
                raise ValueError(f"edges[{i}] is {names[i]}, which joins other nodes at step {one}")


def reindex(
    nodes: Tensor, ptr: Tensor, scope: int, mode: str, seed: int, step: int, sample_ids: Tensor | None
) -> None:
    check_ptr("ptr", ptr, nodes.numel())
    if not 1 <= scope < 1 << 31:
        raise ValueError(f"scope is {scope}, outside [1, 2^31)")
    if mode not in MODES:
        raise ValueError(f"mode must be first_visit, cyclic or random, got {mode}")
    walked, offsets = nodes.tolist(), ptr.tolist()
    for g, (begin, end) in enumerate(pairwise(offsets)):
        for i in range(begin, end):
            if not 0 <= walked[i] < 1 << 31:
                raise ValueError(f"nodes[{i}] is {walked[i]}, outside [0, 2^31)")
        distinct = len(set(walked[begin:end]))
        if distinct > scope:
            raise ValueError(f"scope is {scope}, graph {g} has {distinct} distinct nodes")
