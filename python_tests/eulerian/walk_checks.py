"""What any walk must satisfy, worked out from the definition alone; and shortest lengths by matching."""

from collections import Counter, defaultdict, deque
from itertools import combinations, pairwise

import networkx as nx
import torch

from sslkernels.eulerian import EulerPaths

Columns = list[tuple[int, int]]


def both_ways(edges: Columns) -> Columns:
    """Columns of an undirected graph: (u, v) and (v, u), one of a self-loop."""
    return [column for u, v in edges for column in ([(u, v), (v, u)] if u != v else [(u, v)])]


def tensors(graphs: list[tuple[int, Columns]]) -> tuple[torch.Tensor, torch.Tensor]:
    """edge_index and graph_ptr of graphs given as (number of nodes, columns in local ids)."""
    ptr, columns = [0], []
    for nodes, local in graphs:
        columns += [(u + ptr[-1], v + ptr[-1]) for u, v in local]
        ptr.append(ptr[-1] + nodes)
    return torch.tensor(columns, dtype=torch.int64).reshape(-1, 2).T.contiguous(), torch.tensor(ptr)


def split(paths: EulerPaths) -> list[tuple[list[int], list[int]]]:
    """nodes and edges of each graph."""
    bounds = paths.ptr.tolist()
    return [(paths.nodes[b:e].tolist(), paths.edges[b:e].tolist()) for b, e in pairwise(bounds)]


def edge_names(columns: Columns) -> dict[int, int]:
    """The first column of the edge that each column belongs to."""
    waiting: dict[tuple[int, int], deque[int]] = defaultdict(deque)
    name = {}
    for place, (u, v) in enumerate(columns):
        if u != v and waiting[v, u]:
            name[place] = waiting[v, u].popleft()
        else:
            name[place] = place
            waiting[u, v].append(place)
    return name


def edges_of(columns: Columns) -> Columns:
    """The edges of a graph, one a name."""
    return [columns[name] for name in sorted(set(edge_names(columns).values()))]


def multigraph(nodes: int, edges: Columns, directed: bool = False) -> nx.MultiGraph:
    graph = nx.MultiDiGraph() if directed else nx.MultiGraph()
    graph.add_nodes_from(range(nodes))
    graph.add_edges_from(edges)
    return graph


def assert_walk(nodes: int, columns: Columns, walk: tuple[list[int], list[int]], first: int = 0) -> None:
    """An undirected walk: every edge, every node, steps that join, one jump between components."""
    visited, steps = walk
    assert set(visited) == set(range(nodes))
    assert len(visited) == len(steps)
    if nodes == 0:
        return
    assert steps[0] == -1
    assert all(step == -2 or step >= 0 for step in steps[1:])
    local = [step - first if step >= 0 else step for step in steps]
    assert {step for step in local if step >= 0} == set(edge_names(columns).values())
    for i, step in enumerate(local):
        if step >= 0:
            assert {visited[i - 1], visited[i]} == set(columns[step])
    graph = multigraph(nodes, columns)
    assert local.count(-2) == nx.number_connected_components(graph) - 1


def assert_directed_walk(
    nodes: int, columns: Columns, walk: tuple[list[int], list[int]], *, free: bool = True
) -> None:
    """Every column in its direction; jumps only where nothing unwalked can be reached; trails where there
    are any (`free`: no start was asked for)."""
    visited, steps = walk
    assert set(visited) == set(range(nodes))
    graph = multigraph(nodes, columns, directed=True)
    reach = {v: nx.descendants(graph, v) | {v} for v in graph}
    components = [set(c) for c in nx.weakly_connected_components(graph)]
    home = {v: c for c, members in enumerate(components) for v in members}
    walked: Counter[int] = Counter()
    jumps: Counter[int] = Counter()
    for i, step in enumerate(steps):
        if step >= 0:
            assert columns[step] == (visited[i - 1], visited[i])
            walked[step] += 1
        elif i == 0:
            assert step == -1
        else:
            assert step == -2
            left = [c for k, c in enumerate(columns) if not walked[k] and c[0] in reach[visited[i - 1]]]
            assert not left, f"jumped from {visited[i - 1]} though {left} could be reached"
            jumps[home[visited[i]]] += home[visited[i - 1]] == home[visited[i]]
    assert set(walked) == set(range(len(columns)))
    for c, members in enumerate(components):
        part = graph.subgraph(members)
        if nx.is_strongly_connected(part):
            assert jumps[c] == 0
        if free and (nx.has_eulerian_path(part) or nx.is_eulerian(part)):
            assert jumps[c] == 0
            assert all(walked[k] == 1 for k, (u, _) in enumerate(columns) if u in members)


def odd_nodes(graph: nx.MultiGraph, members: set[int]) -> list[int]:
    return [v for v in members if graph.degree(v) % 2]


def shortest_length(nodes: int, edges: Columns, *, closed: bool = False, start: int | None = None) -> int:
    """Edges of a shortest walk, by a minimum-weight matching of the odd nodes of each component, free ones
    matched at no cost (Edmonds and Johnson, Mathematical Programming 5, 1973)."""
    graph, total = multigraph(nodes, edges), len(edges)
    for members in nx.connected_components(graph):
        odd, free = odd_nodes(graph, members), 0 if closed else 2
        if start in members and not closed:
            odd, free = sorted(set(odd) ^ {start}), 1
        if len(odd) <= free:
            continue
        length = dict(nx.all_pairs_shortest_path_length(nx.Graph(graph.subgraph(members))))
        pairs = nx.Graph()
        for u, v in combinations(odd, 2):
            pairs.add_edge(u, v, weight=length[u][v])
        for u in odd:
            for end in range(free):
                pairs.add_edge(u, ("free", end), weight=0)
        total += sum(pairs.edges[pair]["weight"] for pair in nx.min_weight_matching(pairs))
    return total
