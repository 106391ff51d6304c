"""serialize with undirected=False: directions kept, trails found, jumps only where nothing is in reach."""

import itertools
import random
import time

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


def random_arcs(arcs: int, degree: float, acyclic: bool = False) -> tuple[int, torch.Tensor]:
    nodes = int(arcs / degree)
    ends = torch.randint(nodes, (2, arcs), generator=torch.Generator().manual_seed(1))
    if acyclic:
        ends = ends.sort(0).values
        ends = ends[:, ends[0] < ends[1]]
    return nodes, ends


def rings(count: int, size: int) -> tuple[int, torch.Tensor]:
    """A path of rings; each is entered at its first node and left at its last."""
    first = torch.arange(0, count * size, size)
    place = torch.arange(size).repeat(count)
    base = first.repeat_interleave(size)
    inside = torch.stack([base + place, base + (place + 1) % size])
    return count * size, torch.cat([inside, torch.stack([first[:-1] + size - 1, first[1:]])], 1)


def far_apart(middle: torch.Tensor, nodes: int, enter: int, leave: int) -> tuple[int, torch.Tensor]:
    """As many sources as nodes before `enter`, as many leaves after `leave`."""
    extra, node = torch.arange(nodes), torch.ones(nodes, dtype=torch.int64)
    sources = torch.stack([nodes + extra, enter * node])
    return 3 * nodes, torch.cat([middle, sources, torch.stack([leave * node, 2 * nodes + extra])], 1)


def large_digraph(kind: str, arcs: int) -> tuple[int, torch.Tensor]:
    third = torch.arange(arcs // 3)
    around = torch.stack([third, (third + 1) % len(third)])
    if kind == "stars":
        return 2 * arcs, torch.stack([torch.arange(1, arcs + 1), torch.zeros(arcs, dtype=torch.int64)])
    if kind == "sources and a long path and leaves":
        return far_apart(around[:, :-1], len(third), 0, len(third) - 1)
    if kind == "a ring entered behind its exit":
        return far_apart(around, len(third), 1, 0)
    if kind.startswith("rings of"):
        size = int(kind.split()[-1])
        return rings(arcs // (size + 1), size)
    return random_arcs(arcs, float(kind.split()[-1]), acyclic=kind.startswith("acyclic"))


LARGE = """random 1, random 1.5, random 3, random 5, random 20, acyclic 5, stars, rings of 2, rings of 1000,
sources and a long path and leaves, a ring entered behind its exit"""


@pytest.mark.parametrize("kind", LARGE.replace("\n", " ").split(", "))
@pytest.mark.parametrize("bound", [False, True])
def test_large_digraph(kind: str, bound: bool) -> None:
    """Every arc in its direction and few repeated, far below the time that one search an arc takes."""
    nodes, edge_index = large_digraph(kind, 10**5)
    arcs = edge_index.shape[1]
    where = torch.tensor([0, arcs])
    start = torch.tensor([nodes // 6]) if bound else None
    ptr = torch.tensor([0, nodes])
    began = time.process_time()
    paths = serialize(edge_index, ptr, edge_ptr=where, undirected=False, seed=3, start=start)
    assert time.process_time() - began < 20
    walked = paths.edges[paths.edges >= 0].long()
    assert torch.equal(walked.unique(), torch.arange(arcs))
    places = (paths.edges >= 0).nonzero().squeeze(1)
    assert torch.equal(paths.nodes[places].long(), edge_index[1, walked])
    assert torch.equal(paths.nodes[places - 1].long(), edge_index[0, walked])
    touched = edge_index.unique().numel()
    assert len(paths.nodes) - (nodes - touched) < 2.5 * arcs
    if kind.startswith("rings"):
        assert not (paths.edges == -2).any() or bound


@pytest.mark.parametrize("seed", range(4))
def test_acyclic_graphs_repeat_nothing(seed: int) -> None:
    """Every arc once, in as few trails as have an end: where more arcs enter a node than leave it."""
    rng = random.Random(seed)
    columns = [tuple(sorted(rng.sample(range(60), 2))) for _ in range(150)]
    graph = multigraph(60, columns, directed=True)
    _, steps = walk_one(60, columns, seed=seed)
    ends = 0
    for members in nx.weakly_connected_components(graph):
        ends += max(1, sum(max(0, graph.in_degree(v) - graph.out_degree(v)) for v in members))
    assert sorted(step for step in steps if step >= 0) == list(range(150))
    assert len(steps) == 150 + ends
