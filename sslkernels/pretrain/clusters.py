"""Clusters of tokens by the company they keep: k-means over the distribution of their neighbours."""

from __future__ import annotations

import numpy as np

CONTEXTS = 256  # the most frequent tokens, as neighbours on either side
ROUNDS = 20


def token_clusters(tokens: np.ndarray, vocab_size: int, number: int) -> np.ndarray:
    """int64 (V,): a cluster in [0, number) for every token of a vocabulary, from a text's tokens (T,).

    A token is the pair of its left and right neighbours' distributions over the CONTEXTS most frequent
    tokens, each probability as its root, so that a dot product is the distributions' Bhattacharyya
    coefficient. The centres start at the most frequent tokens: nothing is drawn. Tokens that the text lacks
    are in cluster 0.
    """
    vectors = _neighbours(tokens, vocab_size)
    frequency = np.bincount(tokens, minlength=vocab_size)
    centres = vectors[np.argsort(-frequency, kind="stable")[:number]]
    for _ in range(ROUNDS):
        nearest = (vectors @ centres.T).argmax(1)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, vectors)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(length > 0, sums / np.maximum(length, 1e-12), centres)
    return nearest.astype(np.int64)


def _neighbours(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """(V, 2 * CONTEXTS), rows of length 1, or 0 for a token that has no frequent neighbour."""
    frequency = np.bincount(tokens, minlength=vocab_size)
    place = np.full(vocab_size, CONTEXTS)
    place[np.argsort(-frequency, kind="stable")[:CONTEXTS]] = np.arange(min(CONTEXTS, vocab_size))
    sides = []
    for token, neighbour in ((tokens[1:], tokens[:-1]), (tokens[:-1], tokens[1:])):
        cells = token.astype(np.int64) * (CONTEXTS + 1) + place[neighbour]
        counts = np.bincount(cells, minlength=vocab_size * (CONTEXTS + 1)).reshape(vocab_size, CONTEXTS + 1)
        sides.append(np.sqrt(counts[:, :CONTEXTS] / np.maximum(counts.sum(1, keepdims=True), 1)))
    vectors = np.concatenate(sides, axis=1)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
