"""What serialize, deserialize and reindex refuse, by name; garbage never crashes."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sslkernels
from sslkernels import host
from sslkernels.eulerian import EulerPaths, deserialize, reindex, serialize

PTR = torch.tensor([0, 3, 5])
EDGES = torch.tensor([[0, 1, 3, 4], [1, 0, 4, 3]])

BAD_COLUMNS = {
    "past the last node": ([[0, 5], [1, 0]], r"edge_index\[0, 1\] is 5, outside \[0, 5\)"),
    "negative": ([[0, 1], [-1, 0]], r"edge_index\[1, 0\] is -1, outside \[0, 5\)"),
    "far away": ([[0, 2**62], [1, 0]], r"edge_index\[0, 1\] is 4611686018427387904"),
    "far below": ([[0, -(2**63)], [1, 0]], r"edge_index\[0, 1\] is -9223372036854775808"),
    "joins two graphs": ([[0, 3], [3, 0]], r"edge_index\[1, 0\] is 3, outside graph 0, \[0, 3\)"),
    "graphs out of order": ([[3, 4, 0], [4, 3, 1]], r"edge_index\[0, 2\] is 0, outside graph 1"),
}


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("undirected", [True, False])
@pytest.mark.parametrize("case", BAD_COLUMNS)
def test_bad_columns(case: str, undirected: bool, backend: str) -> None:
    columns, message = BAD_COLUMNS[case]
    with sslkernels.use(backend), pytest.raises(ValueError, match=message):
        serialize(torch.tensor(columns), PTR, undirected=undirected, seed=0)
    with pytest.raises(ValueError, match=message):
        host.serialize(np.array(columns), PTR.numpy(), undirected=undirected, seed=0)


BAD_ARGUMENTS = {
    "not from 0": ({"graph_ptr": [1, 3, 5]}, r"graph_ptr\[0\] is 1, it must be 0"),
    "descends": ({"graph_ptr": [0, 6, 5]}, r"graph_ptr\[2\] is 5, below the entry before it, 6"),
    "empty ptr": ({"graph_ptr": []}, "graph_ptr"),
    "no graph for the columns": ({"graph_ptr": [0]}, r"edge_index\[0, 0\] is 0, outside \[0, 0\)"),
    "edge_ptr too short": ({"edge_ptr": [0, 4]}, "edge_ptr must have shape"),
    "edge_ptr past the end": ({"edge_ptr": [0, 2, 5]}, r"edge_ptr\[2\] is 5, it must be 4"),
    "edge_ptr descends": ({"edge_ptr": [0, 5, 4]}, r"edge_ptr\[2\] is 4, below"),
    "edge_ptr of other graphs": ({"edge_ptr": [0, 3, 4]}, r"edge_index\[0, 2\] is 3, outside graph 0"),
    "start too large": ({"start": [0, 2]}, r"start\[1\] is 2, outside \[-1, 2\)"),
    "start too small": ({"start": [-2, 0]}, r"start\[0\] is -2, outside \[-1, 3\)"),
    "starts too few": ({"start": [0]}, "start must have shape"),
    "sample_ids too many": ({"sample_ids": [0, 1, 2]}, "sample_ids must have shape"),
    "three rows": ({"edge_index": [[0], [1], [2]]}, "edge_index must have shape"),
    "seed too large": ({"seed": 2**63}, r"seed must lie in \[0, 2\^63\)"),
    "seed negative": ({"seed": -1}, r"seed must lie in \[0, 2\^63\)"),
    "step negative": ({"step": -1}, r"step must lie in \[0, 2\^63\)"),
    "no seed": ({"seed": None}, "seed must be given"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments(case: str) -> None:
    changed, message = BAD_ARGUMENTS[case]
    given: dict[str, object] = {"edge_index": EDGES.tolist(), "graph_ptr": PTR.tolist(), "seed": 0, **changed}
    tensors = {
        name: torch.tensor(value, dtype=torch.int64) if isinstance(value, list) else value
        for name, value in given.items()
    }
    with pytest.raises(ValueError, match=message):
        serialize(tensors.pop("edge_index"), tensors.pop("graph_ptr"), **tensors)
    arrays = {n: np.array(v, dtype=np.int64) if isinstance(v, list) else v for n, v in given.items()}
    with pytest.raises(ValueError, match=message.split(r"\[", maxsplit=1)[0].split(" must")[0]):
        host.serialize(arrays.pop("edge_index"), arrays.pop("graph_ptr"), **arrays)


@pytest.mark.parametrize("name", ["edge_index", "graph_ptr", "edge_ptr", "start", "sample_ids"])
def test_floats_are_refused(name: str) -> None:
    options = {"edge_index": EDGES, "graph_ptr": PTR, name: torch.zeros(2, 4)}
    with pytest.raises(ValueError, match=name):
        serialize(options.pop("edge_index"), options.pop("graph_ptr"), seed=0, **options)
    options = {"edge_index": EDGES, "graph_ptr": PTR, name: [1, 2]}
    with pytest.raises(TypeError, match=name):
        serialize(options.pop("edge_index"), options.pop("graph_ptr"), seed=0, **options)


def test_values_are_refused_in_compiled_graphs() -> None:
    compiled = torch.compile(
        lambda e: serialize(e, PTR, seed=0).nodes + 1, backend="aot_eager", fullgraph=True
    )
    assert len(compiled(EDGES)) == 5 + 0 * len(EDGES)
    with pytest.raises(ValueError, match=r"edge_index\[1, 0\] is 9"):
        compiled(torch.tensor([[0, 1, 3, 4], [9, 0, 4, 3]]))


def test_odd_number_of_directed_columns() -> None:
    """Nothing needs pairs: three arcs, or a pair and a lone column."""
    columns = torch.tensor([[0, 1, 1], [1, 0, 2]])
    assert serialize(columns, torch.tensor([0, 3]), undirected=False, seed=0).edges.unique().numel() == 4
    assert sorted(serialize(columns, torch.tensor([0, 3]), seed=0).edges.tolist()) == [-1, 0, 2]


def test_many_ranges_report_the_first_bad_column() -> None:
    """Whatever the number of threads, the message is the same."""
    graphs = 5000
    node = torch.arange(graphs).repeat_interleave(2) * 2
    edge_index = torch.stack(
        [node + torch.tensor([0, 1]).repeat(graphs), node + torch.tensor([1, 0]).repeat(graphs)]
    )
    edge_index[1, 9001] += 7
    edge_index[0, 3001] -= 5
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            with pytest.raises(ValueError, match=r"edge_index\[0, 3001\]"):
                serialize(edge_index, torch.arange(graphs + 1) * 2, seed=0)
    finally:
        torch.set_num_threads(threads)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_garbage_never_crashes(data: st.DataObject) -> None:
    value = st.one_of(st.integers(-3, 12), st.integers(-(2**63), 2**63 - 1))
    columns = data.draw(st.lists(st.tuples(value, value), max_size=12))
    graph_ptr = data.draw(st.lists(value, min_size=1, max_size=5))
    if data.draw(st.booleans()):
        graph_ptr = [0, *sorted(data.draw(st.lists(st.integers(0, 12), max_size=4)))]
    edge_ptr = data.draw(st.none() | st.lists(value, min_size=len(graph_ptr), max_size=len(graph_ptr)))
    edge_index = torch.tensor(columns, dtype=torch.int64).reshape(-1, 2).T
    if max((abs(v) for v in graph_ptr), default=0) > 2**20 and graph_ptr == sorted(graph_ptr):
        return  # a graph that large is allowed, and needs its memory
    options = {"undirected": data.draw(st.booleans()), "closed": data.draw(st.booleans()), "seed": 1}
    where = None if edge_ptr is None else torch.tensor(edge_ptr)
    try:
        paths = serialize(edge_index, torch.tensor(graph_ptr), edge_ptr=where, **options)
    except ValueError as error:
        message = str(error)
    else:
        message = "edge_index"
        assert paths.ptr[-1] == len(paths.nodes) == len(paths.edges)
    assert any(name in message for name in ("edge_index", "graph_ptr", "edge_ptr", "closed"))


# -- deserialize ---------------------------------------------------------------------------------------------


def paths_of(nodes: list[int], edges: list[int], ptr: list[int]) -> EulerPaths:
    return EulerPaths(
        torch.tensor(nodes, dtype=torch.int32), torch.tensor(edges, dtype=torch.int32), torch.tensor(ptr)
    )


BAD_PATHS = {
    "ptr not from 0": (([0, 1], [-1, 0], [1, 2]), r"ptr\[0\] is 1"),
    "ptr past the end": (([0, 1], [-1, 0], [0, 3]), r"ptr\[1\] is 3, it must be 2"),
    "ptr descends": (([0, 1], [-1, 0], [0, 3, 2]), r"ptr\[2\] is 2, below"),
    "first step": (([0, 1], [0, 1], [0, 2]), r"edges\[0\] is 0, it must be -1 at the first step"),
    "second first step": (([0, 1], [-1, -1], [0, 2]), r"edges\[1\] is -1, it must be a column or -2"),
    "below -2": (([0, 1], [-1, -3], [0, 2]), r"edges\[1\] is -3"),
    "negative node": (([0, -1], [-1, 4], [0, 2]), r"nodes\[1\] is -1, outside \[0, 2\^31\)"),
    "two edges of a name": (([0, 1, 2], [-1, 4, 4], [0, 3]), r"edges\[2\] is 4, which joins other nodes"),
    "far names": (
        ([0, 1, 2, 0], [-1, 2**31 - 1, 3, 3], [0, 4]),
        r"edges\[3\] is 3, which joins other nodes at step 2",
    ),
}


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("case", BAD_PATHS)
def test_bad_paths(case: str, backend: str) -> None:
    parts, message = BAD_PATHS[case]
    with sslkernels.use(backend), pytest.raises(ValueError, match=message):
        deserialize(paths_of(*parts))


def test_num_nodes() -> None:
    paths = paths_of([0, 1], [-1, 7], [0, 2])
    assert deserialize(paths, num_nodes=torch.tensor([5]))[1].tolist() == [0, 5]
    for bad, message in ((1, r"nodes\[1\] is 1, outside \[0, 1\)"), (-4, r"nodes\[0\] is 0, outside")):
        with pytest.raises(ValueError, match=message):
            deserialize(paths, num_nodes=torch.tensor([bad]))
    with pytest.raises(ValueError, match=r"num_nodes\[0\] is -1"):
        deserialize(paths_of([], [], [0, 0]), num_nodes=torch.tensor([-1]))
    with pytest.raises(TypeError, match="paths must be EulerPaths"):
        deserialize(torch.zeros(3))


@pytest.mark.parametrize("undirected", [True, False])
def test_any_walk_of_a_graph_comes_back_alike(undirected: bool) -> None:
    """The columns that went in, whatever the seed; undirected: lone columns double, smaller ends first."""
    rng = random.Random(5)
    columns = sorted({(rng.randrange(9), rng.randrange(9)) for _ in range(20)})
    edge_index, graph_ptr = torch.tensor(columns).T, torch.tensor([0, 9])
    found = {
        str(
            deserialize(
                serialize(edge_index, graph_ptr, undirected=undirected, seed=s), undirected=undirected
            )
        )
        for s in range(10)
    }
    assert len(found) == 1
    if not undirected:
        back, _ = deserialize(serialize(edge_index, graph_ptr, undirected=False, seed=0), undirected=False)
        assert torch.equal(back, edge_index)


# -- reindex -------------------------------------------------------------------------------------------------


def test_reindex_modes() -> None:
    nodes, ptr = torch.tensor([4, 2, 4, 9, 2, 7, 7], dtype=torch.int32), torch.tensor([0, 5, 7])
    assert reindex(nodes, ptr, scope=3).tolist() == [0, 1, 0, 2, 1, 0, 0]
    offsets = set()
    for step in range(40):
        cyclic = reindex(nodes, ptr, scope=8, mode="cyclic", seed=1, step=step).tolist()
        assert [(i - cyclic[0]) % 8 for i in cyclic[:5]] == [0, 1, 0, 2, 1]
        offsets.add(cyclic[0])
        drawn = reindex(nodes, ptr, scope=3, mode="random", seed=1, step=step).tolist()
        assert sorted(set(drawn[:5])) == [0, 1, 2]
        assert drawn[0] == drawn[2]
    assert len(offsets) == 8


def test_random_ids_are_uniform() -> None:
    """All 6 orders of 3 ids of 3 equally often, by chi-square at the 1e-4 level (5 degrees of freedom)."""
    walks = 6000
    nodes, ptr = torch.arange(3, dtype=torch.int32).repeat(walks), torch.arange(walks + 1) * 3
    ids = reindex(nodes, ptr, scope=3, mode="random", seed=4).reshape(walks, 3)
    _, counts = torch.unique(ids[:, 0] * 3 + ids[:, 1], return_counts=True)
    assert counts.numel() == 6
    assert ((counts - walks / 6) ** 2 / (walks / 6)).sum() < 25.7


def test_reindex_depends_on_the_sample_alone() -> None:
    nodes, ptr = torch.randint(50, (400,), dtype=torch.int32), torch.tensor([0, 100, 100, 250, 400])
    for mode in ("cyclic", "random"):
        ids = reindex(nodes.long(), ptr.int(), scope=60, mode=mode, seed=2, step=1)
        alone = reindex(
            nodes[100:250],
            torch.tensor([0, 150]),
            scope=60,
            mode=mode,
            seed=2,
            step=1,
            sample_ids=torch.tensor([2]),
        )
        assert torch.equal(ids[100:250], alone)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_bad_reindex(backend: str) -> None:
    nodes, ptr = torch.tensor([0, 1, 2], dtype=torch.int32), torch.tensor([0, 3])
    with sslkernels.use(backend):
        for scope, message in ((2, "graph 0 has 3 distinct nodes"), (0, "scope is 0"), (2**31, "scope is")):
            with pytest.raises(ValueError, match=message):
                reindex(nodes, ptr, scope=scope)
        with pytest.raises(ValueError, match=r"nodes\[1\] is -1"):
            reindex(torch.tensor([0, -1, 2]), ptr, scope=9)
        with pytest.raises(ValueError, match=r"nodes\[0\] is 4294967296"):
            reindex(torch.tensor([2**32, 1, 2]), ptr, scope=9)
        with pytest.raises(ValueError, match=r"ptr\[1\] is 2, it must be 3"):
            reindex(nodes, torch.tensor([0, 2]), scope=9)
    with pytest.raises(ValueError, match="mode must be"):
        reindex(nodes, ptr, scope=9, mode="last_visit")
    with pytest.raises(ValueError, match="seed must be given"):
        reindex(nodes, ptr, scope=9, mode="random")


# -- the NumPy face ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [np.int32, np.int64])
@pytest.mark.parametrize("undirected", [True, False])
def test_host_gives_the_same_bits(bits: type, undirected: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    local = torch.randint(9, (2, 200), generator=generator)
    edge_index = local + 9 * torch.arange(20).repeat_interleave(10)
    graph_ptr = torch.arange(21) * 9
    ours = serialize(edge_index, graph_ptr, undirected=undirected, seed=5, step=1)
    arrays = host.serialize(
        edge_index.numpy().astype(bits), graph_ptr.numpy().astype(bits), undirected=undirected, seed=5, step=1
    )
    assert isinstance(arrays, EulerPaths)
    for tensor, array in zip(ours, arrays, strict=True):
        assert tensor.numpy().dtype == array.dtype
        assert np.array_equal(tensor.numpy(), array)
    for tensor, array in zip(
        deserialize(ours, undirected=undirected), host.deserialize(arrays, undirected=undirected), strict=True
    ):
        assert np.array_equal(tensor.numpy(), array)
    for mode in ("first_visit", "cyclic", "random"):
        ids = reindex(ours.nodes, ours.ptr, scope=11, mode=mode, seed=1)
        assert np.array_equal(
            ids.numpy(), host.reindex(arrays.nodes, arrays.ptr, scope=11, mode=mode, seed=1)
        )


def test_host_takes_strided_arrays() -> None:
    edge_index = EDGES.numpy()
    strided = np.asfortranarray(np.repeat(edge_index, 2, axis=1))[:, ::2]
    expected = host.serialize(edge_index, PTR.numpy(), seed=1)
    for left, right in zip(expected, host.serialize(strided, PTR.numpy(), seed=1), strict=True):
        assert np.array_equal(left, right)


PLAIN = {
    "undirected": ("yes", None, 1, torch.ones(2)),
    "closed": ("no", None, 0.5),
    "shuffle": ("no", None, 1, torch.ones(2), np.ones(2)),
    "seed": ("1", 1.0, True, torch.ones(2), np.arange(2)),
    "step": (None, 1.5, torch.arange(2)),
}


@pytest.mark.parametrize("name", PLAIN)
def test_numbers_and_flags_of_wrong_types(name: str) -> None:
    for wrong in PLAIN[name]:
        with pytest.raises(TypeError, match=f"^{name} must be an? (bool|int), got [a-zA-Z]+$"):
            serialize(EDGES, PTR, **{"seed": 0, name: wrong})
        with pytest.raises(TypeError, match=f"^{name} must be an? (bool|int), got [a-zA-Z]+$"):
            host.serialize(EDGES.numpy(), PTR.numpy(), **{"seed": 0, name: wrong})


def test_scope_and_mode_of_wrong_types() -> None:
    nodes, ptr = torch.tensor([0, 1], dtype=torch.int32), torch.tensor([0, 2])
    for face, arrays in ((reindex, (nodes, ptr)), (host.reindex, (nodes.numpy(), ptr.numpy()))):
        for scope in (None, "4", 4.0, torch.arange(2)):
            with pytest.raises(TypeError, match="^scope must be an int, got"):
                face(*arrays, scope=scope)
        with pytest.raises(ValueError, match="^scope must lie in"):
            face(*arrays, scope=1 << 70)
        with pytest.raises(TypeError, match="^mode must be one of first_visit, cyclic, random, got ndarray$"):
            face(*arrays, scope=4, mode=np.ones(2))
    assert reindex(nodes, ptr, scope=np.int64(4)).tolist() == [0, 1]


def test_numpy_numbers_draw_as_plain_ones() -> None:
    drawn = serialize(EDGES, PTR, seed=np.int64(7), step=np.int32(2))
    assert all(map(torch.equal, drawn, serialize(EDGES, PTR, seed=7, step=2)))


OUT_OF_MEMORY = """
import resource
import numpy as np
from sslkernels import host

none = np.zeros((2, 0), np.int64)
host.serialize(none, np.array([0, 50]), seed=0)
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
try:
    host.serialize(none, np.array([0, 1 << 29]), seed=0)
except MemoryError:
    print("refused", len(host.serialize(none, np.array([0, 200_000]), seed=0).nodes))
"""


@pytest.mark.skipif(
    "libasan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer reserves more than the limit"
)
def test_a_graph_after_one_too_large_for_the_memory() -> None:
    """The workspace keeps its size where it could not grow: the next graph must not run past its end."""
    found = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True)
    assert found.stdout.split() == ["refused", "200000"], found.stderr
