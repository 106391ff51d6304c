"""serialize with undirected=False: directions kept, trails found, jumps only where nothing is in reach."""

import itertools
import random

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from walk_checks import Columns, assert_directed_walk, multigraph, split, tensors

from sslkernels.eulerian import serialize


def walk_one(nodes: int, columns: Columns, **options: object) -> tuple[list[int], list[int]]:
    edge_index, graph_ptr = tensors([(nodes, columns)])
    options.setdefault("seed", 0)
    return split(serialize(edge_index, graph_ptr, undirected=False, **options))[0]


def check(nodes: int, columns: Columns, seed: int) -> None:
    graph = multigraph(nodes, columns, directed=True)
    strong = all(nx.is_strongly_connected(graph.subgraph(c)) for c in nx.weakly_connected_components(graph))
    start = torch.tensor([seed % nodes])
    assert_directed_walk(nodes, columns, walk_one(nodes, columns, seed=seed))
    assert_directed_walk(nodes, columns, walk_one(nodes, columns, shuffle=False))
    bound = walk_one(nodes, columns, seed=seed, start=start)
    assert bound[0][0] == seed % nodes
    assert_directed_walk(nodes, columns, bound, free=False)
    if not strong:
        with pytest.raises(ValueError, match=r"closed=True: graph 0 .* strongly connected"):
            walk_one(nodes, columns, closed=True, seed=seed)
        return
    visited, steps = walk_one(nodes, columns, closed=True, seed=seed)
    assert_directed_walk(nodes, columns, (visited, steps), free=False)
    borders = [0, *[i for i, step in enumerate(steps) if step == -2], len(steps)]
    for begin, end in itertools.pairwise(borders):
        assert visited[begin] == visited[end - 1]


@st.composite
def digraphs(draw: st.DrawFn) -> tuple[int, Columns, int]:
    """Random arcs, or the arcs of one trail in any order; loops and parallel arcs included; a seed."""
    nodes = draw(st.integers(1, 9))
    node = st.integers(0, nodes - 1)
    if draw(st.booleans()):
        trail = draw(st.lists(node, min_size=1, max_size=20))
        columns = draw(st.permutations(list(itertools.pairwise(trail))))
    else:
        columns = draw(st.lists(st.tuples(node, node), max_size=22))
    return nodes, columns, draw(st.integers(0, 2**63 - 1))


@settings(max_examples=250, deadline=None)
@given(digraphs())
def test_random_digraphs(problem: tuple[int, Columns, int]) -> None:
    check(*problem)


def has_trail(columns: Columns, nodes: int) -> bool:
    """By trying every order of the arcs."""
    return any(
        all(a[1] == b[0] for a, b in itertools.pairwise(order)) for order in itertools.permutations(columns)
    )


def test_trails_against_brute_force() -> None:
    """All digraphs of four arcs on three nodes: four arcs and no jump exactly where there is a trail."""
    arcs = list(itertools.product(range(3), repeat=2))
    for columns in itertools.combinations_with_replacement(arcs, 4):
        touched = sorted({v for arc in columns for v in arc})
        local = [(touched.index(u), touched.index(v)) for u, v in columns]
        _, steps = walk_one(len(touched), local)
        once = len(steps) == 5 and -2 not in steps
        assert once == has_trail(local, len(touched)), local


@pytest.mark.parametrize("seed", range(4))
def test_strong_components_without_a_jump(seed: int) -> None:
    rng = random.Random(seed)
    nodes = 80
    columns = [(i, (i + 1) % nodes) for i in range(nodes)]
    columns += [(rng.randrange(nodes), rng.randrange(nodes)) for _ in range(150)]
    visited, steps = walk_one(nodes, columns, seed=seed)
    assert -2 not in steps
    assert_directed_walk(nodes, columns, (visited, steps))
    assert len(steps) <= 2 * len(columns)


def test_arcs_led_over_the_root() -> None:
    """Many arcs to spare far from the nodes that lack them: the search gives up, the walk is still whole."""
    ring, spokes = 600, 60
    columns = [(i, (i + 1) % ring) for i in range(ring)]
    columns += [(300 + i % 3, (i * 7) % 250) for i in range(spokes)]
    columns += [(260 + i % 30, 300) for i in range(spokes)]
    visited, steps = walk_one(ring, columns, seed=1)
    assert -2 not in steps
    assert_directed_walk(ring, columns, (visited, steps))


@pytest.mark.parametrize("arcs", [10**5])
def test_large_digraph(arcs: int) -> None:
    generator = torch.Generator().manual_seed(1)
    edge_index = torch.randint(arcs // 3, (2, arcs), generator=generator)
    paths = serialize(edge_index, torch.tensor([0, arcs // 3]), undirected=False, seed=3)
    walked = paths.edges[paths.edges >= 0].long()
    assert torch.equal(walked.unique(), torch.arange(arcs))
    places = (paths.edges >= 0).nonzero().squeeze(1)
    assert torch.equal(paths.nodes[places].long(), edge_index[1, walked])
    assert torch.equal(paths.nodes[places - 1].long(), edge_index[0, walked])
    assert len(walked) < 2.5 * arcs
