"""The random words of a walk, as lists of Python integers."""

from collections.abc import Callable

import torch

from sslkernels._random import PURPOSE, draw, draw_word


class Words:
    """What the walk of one sample draws; without `shuffle` all of it is 0."""

    def __init__(self, key: tuple[int, int], sample: int, shuffle: bool) -> None:
        self._key, self._sample, self.shuffle = key, torch.tensor(sample), shuffle

    def of_entries(self, count: int) -> list[int]:
        """The words that place `count` entries in incidence lists."""
        return draw_word(self._key, self._sample, PURPOSE.walk_edge, torch.arange(count)).tolist()

    def of_component(self, component: int) -> list[int]:
        """start, direction, order; of component 0 also where the scan of the nodes begins."""
        if not self.shuffle:
            return [0, 0, 0, 0]
        drawn = draw(self._key, self._sample, PURPOSE.walk_start, torch.tensor(component))
        return [int(word) for word in drawn]


def bounded(word: int, n: int) -> int:
    """An integer in [0, n)."""
    return (word * n) >> 32


def enter(entries: list, entry: object, words: "Callable[[], int] | None") -> None:
    """Append to an incidence list, then change places with an entry that the next word draws."""
    entries.append(entry)
    if words is not None:
        place = bounded(words(), len(entries))
        entries[-1], entries[place] = entries[place], entries[-1]


def scan_order(nodes: int, words: Words) -> list[int]:
    """The nodes in the order in which components are looked for."""
    offset = bounded(words.of_component(0)[3], nodes)
    return [*range(offset, nodes), *range(offset)]


def take_turns(components: int, first: int | None, words: Words) -> list[int]:
    """Components in the order they are walked: Fisher-Yates, then the one with `start` first."""
    turn = list(range(components))
    if words.shuffle:
        for c in range(components - 1, 0, -1):
            other = bounded(words.of_component(c)[2], c + 1)
            turn[c], turn[other] = turn[other], turn[c]
    if first is not None:
        turn.remove(first)
        turn.insert(0, first)
    return turn
