"""serialize's CUDA kernel on the emulated GPU: the CPU's bits, its words for wrong values, what it lacks."""

from typing import Any

import pytest
import torch

import sslkernels
from sslkernels import _problem
from sslkernels.eulerian import GraphBatch, serialize

SMILES = [
    "CCO",
    "c1ccccc1",
    "C",
    "CC(=O)Oc1ccccc1C(=O)O",
    "C1CC2CCC1CC2",
    "[Na+].[Cl-]",
    "CN1C=NC2=C1C(=O)N(C)C(=O)N2C",
]


def walks(backend: str, *args: Any, **keywords: Any) -> tuple[torch.Tensor, ...]:
    with sslkernels.use(backend):
        return tuple(serialize(*args, **keywords))


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_molecules_have_the_same_bits(closed: bool, shuffle: bool) -> None:
    pytest.importorskip("rdkit")
    batch = GraphBatch.from_smiles(SMILES * 3)
    keywords = {"closed": closed, "shuffle": shuffle, "seed": 5 if shuffle else None, "step": 3 * shuffle}
    expected = walks("cpu", batch.edge_index, batch.graph_ptr, **keywords)
    found = walks("cuda-emulated", batch.edge_index, batch.graph_ptr, **keywords)
    assert all(torch.equal(left, right) for left, right in zip(expected, found, strict=True))


def test_more_graphs_than_walkers_and_a_graph_of_many_nodes() -> None:
    """9,000 graphs on 8,192 walkers; a path of 3,000 nodes beside single ones."""
    path = torch.arange(2999)
    columns = torch.stack([torch.stack([path, path + 1], 1), torch.stack([path + 1, path], 1)], 1)
    edge_index = columns.reshape(-1, 2).T.contiguous()
    graph_ptr = torch.cat([torch.tensor([0]), torch.arange(3000, 12000)])
    expected = walks("cpu", edge_index, graph_ptr, seed=1)
    found = walks("cuda-emulated", edge_index, graph_ptr, seed=1)
    assert all(torch.equal(left, right) for left, right in zip(expected, found, strict=True))


def broken(**changes: list[Any]) -> dict[str, Any]:
    given = {
        "edge_index": [[0, 1, 2, 3], [1, 0, 3, 2]],
        "graph_ptr": [0, 2, 4],
        "edge_ptr": [0, 2, 4],
        "start": [0, -1],
    }
    return {name: torch.tensor(values) for name, values in {**given, **changes}.items()}


@pytest.mark.parametrize(
    "changes",
    [
        {"edge_index": [[0, 1, 2, 4], [1, 0, 3, 2]]},
        {"edge_index": [[0, 1, 2, 3], [1, 0, -1, 2]]},
        {"edge_index": [[0, 2, 1, 3], [1, 3, 0, 2]]},
        {"graph_ptr": [1, 2, 4]},
        {"graph_ptr": [0, 5, 4]},
        {"edge_ptr": [0, 2, 3]},
        {"edge_ptr": [0, 5, 4]},
        {"start": [2, 0]},
        {"start": [-2, 0]},
    ],
    ids=str,
)
def test_wrong_values(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With SSLKERNELS_CHECK=1 the CPU's very words; without it the graphs that are right are walked."""
    arguments = broken(**changes)
    with pytest.raises(ValueError) as expected:
        walks("cpu", **arguments, seed=1)
    monkeypatch.setenv("SSLKERNELS_CHECK", "1")
    with pytest.raises(ValueError) as found:
        walks("cuda-emulated", **arguments, seed=1)
    assert str(found.value) == str(expected.value)
    monkeypatch.setenv("SSLKERNELS_CHECK", "0")
    nodes, _, ptr = walks("cuda-emulated", **arguments, seed=1)
    assert ptr[0] == 0
    assert (ptr.diff() >= 0).all()
    assert ptr[-1] == len(nodes)


def test_a_wrong_graph_leaves_the_others() -> None:
    arguments = broken(edge_index=[[0, 1, 2, 9], [1, 0, 3, 2]])
    nodes, _, ptr = walks("cuda-emulated", **arguments, seed=1)
    assert ptr.tolist() == [0, 2, 2]
    assert sorted(nodes.tolist()) == [0, 1]


def test_directed_graphs_are_refused_by_name() -> None:
    op, args = _problem.inputs("serialize graphs=3 nodes=4 edges=4 undirected=false seed=1")
    with sslkernels.use("cuda-emulated"), pytest.raises(ValueError, match="undirected must be True on CUDA"):
        op(*args)
    assert "cuda" in op.exceptions
