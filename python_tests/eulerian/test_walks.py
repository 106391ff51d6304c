"""serialize on undirected graphs: valid, shortest, canonical, independent of the batch."""

import random
from itertools import pairwise

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from walk_checks import (
    Columns,
    assert_walk,
    both_ways,
    edges_of,
    multigraph,
    odd_nodes,
    shortest_length,
    split,
    tensors,
)

from sslkernels.eulerian import serialize


def walk_one(nodes: int, columns: Columns, **options: object) -> tuple[list[int], list[int]]:
    edge_index, graph_ptr = tensors([(nodes, columns)])
    options.setdefault("seed", 0)
    return split(serialize(edge_index, graph_ptr, **options))[0]


def length(walk: tuple[list[int], list[int]]) -> int:
    return sum(step >= 0 for step in walk[1])


def path(n: int) -> Columns:
    return [(i, i + 1) for i in range(n - 1)]


CONFORMANCE = {
    "P4": (4, path(4), 3),
    "S3": (4, [(0, 1), (0, 2), (0, 3)], 4),
    "K4": (4, list(nx.complete_graph(4).edges), 7),
    "C6": (6, list(nx.cycle_graph(6).edges), 6),
    "Petersen": (10, list(nx.petersen_graph().edges), 19),
}


@pytest.mark.parametrize("name", CONFORMANCE)
@pytest.mark.parametrize("seed", range(8))
def test_conformance_lengths(name: str, seed: int) -> None:
    nodes, edges, expected = CONFORMANCE[name]
    walk = walk_one(nodes, both_ways(edges), seed=seed)
    assert_walk(nodes, both_ways(edges), walk)
    assert length(walk) == expected
    assert length(walk_one(nodes, both_ways(edges), seed=seed, closed=True)) == shortest_length(
        nodes, edges, closed=True
    )


def check_shortest(nodes: int, columns: Columns, seed: int) -> None:
    edges = edges_of(columns)
    graph = multigraph(nodes, edges)
    most = max(len(odd_nodes(graph, members)) for members in nx.connected_components(graph))
    start = seed % nodes
    for options in ({}, {"closed": True}, {"start": torch.tensor([start])}, {"shuffle": False}):
        walk = walk_one(nodes, columns, seed=seed, **options)
        assert_walk(nodes, columns, walk)
        closed = options.get("closed", False)
        shortest = shortest_length(nodes, edges, closed=closed, start=start if "start" in options else None)
        if most <= 12:
            assert length(walk) == shortest
        else:
            assert length(walk) <= 1.1 * shortest
        if "start" in options:
            assert walk[0][0] == start


def test_networkx_atlas() -> None:
    """All 1,253 graphs of at most seven nodes, in one batch."""
    graphs = [(g.number_of_nodes(), both_ways(list(g.edges))) for g in nx.graph_atlas_g()]
    edge_index, graph_ptr = tensors(graphs)
    paths = serialize(edge_index, graph_ptr, seed=5)
    first = 0
    for (nodes, columns), walk in zip(graphs, split(paths), strict=True):
        assert_walk(nodes, columns, walk, first)
        assert length(walk) == shortest_length(nodes, edges_of(columns))
        first += len(columns)


@pytest.mark.parametrize("graph", [nx.karate_club_graph, nx.les_miserables_graph])
def test_social_networks(graph: object) -> None:
    graph = nx.convert_node_labels_to_integers(graph())
    nodes, edges = graph.number_of_nodes(), list(graph.edges)
    for seed in range(5):
        walk = walk_one(nodes, both_ways(edges), seed=seed)
        assert_walk(nodes, both_ways(edges), walk)
        assert length(walk) <= 1.1 * shortest_length(nodes, edges)


@st.composite
def multigraphs(draw: st.DrawFn) -> tuple[int, Columns, int]:
    """Nodes, columns with parallel edges, loops and lone columns in any order, a seed."""
    nodes = draw(st.integers(1, 14))
    node = st.integers(0, nodes - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=30))
    columns: Columns = []
    for u, v in edges:
        columns += [(u, v), (v, u)] if u != v and draw(st.booleans()) else [(u, v)]
    order = draw(st.sampled_from(["as it is", "sorted", "shuffled"]))
    if order == "sorted":
        columns.sort()
    elif order == "shuffled":
        columns = draw(st.permutations(columns))
    return nodes, columns, draw(st.integers(0, 2**63 - 1))


@settings(max_examples=150, deadline=None)
@given(multigraphs())
def test_random_multigraphs_are_shortest(problem: tuple[int, Columns, int]) -> None:
    check_shortest(*problem)


@pytest.mark.parametrize("seed", range(6))
def test_many_chords_few_odd_nodes(seed: int) -> None:
    """More than 12 non-tree edges and at most 12 odd nodes: every pairing is tried."""
    rng = random.Random(seed)
    nodes = 60
    edges = [(i, (i + 1) % nodes) for i in range(nodes)]
    for _ in range(5):
        cycle = rng.sample(range(nodes), 12)
        edges += list(zip(cycle, cycle[1:] + cycle[:1], strict=True))
    odd = rng.sample(range(nodes), 12)
    edges += list(zip(odd[::2], odd[1::2], strict=True))
    check_shortest(nodes, both_ways(edges), seed)


@pytest.mark.parametrize("nodes", [60, 300])
def test_overhead_of_random_graphs(nodes: int) -> None:
    """Far more than 12 odd nodes: close to the shortest."""
    rng = random.Random(nodes)
    edges = [(rng.randrange(nodes), rng.randrange(nodes)) for _ in range(2 * nodes)]
    for closed in (False, True):
        walk = walk_one(nodes, both_ways(edges), closed=closed)
        assert_walk(nodes, both_ways(edges), walk)
        assert length(walk) <= 1.1 * shortest_length(nodes, edges, closed=closed)


def random_batch(seed: int, graphs: int = 40) -> list[tuple[int, Columns]]:
    rng = random.Random(seed)
    batch = []
    for _ in range(graphs):
        nodes = rng.randrange(0, 12)
        edges = [
            (rng.randrange(nodes), rng.randrange(nodes)) for _ in range(rng.randrange(18) if nodes else 0)
        ]
        batch.append((nodes, both_ways(edges)))
    return batch


@pytest.mark.parametrize("undirected", [True, False])
def test_batch_independence(undirected: bool) -> None:
    """A graph alone with its sample id walks as it does in a batch."""
    graphs = random_batch(1)
    edge_index, graph_ptr = tensors(graphs)
    paths = serialize(edge_index, graph_ptr, undirected=undirected, seed=9, step=4)
    first = 0
    for k, ((nodes, columns), (visited, steps)) in enumerate(zip(graphs, split(paths), strict=True)):
        alone = walk_one(nodes, columns, undirected=undirected, seed=9, step=4, sample_ids=torch.tensor([k]))
        assert alone == (visited, [step if step < 0 else step - first for step in steps])
        first += len(columns)


@pytest.mark.parametrize("undirected", [True, False])
def test_threads_and_edge_ptr_change_nothing(undirected: bool) -> None:
    graphs = random_batch(2, graphs=900)
    edge_index, graph_ptr = tensors(graphs)
    edge_ptr = torch.tensor([0] + [len(columns) for _, columns in graphs]).cumsum(0)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for where in (None, edge_ptr, edge_ptr.int()):
                found.append(serialize(edge_index, graph_ptr, edge_ptr=where, undirected=undirected, seed=3))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_32_bit_input_changes_nothing() -> None:
    edge_index, graph_ptr = tensors(random_batch(3))
    wide = serialize(edge_index, graph_ptr, seed=1)
    narrow = serialize(edge_index.int(), graph_ptr.int(), seed=1)
    assert all(torch.equal(a, b) for a, b in zip(wide, narrow, strict=True))


def test_canonical_without_shuffle() -> None:
    """The graph alone decides: not seed, step, sample id, batch or place in it."""
    graphs = random_batch(4, graphs=12)
    edge_index, graph_ptr = tensors(graphs)
    paths = serialize(edge_index, graph_ptr, shuffle=False)
    again = serialize(edge_index, graph_ptr, shuffle=False, seed=8, step=3, sample_ids=torch.arange(12) * 5)
    assert all(torch.equal(a, b) for a, b in zip(paths, again, strict=True))
    first = 0
    for (nodes, columns), (visited, steps) in zip(graphs, split(paths), strict=True):
        local = [step if step < 0 else step - first for step in steps]
        assert (visited, local) == walk_one(nodes, columns, shuffle=False, seed=None)
        first += len(columns)


def test_shuffle_varies_everything() -> None:
    """Over seeds, steps and sample ids: starts, directions, component orders and inner choices differ."""
    edges = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (6, 7), (7, 8), (8, 6), (6, 9), (9, 8)]
    edge_index, graph_ptr = tensors([(10, both_ways(edges))])
    walks = [
        split(serialize(edge_index, graph_ptr, seed=seed, step=step, sample_ids=torch.tensor([sample])))[0]
        for seed, step, sample in [(s, t, k) for s in range(6) for t in range(6) for k in (-3, 0, 2**62)]
    ]
    assert {walk[0][0] for walk in walks} >= {0, 1, 2, 3, 5, 6, 8}
    assert len({tuple(walk[0]) for walk in walks}) > 80


@pytest.mark.parametrize("closed", [False, True])
def test_closed_walks_end_where_they_began(closed: bool) -> None:
    graphs = random_batch(6)
    edge_index, graph_ptr = tensors(graphs)
    for visited, steps in split(serialize(edge_index, graph_ptr, closed=closed, seed=2)):
        jumps = [0, *[i for i, step in enumerate(steps) if step == -2], len(steps)]
        for begin, end in pairwise(jumps):
            if closed and begin < end:
                assert visited[begin] == visited[end - 1]


def test_golden_walk() -> None:
    """Frozen: a change here changes every user's streams and needs a major version."""
    edges = [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 2), (4, 5), (6, 7), (7, 7)]
    visited, steps = walk_one(9, both_ways(edges), seed=20240607, step=11, sample_ids=torch.tensor([42]))
    assert visited == [6, 7, 7, 4, 2, 1, 0, 2, 3, 4, 5, 8]
    assert steps == [-1, 14, 16, -2, 10, 2, 0, 4, 6, 8, 12, -2]
    visited, steps = walk_one(
        9, both_ways(edges), seed=20240607, step=11, sample_ids=torch.tensor([42]), undirected=False
    )
    assert visited == [6, 7, 7, 6, 4, 2, 1, 0, 2, 4, 3, 2, 0, 1, 2, 3, 4, 5, 4, 8]
    assert steps == [-1, 14, 16, 15, -2, 10, 3, 1, 5, 11, 9, 7, 4, 0, 2, 6, 8, 12, 13, -2]
