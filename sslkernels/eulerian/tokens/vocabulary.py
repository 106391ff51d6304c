"""The vocabulary of graph tokens, the twin of csrc/eulerian/tokens/core.h (which draws the grammar).

0 pad, 1 bos, 2 eos, 3 mask, 4 jump, 5 start, 6 seen, 7 both, 8 forward, 9 backward; then `scope` node ids,
then the categories of each node feature, then those of each edge feature.
"""

from collections.abc import Sequence
from typing import NamedTuple

PAD, BOS, EOS, MASK, JUMP, START, SEEN, BOTH, FORWARD, BACKWARD, FIRST_ID = range(11)
LARGEST_SCOPE = 1 << 30


class Feature(NamedTuple):
    """The tokens of one feature: [begin, begin + size)."""

    begin: int
    size: int


class Vocabulary(NamedTuple):
    """Where every token of a tokenizer lies."""

    scope: int
    stacked: bool
    edge_direction: bool
    node: tuple[Feature, ...]
    edge: tuple[Feature, ...]
    size: int

    @classmethod
    def build(
        cls,
        node_sizes: Sequence[int],
        edge_sizes: Sequence[int],
        scope: int,
        stacked: bool,
        edge_direction: bool,
    ) -> "Vocabulary":
        """The layout of the vocabulary: features follow one another after the node ids."""
        end = FIRST_ID + scope
        features = []
        for size in (*node_sizes, *edge_sizes):
            features.append(Feature(end, size))
            end += size
        count = len(node_sizes)
        return cls(scope, stacked, edge_direction, tuple(features[:count]), tuple(features[count:]), end)

    @property
    def row(self) -> int:
        """Tokens of a stacked step: id, node attributes, entry, edge attributes."""
        return 2 + len(self.node) + len(self.edge)

    @property
    def loop(self) -> int:
        """The entry of a new self-loop."""
        return FORWARD if self.edge_direction else BOTH
