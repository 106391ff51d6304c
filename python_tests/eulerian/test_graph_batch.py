"""GraphBatch from PyG and from objects that look like it: by name, by number of nodes, without
torch_geometric.
"""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from token_graphs import LAYOUTS, assert_reversible

from sslkernels.eulerian.graph_batch import GraphBatch
from sslkernels.eulerian.tokens.tokenizer import GraphTokenizer

CYCLE = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 0]])


def shaped(**attributes: Any) -> SimpleNamespace:
    return SimpleNamespace(**attributes)


def as_data(**attributes: Any) -> Any:
    return pytest.importorskip("torch_geometric.data").Data(**attributes)


makers = pytest.mark.parametrize("make", [shaped, as_data])


@makers
def test_names_not_sizes(make: Any) -> None:
    """PyG #3265, #3879, #9912: as many nodes as edges, and a label as long as either."""
    cycle = make(edge_index=CYCLE, x=torch.tensor([[1], [3], [5], [7], [9]]), num_nodes=5, y=torch.arange(5))
    edge = make(
        edge_index=torch.tensor([[0], [0]]), x=torch.tensor([[2]]), num_nodes=1, y=torch.tensor([1.5])
    )
    batch = GraphBatch.from_pyg([cycle, edge])
    assert batch.node_features.flatten().tolist() == [1, 3, 5, 7, 9, 2]
    assert batch.edge_features.shape == (6, 0)
    assert batch.graph_ptr.tolist() == [0, 5, 6]
    assert batch.edge_index.tolist() == [[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 0, 5]]
    for layout in LAYOUTS:
        assert_reversible(GraphTokenizer([10], [], layout=layout), batch, seed=1)


@makers
def test_the_number_of_nodes_is_given(make: Any) -> None:
    """PyG #190, #2877: nodes after the last id are nodes."""
    graphs = [
        make(edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=5),
        make(edge_index=torch.tensor([[0], [1]]), num_nodes=2),
    ]
    batch = GraphBatch.from_pyg(graphs)
    assert batch.graph_ptr.tolist() == [0, 5, 7]
    assert batch.edge_index.tolist() == [[0, 1, 5], [1, 0, 6]]
    assert batch.node_features.shape == (7, 0)
    tokenizer = GraphTokenizer([], [])
    encoded = assert_reversible(tokenizer, batch, seed=0)
    assert int((encoded.tokens == tokenizer.jump_id).any(dim=1).sum()) == 3


@makers
def test_edgeless_graphs_in_last_place(make: Any) -> None:
    """PyG #10815, #1824: graphs without edges, and without nodes, keep their place."""
    none = torch.empty(2, 0, dtype=torch.int64)
    graphs = [
        make(
            edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=2, edge_attr=torch.tensor([[1, 0], [1, 0]])
        ),
        make(edge_index=none, num_nodes=1),
        make(edge_index=none, num_nodes=0),
    ]
    batch = GraphBatch.from_pyg(graphs)
    assert batch.graph_ptr.tolist() == [0, 2, 3, 3]
    assert batch.edge_features.shape == (2, 2)
    for layout in LAYOUTS:
        tokenizer = GraphTokenizer([], [2, 2], layout=layout)
        encoded = assert_reversible(tokenizer, batch, seed=0)
        assert tokenizer.decode(encoded.tokens, encoded.ptr).graph_ptr.tolist() == [0, 2, 3, 3]


@makers
def test_one_column(make: Any) -> None:
    graph = make(
        edge_index=torch.tensor([[0, 1], [1, 0]]),
        x=torch.tensor([4, 2]),
        edge_attr=torch.tensor([1, 1]),
        num_nodes=2,
    )
    batch = GraphBatch.from_pyg([graph])
    assert batch.node_features.tolist() == [[4], [2]]
    assert batch.edge_features.tolist() == [[1], [1]]


def test_what_pyg_itself_builds() -> None:
    """PyG's from_smiles gives the same features as ours."""
    pytest.importorskip("torch_geometric")
    pytest.importorskip("rdkit")
    from torch_geometric.utils import from_smiles

    smiles = ["CCO", "c1ccccc1C(=O)N", "C/C=C/C", "C", "[I-].[K+]", "C[C@H](O)N"]
    theirs, ours = GraphBatch.from_pyg([from_smiles(text) for text in smiles]), GraphBatch.from_smiles(smiles)
    assert torch.equal(theirs.graph_ptr, ours.graph_ptr)
    order = (ours.edge_index[0] * 1000 + ours.edge_index[1]).argsort()
    assert torch.equal(theirs.edge_index, ours.edge_index[:, order])
    # PyG counts an atom's number from 0 and its lists are longer; what both list in the same places agrees.
    assert torch.equal(theirs.node_features[:, 0], ours.node_features[:, 0] + 1)
    assert torch.equal(theirs.node_features[:, [2, 3, 4, 5, 7, 8]], ours.node_features[:, [2, 3, 4, 5, 7, 8]])
    assert torch.equal(theirs.edge_features[:, 2], ours.edge_features[order][:, 2])


def test_numpy_arrays_and_other_integers() -> None:
    graph = shaped(
        edge_index=np.array([[0, 1], [1, 0]], dtype=np.int32),
        x=np.array([True, False]),
        edge_attr=[[1], [1]],
        num_nodes=2,
    )
    batch = GraphBatch.from_pyg([graph])
    assert all(tensor.dtype == torch.int64 for tensor in batch)
    assert batch.node_features.tolist() == [[1], [0]]


def test_no_graphs() -> None:
    assert [tuple(tensor.shape) for tensor in GraphBatch.from_pyg([])] == [(2, 0), (1,), (0, 0), (0, 0)]


def test_objects_without_edges() -> None:
    batch = GraphBatch.from_pyg(
        [shaped(x=torch.tensor([1, 2])), shaped(edge_index=None, num_nodes=3, x=torch.tensor([0, 0, 1]))]
    )
    assert batch.graph_ptr.tolist() == [0, 2, 5]
    assert batch.edge_index.shape == (2, 0)


@makers
@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"x": torch.rand(5, 2)}, r"graphs\[1\]\.x must hold integers \(categories or ids\), got float32"),
        ({"edge_attr": torch.rand(5)}, r"graphs\[1\]\.edge_attr must hold integers .*got float32"),
        ({"x": torch.zeros(4, 1).long()}, r"graphs\[1\]\.x must have 5 rows, got 4"),
        ({"edge_attr": torch.zeros(4, 1).long()}, r"graphs\[1\]\.edge_attr must have 5 rows, got 4"),
        ({"x": torch.zeros(5, 1, 1).long()}, r"graphs\[1\]\.x must have shape"),
        ({"edge_index": CYCLE.T}, r"graphs\[1\]\.edge_index must have shape \(2, E\)"),
        ({"edge_index": CYCLE + 1}, r"graphs\[1\]\.edge_index holds 5, outside \[0, 5\)"),
        ({"edge_index": CYCLE - 1}, r"graphs\[1\]\.edge_index holds -1"),
        ({"edge_index": CYCLE.double()}, r"graphs\[1\]\.edge_index must hold integers"),
        ({"x": torch.zeros(5, 3).long()}, r"graphs\[1\]\.x must have 1 columns"),
    ],
)
def test_what_is_wrong_is_named(make: Any, attributes: dict[str, Any], message: str) -> None:
    usual = {"edge_index": CYCLE, "x": torch.zeros(5, 1).long(), "num_nodes": 5}
    with pytest.raises(ValueError, match=message):
        GraphBatch.from_pyg([make(**usual), make(**{**usual, **attributes})])


def test_the_number_of_nodes_is_not_guessed() -> None:
    with pytest.raises(ValueError, match=r"graphs\[0\] needs num_nodes or x"):
        GraphBatch.from_pyg([shaped(edge_index=CYCLE)])
    with pytest.raises(ValueError, match=r"num_nodes"):
        GraphBatch.from_pyg([shaped(num_nodes=-1)])
    with pytest.raises(TypeError, match=r"graphs\[0\]"):
        GraphBatch.from_pyg([(1, 2)])


def test_without_torch_geometric() -> None:
    script = (
        "import sys; sys.modules['torch_geometric'] = None\n"
        "from types import SimpleNamespace\nimport torch\n"
        "from sslkernels.eulerian.graph_batch import GraphBatch\n"
        "graph = SimpleNamespace(edge_index=torch.tensor([[0], [1]]), num_nodes=3)\n"
        "print(GraphBatch.from_pyg([graph]).graph_ptr.tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[0, 3]"


WRONG_GRAPHS = {
    "no list": (5, TypeError, "graphs must be a list, got int"),
    "half a node": ([shaped(num_nodes=2.5)], TypeError, r"graphs\[0\].num_nodes must be an int"),
    "a word": ([shaped(num_nodes="2")], TypeError, r"graphs\[0\].num_nodes must be an int, got str"),
    "too many": ([shaped(num_nodes=1 << 62)], ValueError, r"graphs\[0\].num_nodes must lie in"),
    "x ragged": ([shaped(x=[[1], [2, 3]])], TypeError, r"graphs\[0\].x must be a tensor or array"),
    "x a word": ([shaped(x="CC")], TypeError, r"graphs\[0\].x must be a tensor or array"),
    "a mask for ids": (
        [shaped(num_nodes=2, edge_index=torch.ones(2, 2, dtype=torch.bool))],
        ValueError,
        r"graphs\[0\].edge_index must hold ids, got bool",
    ),
}


@pytest.mark.parametrize("case", WRONG_GRAPHS)
def test_from_pyg_names_what_is_wrong(case: str) -> None:
    graphs, kind, message = WRONG_GRAPHS[case]
    with pytest.raises(kind, match=f"^{message}"):
        GraphBatch.from_pyg(graphs)


def test_from_smiles_takes_any_iterable() -> None:
    expected = GraphBatch.from_smiles(["C", "CO"])
    assert all(map(torch.equal, GraphBatch.from_smiles(iter(["C", "CO"])), expected))
    with pytest.raises(TypeError, match="^smiles must be a list, got int"):
        GraphBatch.from_smiles(5)
