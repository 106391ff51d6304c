"""Graph tokens: reversible on every graph, masked and packed as promised."""

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from token_graphs import LAYOUTS, assert_reversible, batch_of, batches, molecules, plain, random_graph

from sslkernels.eulerian.graph_batch import GraphBatch
from sslkernels.eulerian.tokens.tokenizer import GraphTokenizer
from sslkernels.eulerian.tokens.vocabulary import BOTH, FIRST_ID, SEEN
from sslkernels.molecules import ATOM_FEATURES, BOND_FEATURES

both_layouts = pytest.mark.parametrize("layout", LAYOUTS)


def from_networkx(graph: nx.Graph, weight: str | None = None) -> GraphBatch:
    """A batch of one graph, its edges in networkx's order; `weight` becomes the edge feature."""
    number = {node: at for at, node in enumerate(graph)}
    columns = []
    for u, v, data in graph.edges(data=True):
        row = (int(data[weight]),) if weight else ()
        columns.append((number[u], number[v], row))
        if u != v:
            columns.append((number[v], number[u], row))
    return batch_of([(len(graph), columns, [()] * len(graph))], 0, 1 if weight else 0)


# -- reversible ----------------------------------------------------------------------------------------------


@both_layouts
@pytest.mark.parametrize(("edge_direction", "seed"), [(True, 0), (True, 2**62), (False, 1)])
def test_all_molecules(layout: str, edge_direction: bool, seed: int) -> None:
    tokenizer = GraphTokenizer(ATOM_FEATURES, BOND_FEATURES, layout=layout, edge_direction=edge_direction)
    assert_reversible(tokenizer, molecules(), seed=seed)


@both_layouts
def test_molecules_as_pyg_sorts_them(layout: str) -> None:
    batch = molecules()
    order = (batch.edge_index[0] * batch.node_features.shape[0] + batch.edge_index[1]).argsort()
    ordered = batch._replace(edge_index=batch.edge_index[:, order], edge_features=batch.edge_features[order])
    tokenizer = GraphTokenizer(ATOM_FEATURES, BOND_FEATURES, layout=layout)
    assert_reversible(tokenizer, ordered, seed=3)


@both_layouts
def test_the_atlas(layout: str) -> None:
    graphs = [plain(len(graph), list(graph.edges)) for graph in nx.graph_atlas_g()]
    assert len(graphs) == 1253
    assert_reversible(GraphTokenizer([], [], scope=7, layout=layout), batch_of(graphs, 0, 0), seed=1)


@both_layouts
@pytest.mark.parametrize("seed", range(3))
def test_social_networks(layout: str, seed: int) -> None:
    karate = from_networkx(nx.karate_club_graph(), "weight")
    assert_reversible(GraphTokenizer([], [9], layout=layout), karate, seed=seed)
    novel = from_networkx(nx.les_miserables_graph(), "weight")
    assert_reversible(GraphTokenizer([], [40], scope=77, layout=layout), novel, seed=seed)


@settings(max_examples=200, deadline=None)
@given(batches(), st.integers(0, 2**63 - 1), st.booleans())
def test_random_multigraphs(case: tuple[GraphBatch, dict[str, Any]], seed: int, shuffle: bool) -> None:
    batch, options = case
    assert_reversible(GraphTokenizer(**options), batch, seed=seed, shuffle=shuffle)


@both_layouts
def test_networkx_agrees(layout: str) -> None:
    """The same by networkx's own test of isomorphism, on multigraphs with features."""
    tokenizer = GraphTokenizer([3], [2], layout=layout)
    rng = random.Random(5)
    for seed in range(40):
        batch = batch_of([random_graph(rng, 1, 1, largest=6)], 1, 1)
        encoded = tokenizer.encode(batch, seed=seed)
        decoded = tokenizer.decode(encoded.tokens, encoded.ptr)
        assert nx.is_isomorphic(
            as_networkx(batch),
            as_networkx(decoded),
            node_match=lambda a, b: a == b,
            edge_match=lambda a, b: (
                sorted(e["row"] for e in a.values()) == sorted(e["row"] for e in b.values())
            ),
        )


def as_networkx(batch: GraphBatch) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    for node, row in enumerate(batch.node_features.tolist()):
        graph.add_node(node, row=tuple(row))
    for (u, v), row in zip(batch.edge_index.T.tolist(), batch.edge_features.tolist(), strict=True):
        graph.add_edge(u, v, row=tuple(row))
    return graph


@both_layouts
def test_two_edges_are_no_path(layout: str) -> None:
    """K2 + K2 without attributes differs from P4, whatever the seed."""
    tokenizer = GraphTokenizer([], [], layout=layout)
    apart, path = (
        batch_of([plain(4, [(0, 1), (2, 3)])], 0, 0),
        batch_of([plain(4, [(0, 1), (1, 2), (2, 3)])], 0, 0),
    )
    for seed in range(20):
        encoded = assert_reversible(tokenizer, apart, seed=seed)
        assert tokenizer.jump_id in encoded.tokens
        other = assert_reversible(tokenizer, path, seed=seed)
        assert tokenizer.jump_id not in other.tokens


@both_layouts
def test_many_odd_nodes(layout: str) -> None:
    """Where walks are no longer the shortest an edge is still walked at most twice, with a start too."""
    graphs = [nx.gnm_random_graph(200, 400 + 40 * k, seed=k) for k in range(4)]
    graphs += [nx.complete_graph(51), nx.complete_graph(50), nx.grid_2d_graph(9, 9), nx.petersen_graph()]
    graphs = [nx.convert_node_labels_to_integers(graph) for graph in graphs]
    batch = batch_of([plain(len(graph), list(graph.edges)) for graph in graphs], 0, 0)
    tokenizer = GraphTokenizer([], [], layout=layout)
    for seed in range(3):
        start = torch.tensor([(7 * seed + k) % len(graph) for k, graph in enumerate(graphs)])
        assert_reversible(tokenizer, batch, seed=seed)
        assert_reversible(tokenizer, batch, seed=seed, start=start)


@both_layouts
def test_large_graphs(layout: str) -> None:
    """No recursion, no quadratic time: a path of 10^5 nodes, a star of as many leaves, a loop 10^4 times
    over.
    """
    n = 10**5
    path = plain(n, [(u, u + 1) for u in range(n - 1)])
    star = plain(n, [(0, v) for v in range(1, n)])
    loops = plain(1, [(0, 0)] * 10**4)
    parallel = plain(2, [(0, 1)] * 10**4)
    tokenizer = GraphTokenizer([], [], scope=n, layout=layout)
    assert_reversible(tokenizer, batch_of([path, star, loops, parallel], 0, 0), seed=1)


# -- what a tokenizer says -----------------------------------------------------------------------------------


def test_special_tokens() -> None:
    tokenizer = GraphTokenizer([7, 2], [3], scope=20)
    ids = [tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.mask_id, tokenizer.jump_id]
    assert ids[0] == 0
    assert len(set(ids)) == 5
    assert all(0 <= token < tokenizer.vocab_size for token in ids)
    assert tokenizer.vocab_size == FIRST_ID + 20 + 7 + 2 + 3


@both_layouts
def test_save_and_load(layout: str, tmp_path: Path) -> None:
    tokenizer = GraphTokenizer([7, 2], [3], scope=20, layout=layout, edge_direction=False)
    tokenizer.save(tmp_path / "tokenizer.json")
    assert GraphTokenizer.load(tmp_path / "tokenizer.json") == tokenizer
    (tmp_path / "other.json").write_text('{"vocabulary": 3}')
    with pytest.raises(ValueError, match=r"other\.json holds no GraphTokenizer"):
        GraphTokenizer.load(tmp_path / "other.json")
    (tmp_path / "torn.json").write_text('{"scope": ')
    with pytest.raises(ValueError, match=r"torn\.json holds no GraphTokenizer"):
        GraphTokenizer.load(str(tmp_path / "torn.json"))


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"node_features": [0]}, ValueError, "node_features"),
        ({"edge_features": [3, -1]}, ValueError, "edge_features"),
        ({"node_features": "12"}, TypeError, "node_features"),
        ({"node_features": [1.5]}, TypeError, "node_features"),
        ({"node_features": [2**31]}, ValueError, "vocabulary"),
        ({"scope": 0}, ValueError, "scope"),
        ({"scope": 1.0}, TypeError, "scope"),
        ({"layout": "rows"}, ValueError, "layout"),
        ({"edge_direction": 1}, TypeError, "edge_direction"),
    ],
)
def test_wrong_hyper_parameters(options: dict[str, Any], error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=name):
        GraphTokenizer(**{"node_features": [2], "edge_features": [2], **options})


def one_graph(**changes: Any) -> GraphBatch:
    batch = batch_of([(2, [(0, 1, (1,)), (1, 0, (1,))], [(0,), (2,)])], 1, 1)
    return batch._replace(**{name: torch.tensor(value) for name, value in changes.items()})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"node_features": [[0], [3]]}, r"node_features\[1, 0\] is 3, outside \[0, 3\)"),
        ({"node_features": [[-1], [2]]}, r"node_features\[0, 0\] is -1"),
        ({"edge_features": [[2], [2]]}, r"edge_features\[0, 0\] is 2, outside \[0, 2\)"),
        ({"node_features": [[0, 1], [1, 1]]}, r"node_features must have shape \(n, 1\)"),
        ({"edge_features": [[1]]}, "edge_features"),
        ({"node_features": [[0]]}, "graph_ptr|node_features"),
        ({"node_features": [[0.0], [1.0]]}, "node_features must be int64, got float32"),
        ({"edge_index": [[0, 1], [1, 2]]}, r"edge_index\[1, 1\] is 2"),
        ({"edge_index": [[0, -1], [1, 0]]}, r"edge_index\[0, 1\] is -1"),
        ({"edge_index": [[0, 2], [1, 0]]}, r"edge_index\[0, 1\] is 2"),
        ({"graph_ptr": [0, 3, 2]}, "graph_ptr"),
        ({"graph_ptr": [1, 2]}, "graph_ptr"),
    ],
)
def test_wrong_batches(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GraphTokenizer([3], [2]).encode(one_graph(**changes), seed=0)


def test_an_edge_between_graphs_is_refused() -> None:
    batch = batch_of([plain(2, []), plain(2, [])], 0, 0)
    for columns in ([[0], [2]], [[2, 0], [3, 1]]):
        wrong = batch._replace(
            edge_index=torch.tensor(columns), edge_features=torch.empty(len(columns[0]), 0).long()
        )
        with pytest.raises(ValueError, match="edge_index"):
            GraphTokenizer([], []).encode(wrong, seed=0)


def test_scope_and_seed() -> None:
    tokenizer = GraphTokenizer([], [], scope=3)
    with pytest.raises(ValueError, match="scope"):
        tokenizer.encode(batch_of([plain(4, [(0, 1)])], 0, 0), seed=0)
    with pytest.raises(ValueError, match="seed"):
        tokenizer.encode(batch_of([plain(2, [(0, 1)])], 0, 0))
    assert tokenizer.encode(batch_of([plain(2, [(0, 1)])], 0, 0), shuffle=False).tokens.shape[0] == 2


def test_ids_may_be_int32() -> None:
    batch = one_graph()
    narrow = GraphBatch(*(tensor.int() for tensor in batch))
    tokenizer = GraphTokenizer([3], [2])
    assert torch.equal(tokenizer.encode(narrow, seed=1).tokens, tokenizer.encode(batch, seed=1).tokens)


# -- randomness ----------------------------------------------------------------------------------------------


def encoded_alone(tokenizer: GraphTokenizer, graph: Any, **options: Any) -> torch.Tensor:
    return tokenizer.encode(batch_of([graph], 2, 1), **options).tokens


@both_layouts
def test_a_graph_does_not_depend_on_its_batch(layout: str) -> None:
    rng = random.Random(2)
    graphs = [random_graph(rng, 2, 1) for _ in range(9)]
    tokenizer = GraphTokenizer([3, 3], [2], layout=layout)
    for shuffle in (True, False):
        together = tokenizer.encode(batch_of(graphs, 2, 1), seed=4, step=5, shuffle=shuffle)
        for at, graph in enumerate(graphs):
            own = together.tokens[together.ptr[at] : together.ptr[at + 1]]
            options = {"seed": 4, "step": 5, "sample_ids": torch.tensor([at])} if shuffle else {}
            assert torch.equal(own, encoded_alone(tokenizer, graph, shuffle=shuffle, **options))


@both_layouts
def test_seeds_steps_and_samples(layout: str) -> None:
    tokenizer = GraphTokenizer([], [], layout=layout)
    batch = batch_of([plain(9, [(u, (u + 1) % 9) for u in range(9)])] * 40, 0, 0)
    base = tokenizer.encode(batch, seed=1)
    assert torch.equal(base.tokens, tokenizer.encode(batch, seed=1).tokens)
    for other in ({"seed": 2}, {"seed": 1, "step": 1}, {"seed": 1, "sample_ids": torch.arange(40) + 40}):
        assert not torch.equal(base.tokens, tokenizer.encode(batch, **other).tokens)
    first = base.tokens[:, 0] if layout == "stacked" else base.tokens
    assert len(set(first[base.ptr[:-1]].tolist())) > 20, "ids start anywhere in the scope"


@both_layouts
def test_canonical_without_shuffling(layout: str) -> None:
    batch = molecules()
    tokenizer = GraphTokenizer(ATOM_FEATURES, BOND_FEATURES, layout=layout)
    encoded = assert_reversible(tokenizer, batch, shuffle=False)
    again = tokenizer.encode(batch, shuffle=False, seed=9, step=3, sample_ids=torch.arange(4991) + 7)
    assert torch.equal(encoded.tokens, again.tokens)
    ids = encoded.tokens if layout == "flat" else encoded.tokens[:, 0]
    assert bool((ids[encoded.ptr[:-1]] == FIRST_ID).all()), "ids are numbered from 0"


@both_layouts
def test_ids_wrap_around_the_scope(layout: str) -> None:
    """A graph as large as the scope: every id is used, whichever comes first."""
    tokenizer = GraphTokenizer([], [], scope=5, layout=layout)
    batch = batch_of([plain(5, [(0, 1), (1, 2), (2, 3), (3, 4)])] * 30, 0, 0)
    encoded = assert_reversible(tokenizer, batch, seed=0)
    ids = encoded.tokens if layout == "flat" else encoded.tokens[:, 0]
    assert set(ids[encoded.ptr[:-1]].tolist()) == set(range(FIRST_ID, FIRST_ID + 5))


@both_layouts
def test_threads(layout: str) -> None:
    batch = molecules()
    tokenizer = GraphTokenizer(ATOM_FEATURES, BOND_FEATURES, layout=layout)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            encoded = tokenizer.encode(batch, seed=8)
            results.append((*encoded, *tokenizer.decode(encoded.tokens, encoded.ptr)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_compiles() -> None:
    """One graph of operators, for every number of graphs, nodes and columns."""
    rng = random.Random(1)
    for layout in LAYOUTS:
        tokenizer = GraphTokenizer([3, 3], [2], layout=layout)

        @torch.compile(fullgraph=True, dynamic=True, backend="aot_eager")
        def there_and_back(batch: GraphBatch, seed: int, tokenizer: GraphTokenizer = tokenizer) -> Any:
            encoded = tokenizer.encode(batch, seed=seed)
            return encoded, tokenizer.decode(encoded.tokens, encoded.ptr)

        for seed in range(3):
            batch = batch_of([random_graph(rng, 2, 1) for _ in range(2 + seed)], 2, 1)
            encoded, decoded = there_and_back(batch, seed)
            eager = tokenizer.encode(batch, seed=seed)
            assert all(torch.equal(a, b) for a, b in zip(encoded, eager, strict=True))
            own = tokenizer.decode(eager.tokens, eager.ptr)
            assert all(torch.equal(a, b) for a, b in zip(decoded, own, strict=True))


@both_layouts
def test_start(layout: str) -> None:
    batch = batch_of([plain(4, [(0, 1), (1, 2), (2, 3)])] * 4, 0, 0)
    tokenizer = GraphTokenizer([], [], layout=layout)
    encoded = assert_reversible(tokenizer, batch, seed=1, start=torch.tensor([0, 1, 2, 3]))
    assert encoded.node_groups[encoded.ptr[:-1]].tolist() == [0, 1, 2, 3]


# -- groups --------------------------------------------------------------------------------------------------


def test_groups_of_rows() -> None:
    """A stacked row has its node's group, jumps too; an edge's attributes stand at its first pass only."""
    star = (
        4,
        [(0, v, (v,)) for v in (1, 2, 3)] + [(v, 0, (v,)) for v in (1, 2, 3)],
        [(v,) for v in range(4)],
    )
    lone = (2, [], [(0,), (1,)])
    tokenizer = GraphTokenizer([4], [4])
    batch = batch_of([star, lone], 1, 1)
    for seed in range(10):
        encoded = assert_reversible(tokenizer, batch, seed=seed)
        rows = list(zip(encoded.tokens.tolist(), encoded.node_groups.tolist(), strict=True))
        for begin, end in pairwise(encoded.ptr.tolist()):
            by_group: dict[int, set[int]] = {}
            for row, group in rows[begin:end]:
                by_group.setdefault(group, set()).add(row[0])
            assert all(len(ids) == 1 for ids in by_group.values())
            assert min(by_group) >= 0
            assert len({next(iter(ids)) for ids in by_group.values()}) == len(by_group)
        entries = [row[2] for row, _ in rows]
        assert entries.count(SEEN) == 1, "a star of three leaves walks one edge twice"
        assert entries.count(BOTH) == 3
        assert all(row[3] == SEEN for row, _ in rows if row[2] == SEEN)


def test_groups_of_flat_tokens() -> None:
    star = (
        4,
        [(0, v, (v,)) for v in (1, 2, 3)] + [(v, 0, (v,)) for v in (1, 2, 3)],
        [(v,) for v in range(4)],
    )
    loner = (5, star[1], [*star[2], (0,)])
    tokenizer = GraphTokenizer([4], [4], layout="flat")
    for seed in range(10):
        encoded = assert_reversible(tokenizer, batch_of([loner], 1, 1), seed=seed)
        pairs = list(zip(encoded.tokens.tolist(), encoded.node_groups.tolist(), strict=True))
        assert [group for token, group in pairs if token == tokenizer.jump_id] == [-1]
        assert all(group >= 0 for token, group in pairs if token != tokenizer.jump_id)
        edge_begin = tokenizer.vocab_size - 4
        node_groups = {group for token, group in pairs if FIRST_ID <= token < edge_begin}
        edge_groups = {group for token, group in pairs if token >= edge_begin or token in (SEEN, BOTH)}
        assert len(node_groups) == 5
        assert len(edge_groups) == 3
        assert not node_groups & edge_groups
        (seen,) = (group for token, group in pairs if token == SEEN)
        assert sum(group == seen for _, group in pairs) == 3, "kind, attribute and second pass of one edge"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"node_features": 5}, "node_features must be a sequence of ints, got int"),
        ({"edge_features": [1, 2.0]}, r"edge_features\[1\] must be an int, got float"),
        ({"node_features": torch.ones(2, 3)}, r"node_features\[0\] must be an int, got Tensor"),
        ({"scope": True}, "scope must be an int, got bool"),
        ({"layout": torch.ones(2, 3)}, "layout must be one of stacked, flat, got Tensor"),
        ({"edge_direction": 1}, "edge_direction must be a bool, got int"),
    ],
)
def test_a_tokenizer_names_an_argument_of_a_wrong_type(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}$"):
        GraphTokenizer(**{"node_features": [3], "edge_features": [2], **arguments})


def test_encode_names_what_is_no_batch() -> None:
    tokenizer = GraphTokenizer([], [])
    with pytest.raises(TypeError, match="^batch must be a GraphBatch, got list$"):
        tokenizer.encode([1], seed=0)
    with pytest.raises(TypeError, match="^shuffle must be a bool, got str$"):
        tokenizer.encode(batch_of([plain(2, [(0, 1)])], 0, 0), shuffle="no", seed=0)
