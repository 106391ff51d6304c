"""corrupt_tokens in plain torch: choose units, top up, act, replace. The oracle of the kernels' bits."""

from typing import Any

import torch
from torch import Tensor

from sslkernels._random import PURPOSE, bounded, draw, draw_word, stream_key

Results = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]
_ONE = 1 << 32  # the threshold of what is certain


def corrupt_tokens(
    ids: Tensor,
    ptr: Tensor | None,
    sample_ids: Tensor | None,
    limit: int,
    row_limit: Tensor | None,
    mask_limit: int,
    random_limit: int,
    mask_id: int,
    vocab_size: int,
    special_ids: list[int],
    maskable: Tensor | None,
    groups: Tensor | None,
    cluster_of: Tensor | None,
    cluster_tokens: Tensor | None,
    cluster_ptr: Tensor | None,
    cluster_limits: Tensor | None,
    labels: str,
    exclude_original: bool,
    min_selected: int,
    row_min_selected: Tensor | None,
    ignore_index: int,
    capacity: int,
    seed: int,
    step: int,
) -> Results:
    device = ids.device
    batch, tokens, row, position = _rows(ids, ptr)
    sample = torch.arange(batch, device=device) if sample_ids is None else sample_ids
    key, sample = stream_key(seed, step), sample[row]

    special = torch.tensor(special_ids, dtype=torch.int64, device=device)
    flags = maskable.reshape(tokens.shape) if maskable is not None else ~torch.isin(tokens.long(), special)
    leader = _leaders(flags.any(1), row, None if groups is None else groups.reshape(-1))

    limits = torch.full((batch,), limit, device=device) if row_limit is None else row_limit
    least = (
        torch.full((batch,), min_selected, device=device) if row_min_selected is None else row_min_selected
    )
    chosen = _choose(leader, row, limits, draw_word(key, sample, PURPOSE.select, position))
    chosen = _top_up(chosen, leader, row, least, draw_word(key, sample, PURPOSE.top_up, position))
    unit = leader.clamp(min=0)
    selected = ((leader >= 0) & chosen[unit] if len(unit) else chosen)[:, None] & flags

    action = draw(key, sample, PURPOSE.action, position)[0][unit] if len(unit) else position
    masked, random = action < mask_limit, (action >= mask_limit) & (action < random_limit)
    place = position[:, None] * tokens.shape[1] + torch.arange(tokens.shape[1], device=device)
    words = draw(key, sample[:, None], PURPOSE.action, place)
    if random_limit == mask_limit:
        drawn = tokens.long()
    elif cluster_of is None:
        drawn = _uniform(tokens.long(), words[1], vocab_size, special, exclude_original)
    else:
        assert cluster_tokens is not None
        assert cluster_ptr is not None
        assert cluster_limits is not None
        tables = (cluster_of.long(), cluster_tokens.long(), cluster_ptr.long(), cluster_limits)
        drawn = _clustered(tokens.long(), words[2], words[1], tables, exclude_original)
    found = torch.where(selected & random[:, None], drawn, tokens.long())
    found = torch.where(selected & masked[:, None], mask_id, found).to(ids.dtype)

    scored = {"original": tokens.long(), "selected": selected.long(), "changed": (found != tokens).long()}[
        labels
    ]
    scored = torch.where(selected if labels == "original" else flags, scored, ignore_index)
    positions, counts = _listed(selected.any(1), batch, row, position, capacity)
    return found.reshape(ids.shape), scored.reshape(ids.shape), selected.reshape(ids.shape), positions, counts


def fake(ids: Tensor, ptr: Tensor | None, *rest: Any) -> Results:
    """Shapes of the results."""
    capacity: int = rest[-3]
    batch = ids.shape[0] if ptr is None else ptr.shape[0] - 1
    listed = capacity >= 0
    return (
        torch.empty(ids.shape, dtype=ids.dtype, device=ids.device),
        torch.empty(ids.shape, dtype=torch.int64, device=ids.device),
        torch.empty(ids.shape, dtype=torch.bool, device=ids.device),
        ids.new_empty((batch, capacity), dtype=torch.int32) if listed else None,
        ids.new_empty((batch,), dtype=torch.int32) if listed else None,
    )


def row_uniform(sample_ids: Tensor, seed: int, step: int) -> Tensor:
    """(B,) float32 in [0, 1): the upper 24 bits of a word, which float32 holds exactly."""
    word = draw(stream_key(seed, step), sample_ids, PURPOSE.row_uniform, torch.zeros_like(sample_ids))[0]
    return (word >> 8).float() * 2.0**-24


def _rows(ids: Tensor, ptr: Tensor | None) -> tuple[int, Tensor, Tensor, Tensor]:
    """Samples, tokens (T, F), and for each of the T the sample and the position inside it."""
    if ptr is None:
        batch, length = ids.shape
        row, position = torch.meshgrid(
            torch.arange(batch, device=ids.device), torch.arange(length, device=ids.device), indexing="ij"
        )
        return batch, ids.reshape(-1, 1), row.reshape(-1), position.reshape(-1)
    batch = ptr.shape[0] - 1
    row = torch.repeat_interleave(
        torch.arange(batch, device=ids.device), ptr.diff(), output_size=ids.shape[0]
    )
    return batch, ids, row, torch.arange(ids.shape[0], device=ids.device) - ptr[row]


def _leaders(eligible: Tensor, row: Tensor, groups: Tensor | None) -> Tensor:
    """Index of the first eligible token of each token's unit; -1 where the token belongs to none."""
    index = torch.arange(len(row), device=row.device)
    if groups is None:
        return torch.where(eligible, index, -1)
    leader = torch.full_like(index, -1)
    member = index[eligible & (groups >= 0)]
    if len(member) == 0:
        return leader
    member = member[torch.argsort(groups[member], stable=True)]
    member = member[torch.argsort(row[member], stable=True)]
    new = (groups[member].diff() != 0) | (row[member].diff() != 0)
    start = torch.nn.functional.pad(new.cumsum(0), (1, 0))
    first = member[torch.nn.functional.pad(new, (1, 0), value=True)]
    leader[member] = first[start]
    return leader


def _choose(leader: Tensor, row: Tensor, limit: Tensor, word: Tensor) -> Tensor:
    """Which units are selected by their own draw, marked at the unit's first token."""
    return (leader == torch.arange(len(leader), device=leader.device)) & (word < limit[row])


def _top_up(chosen: Tensor, leader: Tensor, row: Tensor, least: Tensor, word: Tensor) -> Tensor:
    """Add the units of the smallest words until a row has `least`, as far as its units go."""
    missing = least - torch.zeros_like(least).index_add_(0, row[chosen], torch.ones_like(row[chosen]))
    index = torch.arange(len(leader), device=leader.device)
    spare = index[(leader == index) & ~chosen]
    spare = spare[torch.argsort(word[spare], stable=True)]
    spare = spare[torch.argsort(row[spare], stable=True)]
    held = torch.bincount(row[spare], minlength=len(least))
    rank = torch.arange(len(spare), device=row.device) - (held.cumsum(0) - held)[row[spare]]
    topped = chosen.clone()
    topped[spare] = rank < missing[row[spare]]
    return topped


def _uniform(
    original: Tensor, word: Tensor, vocab_size: int, special: Tensor, exclude_original: bool
) -> Tensor:
    """A random id that is not special and, on request, not the original (which stays where it is alone)."""
    special = special[(special >= 0) & (special < vocab_size)]
    below = special - torch.arange(
        len(special), device=special.device
    )  # special[i]: so many others are below it
    drawable = vocab_size - len(special)
    ordinary = (original >= 0) & (original < vocab_size) & ~torch.isin(original, special)
    rank = _draw_rank(
        word, drawable, original - torch.searchsorted(special, original), ordinary & exclude_original
    )
    drawn = rank + torch.searchsorted(below, rank, right=True)
    return torch.where(ordinary & exclude_original & (drawable == 1), original, drawn)


def _draw_rank(word: Tensor, n: int | Tensor, own: Tensor, exclude: Tensor) -> Tensor:
    """One of n ranks, `own` left out where `exclude`."""
    rank = bounded(word, n - exclude.long())
    return rank + (exclude & (rank >= own)).long()


def _clustered(
    original: Tensor,
    cluster_word: Tensor,
    token_word: Tensor,
    tables: tuple[Tensor, Tensor, Tensor, Tensor],
    exclude_original: bool,
) -> Tensor:
    """A random id out of a cluster drawn for the original's own; out of all where it has none."""
    cluster_of, cluster_tokens, cluster_ptr, limits = tables
    known = (original >= 0) & (original < len(cluster_of))
    token = torch.where(known, original, 0)
    place = torch.empty_like(cluster_tokens)
    place[cluster_tokens] = torch.arange(len(cluster_tokens), device=place.device)
    own, place = cluster_of[token], place[token]
    drawable = known & (place < cluster_ptr[-1])  # those that are not come last
    exclude = drawable & exclude_original

    # An own cluster that holds nothing else is cut out of the row of limits.
    alone = exclude & (cluster_ptr[own + 1] - cluster_ptr[own] == 1)
    low = torch.where(own > 0, limits[own, (own - 1).clamp(min=0)], 0)
    cut = torch.where(alone, limits[own, own] - low, 0)
    cluster_word = bounded(cluster_word, _ONE - cut) & (_ONE - 1)  # the product wraps: keep its upper half
    cluster_word = torch.where(alone & (cluster_word >= low), cluster_word + cut, cluster_word)
    apart = torch.arange(len(limits), device=own.device) * (2 * _ONE)  # one sorted line of all rows
    cluster = torch.searchsorted((limits + apart[:, None]).reshape(-1), cluster_word + apart[own], right=True)
    cluster = (cluster - own * len(limits)).clamp(max=len(limits) - 1)

    size = cluster_ptr[cluster + 1] - cluster_ptr[cluster]
    exclude_here = exclude & (cluster == own) & ~alone
    rank = cluster_ptr[cluster] + _draw_rank(token_word, size, place - cluster_ptr[cluster], exclude_here)
    rank = torch.where(known, rank, bounded(token_word, cluster_ptr[-1]))
    drawn = cluster_tokens[rank.clamp(max=len(cluster_tokens) - 1)]
    return torch.where(alone & (cut == _ONE), original, drawn)


def _listed(
    selected: Tensor, batch: int, row: Tensor, position: Tensor, capacity: int
) -> tuple[Tensor | None, Tensor | None]:
    """The first `capacity` selected positions of every row, and how many there are."""
    if capacity < 0:
        return None, None
    row, position = row[selected], position[selected]
    counts = torch.bincount(row, minlength=batch)
    rank = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    positions = torch.full((batch, capacity), -1, dtype=torch.int32, device=row.device)
    kept = rank < capacity
    positions[row[kept], rank[kept]] = position[kept].int()
    return positions, counts.int()
