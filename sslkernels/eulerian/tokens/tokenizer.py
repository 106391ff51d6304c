"""GraphTokenizer: graphs to reversible token sequences along their Eulerian walks, and back."""

import json
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sslkernels._random import require_seed
from sslkernels._scalars import as_bool, as_int, one_of
from sslkernels.eulerian.graph_batch import GraphBatch
from sslkernels.eulerian.results import TokenBatch
from sslkernels.eulerian.tokens import vocabulary
from sslkernels.eulerian.tokens.op import decode_tokens, encode_tokens, pair_columns
from sslkernels.eulerian.walks.op import reindex, serialize

_LAYOUTS = ("stacked", "flat")
_MOST_TOKENS = (1 << 31) - 1


class GraphTokenizer:
    """Tokens of graphs: every edge's features once, every node's attributes, nothing else lost.

    node_features, edge_features   categories of each feature column, each at least 1
    scope           node ids, at least 1: a graph may have as many nodes
    layout          "stacked": a row of tokens a step of the walk; "flat": one token after another
    edge_direction  whether lone columns keep their direction; without it every edge returns both columns

    Holds hyper-parameters only. Ids: pad_id 0, bos_id, eos_id, mask_id, jump_id, all tokens in [0,
    vocab_size), one vocabulary for all columns of a row. The README of the room explains the grammar.
    """

    pad_id = vocabulary.PAD
    bos_id = vocabulary.BOS
    eos_id = vocabulary.EOS
    mask_id = vocabulary.MASK
    jump_id = vocabulary.JUMP

    def __init__(
        self,
        node_features: Sequence[int],
        edge_features: Sequence[int],
        *,
        scope: int = 512,
        layout: str = "stacked",
        edge_direction: bool = True,
    ) -> None:
        self.node_features = _categories("node_features", node_features)
        self.edge_features = _categories("edge_features", edge_features)
        self.scope = as_int("scope", scope, 1, vocabulary.LARGEST_SCOPE)
        self.layout = one_of("layout", layout, _LAYOUTS)
        self.edge_direction = as_bool("edge_direction", edge_direction)
        self.vocabulary = vocabulary.Vocabulary.build(
            self.node_features, self.edge_features, self.scope, layout == "stacked", edge_direction
        )
        if self.vocab_size > _MOST_TOKENS:
            raise ValueError(
                "the vocabulary (node_features, edge_features, scope) must stay below 2^31 tokens, "
                f"got {self.vocab_size}"
            )

    @property
    def vocab_size(self) -> int:
        """Every token lies in [0, vocab_size)."""
        return self.vocabulary.size

    def __repr__(self) -> str:
        return (
            f"GraphTokenizer({self.node_features}, {self.edge_features}, scope={self.scope}, "
            f"layout={self.layout!r}, edge_direction={self.edge_direction})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GraphTokenizer) and self.vocabulary == other.vocabulary

    def __hash__(self) -> int:
        return hash(self.vocabulary)

    def encode(
        self,
        batch: GraphBatch,
        *,
        shuffle: bool = True,
        start: Tensor | None = None,
        seed: int | None = None,
        step: int = 0,
        sample_ids: Tensor | None = None,
    ) -> TokenBatch:
        """Walk every graph of the batch and write its steps as tokens, without bos and eos.

        start (G,): the local node each walk begins at, -1: free. shuffle: a fresh walk for each (seed, step,
        sample id), node ids from a random first one on, modulo the scope; without it one canonical sequence a
        graph, ids from 0, and no seed is needed.

        Returns tokens int32, (T,) flat or (T, 2 + Fn + Fe) stacked; ptr int64 (G+1,); node_groups int64 (T,).
        Groups are numbers inside a graph: all tokens of a node share one, flat ones of an edge another, flat
        jumps have -1; a stacked row has its node's.

        ValueError: a feature outside its categories, a graph with more nodes than the scope, columns out of
        range or order, no seed where one is needed. Cost: the walks' (see serialize) and O(tokens).
        """
        if as_bool("shuffle", shuffle):
            seed = require_seed("GraphTokenizer.encode", seed, step)
        if not isinstance(batch, GraphBatch):
            raise TypeError(f"batch must be a GraphBatch, got {type(batch).__name__}")
        columns = [_as_int64(name, getattr(batch, name)) for name in GraphBatch._fields]
        edge_index, graph_ptr, node_features, edge_features = columns
        self._check_widths(node_features, edge_features)
        walk_index, walk_ptr, column, kind = pair_columns(edge_index, graph_ptr, edge_features)
        draw: dict[str, Any] = {"seed": seed, "step": step, "sample_ids": sample_ids}
        paths = serialize(walk_index, graph_ptr, edge_ptr=walk_ptr, shuffle=shuffle, start=start, **draw)
        mode = "cyclic" if shuffle else "first_visit"
        ids = reindex(paths.nodes, paths.ptr, scope=self.scope, mode=mode, **draw)
        walk = (ids, paths.nodes, paths.edges, paths.ptr, walk_index, walk_ptr, column, kind, graph_ptr)
        return TokenBatch(*encode_tokens(*walk, node_features, edge_features, *self._layout()))

    def decode(self, tokens: Tensor, ptr: Tensor) -> GraphBatch:
        """The graphs that were encoded, up to isomorphism, features included.

        tokens int32 or int64, (T,) flat or (T, 2 + Fn + Fe) stacked; ptr int64 (G+1,). Nodes come in the
        order of first visit; columns in the order of the walk, the two of an edge side by side.

        ValueError names the first step that encode cannot have written. Cost: O(tokens), and for an edge's
        second pass the smaller degree of its ends.
        """
        width = self.vocabulary.row if self.layout == "stacked" else None
        if not isinstance(tokens, Tensor):
            raise TypeError(f"tokens must be a tensor, got {type(tokens).__name__}")
        if tokens.shape[1:] != (() if width is None else (width,)) or tokens.dim() == 0:
            wanted = "(T,)" if width is None else f"(T, {width})"
            raise ValueError(f"tokens must have shape {wanted} ({self.layout}), got {tuple(tokens.shape)}")
        return GraphBatch(*decode_tokens(tokens, ptr, *self._layout()))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the hyper-parameters as JSON, aside and renamed: `path` is never half a file."""
        names = ("node_features", "edge_features", "scope", "layout", "edge_direction")
        aside = f"{os.fspath(path)}.tmp"
        with open(aside, "w", encoding="utf-8") as file:
            json.dump({name: getattr(self, name) for name in names}, file, indent=1)
        os.replace(aside, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "GraphTokenizer":
        """The tokenizer that `save` wrote; ValueError where the file is no such thing."""
        with open(path, encoding="utf-8") as file:
            try:
                return cls(**json.load(file))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{os.fspath(path)} holds no GraphTokenizer: {error}") from error

    def _layout(self) -> tuple[Sequence[int], Sequence[int], int, bool, bool]:
        stacked = self.layout == "stacked"
        return self.node_features, self.edge_features, self.scope, stacked, self.edge_direction

    def _check_widths(self, node_features: Tensor, edge_features: Tensor) -> None:
        for name, tensor in (("node_features", node_features), ("edge_features", edge_features)):
            width = len(getattr(self, name))
            if tensor.dim() != 2 or tensor.shape[1] != width:
                raise ValueError(f"{name} must have shape (n, {width}), got {tuple(tensor.shape)}")


def _categories(name: str, sizes: Sequence[int]) -> list[int]:
    try:
        given = list(sizes)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of ints, got {type(sizes).__name__}") from None
    return [as_int(f"{name}[{at}]", size, 1) for at, size in enumerate(given)]


def _as_int64(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.dtype == torch.int64:
        return value
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise ValueError(f"{name} must be int64, got {str(value.dtype).removeprefix('torch.')}")
    return value.long()
