"""GraphBatch: graphs packed one after another, from PyG-like objects or from SMILES."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sslkernels._scalars import as_int
from sslkernels.molecules import ATOM_FEATURES, BOND_FEATURES, parse_smiles


class GraphBatch(NamedTuple):
    """G graphs of N nodes and E columns in all, int64 throughout."""

    edge_index: Tensor  # (2, E): ids of the batch, columns in the order of the graphs
    graph_ptr: Tensor  # (G+1,): where each graph's nodes begin
    node_features: Tensor  # (N, Fn)
    edge_features: Tensor  # (E, Fe), a row a column

    @staticmethod
    def from_pyg(graphs: Sequence[Any]) -> "GraphBatch":
        """From objects with PyG's attributes, told apart by name: edge_index (2, E), x, edge_attr, num_nodes.

        x and edge_attr hold category numbers, (n,) or (n, F); without one there are no columns. num_nodes is
        honoured; without it x says how many nodes there are (a Data of torch_geometric without either guesses
        from its ids, with a warning of its own). Needs no torch_geometric.

        ValueError names the graph and the attribute: floats, ids outside [0, num_nodes), lengths or widths
        that do not fit one another, neither x nor num_nodes. Cost: O(N + E) and a few us a graph.
        """
        parts = [_read(place, graph) for place, graph in enumerate(_as_list("graphs", graphs))]
        counts = torch.tensor([0, *(part.num_nodes for part in parts)], dtype=torch.int64)
        graph_ptr = counts.cumsum(0)
        edge_index = (
            torch.cat([part.edge_index for part in parts], dim=1) if parts else _no_rows(0).reshape(2, 0)
        )
        lengths = torch.tensor([part.edge_index.shape[1] for part in parts], dtype=torch.int64)
        _check_ids(edge_index, lengths, counts[1:])
        edge_index = edge_index + graph_ptr[:-1].repeat_interleave(lengths)
        return GraphBatch(
            edge_index,
            graph_ptr,
            _stack("x", parts),
            _stack("edge_attr", parts),
        )

    @staticmethod
    def from_smiles(smiles: Sequence[str]) -> "GraphBatch":
        """From SMILES: atoms, bonds and the 9 + 3 features of OGB (categories: ATOM_FEATURES, BOND_FEATURES).

        A bond is two columns side by side. Whatever RDKit reads is accepted; kinds outside OGB's lists go to
        the last entry of their list. ValueError names the place of an unreadable or empty SMILES, from 0;
        ImportError without RDKit. Cost: about 200 us a molecule, nearly all RDKit's.
        """
        if isinstance(smiles, str):
            raise TypeError("smiles must be a list of str, got a str")
        smiles = _as_list("smiles", smiles)
        for place, text in enumerate(smiles):
            if not isinstance(text, str):
                raise TypeError(f"smiles[{place}] must be a str, got {type(text).__name__}")
        molecules = parse_smiles(smiles)
        for place, molecule in enumerate(molecules):
            if molecule is None:
                why = "which RDKit cannot read" if smiles[place].strip() else "which is empty"
                raise ValueError(f"smiles[{place}] is {smiles[place]!r}, {why}")
        if not molecules:
            node_features, edge_features = (_no_rows(len(f)) for f in (ATOM_FEATURES, BOND_FEATURES))
            return GraphBatch.from_pyg([])._replace(node_features=node_features, edge_features=edge_features)
        return GraphBatch.from_pyg(molecules)


_MOST_NODES = (1 << 31) - 1


def _as_list(name: str, values: Any) -> list[Any]:
    try:
        return list(values)
    except TypeError:
        raise TypeError(f"{name} must be a list, got {type(values).__name__}") from None


class _Part(NamedTuple):
    num_nodes: int
    edge_index: Tensor
    x: Tensor | None
    edge_attr: Tensor | None


def _read(place: int, graph: Any) -> _Part:
    """One graph's attributes as int64 tensors of fitting lengths."""
    if not any(hasattr(graph, name) for name in ("edge_index", "x", "num_nodes")):
        raise TypeError(f"graphs[{place}] has no edge_index, x or num_nodes, it is a {type(graph).__name__}")
    edge_index = _integers(place, "edge_index", getattr(graph, "edge_index", None))
    if edge_index is None:
        edge_index = _no_rows(0).reshape(2, 0)
    if edge_index.dim() != 2 or edge_index.shape[0] != 2:
        raise ValueError(f"graphs[{place}].edge_index must have shape (2, E), got {tuple(edge_index.shape)}")
    x = _columns(place, "x", getattr(graph, "x", None))
    num_nodes = getattr(graph, "num_nodes", None)
    if num_nodes is None:
        if x is None:
            raise ValueError(
                f"graphs[{place}] needs num_nodes or x: the number of nodes is not guessed from ids"
            )
        num_nodes = x.shape[0]
    num_nodes = as_int(f"graphs[{place}].num_nodes", num_nodes, 0, _MOST_NODES)
    edge_attr = _columns(place, "edge_attr", getattr(graph, "edge_attr", None))
    for name, rows, length in (("x", x, num_nodes), ("edge_attr", edge_attr, edge_index.shape[1])):
        if rows is not None and rows.shape[0] != length:
            raise ValueError(f"graphs[{place}].{name} must have {length} rows, got {rows.shape[0]}")
    return _Part(num_nodes, edge_index, x, edge_attr)


def _integers(place: int, name: str, value: Any) -> Tensor | None:
    if value is None:
        return None
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):  # ragged lists, words, objects
        kind = type(value).__name__
        raise TypeError(f"graphs[{place}].{name} must be a tensor or array of integers, got {kind}") from None
    if name == "edge_index" and tensor.dtype == torch.bool:
        raise ValueError(f"graphs[{place}].edge_index must hold ids, got bool")
    if tensor.is_floating_point() or tensor.is_complex():
        if tensor.numel() == 0 and not isinstance(value, Tensor):
            return tensor.long()  # an empty list
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise ValueError(f"graphs[{place}].{name} must hold integers (categories or ids), got {dtype}")
    return tensor.long()


def _columns(place: int, name: str, value: Any) -> Tensor | None:
    tensor = _integers(place, name, value)
    if tensor is None or tensor.dim() == 2:
        return tensor
    if tensor.dim() != 1:
        raise ValueError(f"graphs[{place}].{name} must have shape (n,) or (n, F), got {tuple(tensor.shape)}")
    return tensor.unsqueeze(1)


def _stack(name: str, parts: list[_Part]) -> Tensor:
    """The rows of all graphs. Without rows any width fits; without the attribute there are no columns."""
    width = rows = None
    kept = []
    for place, part in enumerate(parts):
        value = getattr(part, name)
        length = part.num_nodes if name == "x" else part.edge_index.shape[1]
        if value is None:
            value = _no_rows(0) if length == 0 else torch.empty(length, 0, dtype=torch.int64)
        if length == 0:
            rows = value if rows is None or value.shape[1] > rows.shape[1] else rows
            continue
        if width is None:
            width = value.shape[1]
        if value.shape[1] != width:
            raise ValueError(
                f"graphs[{place}].{name} must have {width} columns as the graphs before, got {value.shape[1]}"
            )
        kept.append(value)
    if kept:
        return torch.cat(kept)
    return rows if rows is not None else _no_rows(0)


def _no_rows(width: int) -> Tensor:
    return torch.empty(0, width, dtype=torch.int64)


def _check_ids(edge_index: Tensor, lengths: Tensor, counts: Tensor) -> None:
    limits = counts.repeat_interleave(lengths)
    wrong = ((edge_index < 0) | (edge_index >= limits)).nonzero()
    if wrong.shape[0]:
        row, column = wrong[0].tolist()
        graph = int(torch.searchsorted(lengths.cumsum(0), column, right=True))
        raise ValueError(
            f"graphs[{graph}].edge_index holds {int(edge_index[row, column])}, "
            f"outside [0, {int(limits[column])})"
        )
