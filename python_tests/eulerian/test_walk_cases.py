"""Small inputs on which other packages went wrong, each with the thread where it was met."""

from itertools import pairwise

import pytest
import torch
from walk_checks import assert_walk, both_ways, split, tensors

from sslkernels.eulerian import deserialize, serialize


def walk(nodes: int, columns: list[tuple[int, int]], **options: object) -> tuple[list[int], list[int]]:
    edge_index, graph_ptr = tensors([(nodes, columns)])
    return split(serialize(edge_index, graph_ptr, seed=options.pop("seed", 0), **options))[0]


def walked(steps: list[int]) -> int:
    return sum(step >= 0 for step in steps)


@pytest.mark.parametrize("seed", range(6))
def test_need_not_come_back(seed: int) -> None:
    """rkistner/chinese-postman #13: an open walk is shorter than the closed one."""
    ring, other = [1, 2, 3, 4, 5, 6, 1], [7, 8, 9, 0, 10, 11, 7]
    columns = both_ways([(0, 1), *pairwise(ring), *pairwise(other)])
    visited, steps = walk(12, columns, seed=seed)
    assert walked(steps) == 13
    assert {visited[0], visited[-1]} == {0, 1}
    assert walked(walk(12, columns, closed=True, seed=seed)[1]) == 14


@pytest.mark.parametrize("seed", range(6))
def test_edge_walked_twice_is_one_edge(seed: int) -> None:
    """networkx #4760: both passes name the same column."""
    columns = both_ways([(i, i + 1) for i in range(8)] + [(0, 3), (4, 8)])
    visited, steps = walk(9, columns, seed=seed)
    assert walked(steps) == 10
    assert {visited[0], visited[-1]} == {3, 4}
    closed = walk(9, columns, closed=True, seed=seed)
    assert walked(closed[1]) == 11
    assert len({step for step in closed[1] if step >= 0}) == 10
    assert_walk(9, columns, closed)


def test_pairs_by_the_sum_of_distances() -> None:
    """networkx #5952, jgrapht #385: odd nodes 0, 2, 3, 5 on a path. The nearest two first (or the sum of
    reciprocals) repeats 1 + 5 edges, the sum of the distances 2 + 2."""
    detour = [2, *range(6, 14), 3]
    columns = both_ways([(i, i + 1) for i in range(5)] + list(pairwise(detour)))
    assert walked(walk(14, columns, closed=True)[1]) == 14 + 4
    assert walked(walk(14, columns)[1]) == 14 + 1


@pytest.mark.parametrize("seed", range(6))
def test_no_trail_no_invented_arc(seed: int) -> None:
    """networkx #4244: three arcs, each once, and one jump."""
    _, steps = walk(3, [(0, 1), (1, 2), (0, 2)], undirected=False, seed=seed)
    assert sorted(steps) == [-2, -1, 0, 1, 2]


@pytest.mark.parametrize("start", [None, 1])
def test_where_the_trail_must_begin(start: int | None) -> None:
    """networkx #3976: the only trail is 1 0 1 2 3 2."""
    where = None if start is None else torch.tensor([start])
    columns = [(0, 1), (1, 0), (1, 2), (2, 3), (3, 2)]
    for seed in range(4):
        visited, steps = walk(4, columns, undirected=False, start=where, seed=seed)
        assert visited == [1, 0, 1, 2, 3, 2]
        assert steps == [-1, 1, 0, 2, 3, 4]


@pytest.mark.parametrize("undirected", [True, False])
def test_isolated_node_beside_a_circuit(undirected: bool) -> None:
    """networkx #5594."""
    columns = [(0, 1), (1, 2), (2, 0)]
    for seed in range(5):
        visited, steps = walk(4, columns, undirected=undirected, seed=seed)
        assert sorted(steps) == [-2, -1, 0, 1, 2]
        assert 3 in (visited[0], visited[-1])


def test_node_whose_only_edge_is_its_loop() -> None:
    """igraph #1346, ubergraph #15."""
    visited, steps = walk(4, [(0, 1), (1, 0), (2, 2)])
    assert (walked(steps), steps.count(-2), len(visited)) == (2, 2, 5)
    assert 2 in steps  # the loop's column


def test_a_loop_does_not_change_parity() -> None:
    """yog_ex #28, algs4 #59."""
    columns = [(0, 1), (1, 0), (1, 1)]
    assert walked(walk(2, columns)[1]) == 2
    assert walked(walk(2, columns, closed=True)[1]) == 3
    assert walked(walk(2, [*columns, (1, 1)])[1]) == 3


def test_number_of_nodes_is_given() -> None:
    """PyG #190 and #2877: nodes 2, 3, 4 of the first graph appear by jumps."""
    edge_index = torch.tensor([[0, 1, 5, 6], [1, 0, 6, 5]])
    first, second = split(serialize(edge_index, torch.tensor([0, 5, 7]), seed=0))
    assert sorted(first[0]) == [0, 1, 2, 3, 4]
    assert first[1].count(-2) == 3
    assert sorted(second[0]) == [0, 1]


def test_edgeless_graphs_in_last_place() -> None:
    """PyG #10815, #1824."""
    graph_ptr = torch.tensor([0, 2, 3, 3])
    paths = serialize(torch.tensor([[0, 1], [1, 0]]), graph_ptr, seed=0)
    assert paths.ptr.tolist() == [0, 2, 3, 3]
    edge_index, back = deserialize(paths)
    assert torch.equal(back, graph_ptr)
    assert edge_index.tolist() == [[0, 1], [1, 0]]


def test_parallel_edges_keep_their_columns() -> None:
    """networkx #2358, postman_problems #34: both parallel edges come back, each once."""
    _, steps = walk(2, [(0, 1), (1, 0), (0, 1), (1, 0)])
    assert sorted(steps) == [-1, 0, 2]


def test_direction_at_the_start() -> None:
    """jgrapht #388: `nodes` says where the walk begins."""
    columns = both_ways([(0, 1), (0, 1), (1, 2)])
    visited, steps = walk(3, columns, start=torch.tensor([1]))
    assert visited == [1, 0, 1, 2]
    assert_walk(3, columns, (visited, steps))


def test_whose_numbering() -> None:
    """PyG #31: batch ids in, local ids out, columns of the batch."""
    edge_index = torch.tensor([[0, 1, 3, 4], [1, 0, 4, 3]])
    paths = serialize(edge_index, torch.tensor([0, 2, 5]), shuffle=False)
    assert split(paths) == [([0, 1], [-1, 0]), ([0, 1, 2], [-1, -2, 2])]


def test_two_edges_are_not_a_path() -> None:
    """K2 + K2 without attributes differs from P4 and comes back as K2 + K2."""
    paths = serialize(*tensors([(4, both_ways([(0, 1), (2, 3)]))]), seed=3)
    assert paths.edges.tolist().count(-2) == 1
    assert deserialize(paths)[0].tolist() == [[0, 1, 2, 3], [1, 0, 3, 2]]


# -- sizes ---------------------------------------------------------------------------------------------------


def test_star_with_many_leaves() -> None:
    leaves = 10**5
    hub = torch.zeros(leaves, dtype=torch.int64)
    leaf = torch.arange(1, leaves + 1)
    edge_index = torch.stack([torch.cat([hub, leaf]), torch.cat([leaf, hub])])
    paths = serialize(edge_index, torch.tensor([0, leaves + 1]), seed=0)
    assert len(paths.edges) == 2 * leaves - 1  # all but the two ends go and come back


@pytest.mark.parametrize("undirected", [True, False])
def test_path_of_a_million_nodes(undirected: bool) -> None:
    nodes = 10**6
    node = torch.randperm(nodes, generator=torch.Generator().manual_seed(0))
    edge_index = torch.stack([node[:-1], node[1:]])
    paths = serialize(edge_index, torch.tensor([0, nodes]), undirected=undirected, seed=2)
    found = paths.nodes if paths.nodes[0] == node[0] else paths.nodes.flip(0)
    assert torch.equal(found.long(), node)


@pytest.mark.parametrize("closed", [False, True])
def test_complete_graph_of_501_nodes(closed: bool) -> None:
    columns = torch.combinations(torch.arange(501))
    edge_index = torch.cat([columns, columns.flip(1)]).T.contiguous()
    paths = serialize(edge_index, torch.tensor([0, 501]), closed=closed, seed=0)
    assert len(paths.edges) == 501 * 500 // 2 + 1  # every degree is even


@pytest.mark.parametrize("order", ["pairs", "sorted"])
def test_a_million_edges(order: str) -> None:
    edges, nodes = 10**6, 5 * 10**5
    source, target = torch.randint(nodes, (2, edges), generator=torch.Generator().manual_seed(4))
    edge_index = torch.stack([torch.stack([source, target], 1), torch.stack([target, source], 1)]).flatten(1)
    loops = (edge_index[0] == edge_index[1]) & (torch.arange(2 * edges) % 2 == 1)
    edge_index = edge_index[:, ~loops]
    if order == "sorted":
        edge_index = edge_index[:, (edge_index[0] * nodes + edge_index[1]).argsort(stable=True)]
    paths = serialize(edge_index, torch.tensor([0, nodes]), seed=1)
    steps = (paths.edges >= 0).nonzero().squeeze(1)
    names = paths.edges[steps].long()
    ends = torch.stack([paths.nodes[steps - 1], paths.nodes[steps]]).long().sort(0).values
    assert torch.equal(ends, edge_index[:, names].sort(0).values)
    assert len(names.unique()) == edges
    assert len(names) <= 1.25 * edges
    back, _ = deserialize(paths)
    assert back.shape == edge_index.shape
