"""Graphs as reversible token sequences along Eulerian walks, and back. See README.md beside this file."""

from sslkernels._exports import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "results": ("EulerPaths", "TokenBatch", "PackedBatch"),
        "graph_batch": ("GraphBatch", "ATOM_FEATURES", "BOND_FEATURES"),
        "walks.op": ("serialize", "deserialize", "reindex"),
        "tokens.tokenizer": ("GraphTokenizer",),
        "tokens.pack": ("pack",),
    },
)
