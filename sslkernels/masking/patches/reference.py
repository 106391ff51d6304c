"""patch_mask, gather_visible and scatter_visible in plain torch: the oracle of the kernels."""

import torch
from torch import Tensor

from sslkernels._random import PURPOSE, bounded, draw, draw_word, stream_key

Masks = tuple[Tensor, Tensor, Tensor]
_ROOTS = tuple(round(2**30 * 2 ** (2.0**-i)) for i in range(1, 17))

# -- patch_mask ----------------------------------------------------------------------------------------------


def patch_mask(
    sample_ids: Tensor,
    frames: int,
    rows: int,
    columns: int,
    tile_rows: int,
    tile_columns: int,
    views: int,
    masked: int,
    covered: int,
    block: bool,
    least: int,
    low: int,
    high: int,
    seed: int,
    step: int,
) -> Masks:
    batch, tiles, device = len(sample_ids), rows * columns, sample_ids.device
    key, sample = stream_key(seed, step), sample_ids[:, None]
    tile = torch.arange(tiles, device=device)
    seen = torch.zeros(batch, tiles, dtype=torch.bool, device=device)
    found = []
    for view in range(views):
        rectangles = torch.zeros(batch, dtype=torch.int64, device=device)
        mask = torch.zeros_like(seen)
        for pool, count in _pools(seen, view, masked, covered):
            if block:
                shape = (rows, columns, least, low, high)
                mask |= _rectangles(key, sample, view, rectangles, pool, count, shape)
            else:
                position = view * (-(-tiles // 4) * 4) + tile
                words = draw_word(key, sample, PURPOSE.patch_rank, position)
                mask |= _smallest(words, pool, torch.full_like(sample, count))
        if covered >= 0:
            seen |= mask
        found.append(mask)
    return _layout(torch.stack(found, 1), frames, rows, columns, tile_rows, tile_columns, masked)


def _pools(seen: Tensor, view: int, masked: int, covered: int) -> list[tuple[Tensor, int]]:
    """Tiles, and how many of them a view masks: of all; or of those no view masked, then of the others."""
    if covered < 0:
        return [(torch.ones_like(seen), masked)]
    before = 0 if view == 0 else min(view * masked, max(covered, masked))
    fresh = masked if view == 0 else min(masked, max(covered - before, 0))
    return [(~seen, fresh), (seen.clone(), masked - fresh)]


def _smallest(words: Tensor, pool: Tensor, count: Tensor) -> Tensor:
    """The `count` (B, 1) members of the smallest words; of equal words the first."""
    order = torch.argsort(torch.where(pool, words, 1 << 32), dim=1, stable=True)
    rank = torch.argsort(order, dim=1)
    return pool & (rank < count)


def _rectangles(
    key: tuple[int, int],
    sample: Tensor,
    view: int,
    rectangles: Tensor,
    pool: Tensor,
    count: int,
    shape: tuple[int, int, int, int, int],
) -> Tensor:
    """Rectangles around a free tile each, until `count` tiles of the pool are masked; the last one is cut.

    Adds how many were drawn to `rectangles` (B,), which numbers them within the view.
    """
    rows, columns, least, low, high = shape
    tile = torch.arange(rows * columns, device=pool.device)
    row, column = tile // columns, tile % columns
    free, left = pool.clone(), torch.full((len(pool), 1), count, device=pool.device)
    while bool((left > 0).any()):
        position = (view * rows * columns + rectangles)[:, None]
        area_word, aspect_word, tile_word, order = draw(key, sample, PURPOSE.patch_shape, position)
        row_word, column_word, _, _ = draw(key, sample, PURPOSE.patch_place, position)
        smallest = left.clamp(max=least)
        area = smallest + bounded(area_word, left - smallest + 1)
        aspect = _power_of_two(low + bounded(aspect_word, high - low + 1))
        height = _side(4 * area * aspect >> 16, rows)
        width = _side((4 * area << 16) // aspect, columns)
        rank = bounded(tile_word, free.sum(1, keepdim=True))
        inside = free & (free.cumsum(1) == rank + 1)  # the tile of this rank
        top = _first(row, inside, height, rows, row_word)
        first = _first(column, inside, width, columns, column_word)
        new = free & (row >= top) & (row < top + height) & (column >= first) & (column < first + width)
        down = torch.where((order & 2) > 0, rows - 1 - row, row)
        across = torch.where((order & 4) > 0, columns - 1 - column, column)
        turn = torch.where((order & 1) > 0, across * rows + down, down * columns + across)
        new = _smallest(turn, new, left)
        free &= ~new
        rectangles += (left > 0).squeeze(1)
        left = left - new.sum(1, keepdim=True)
    return pool & ~free


def _power_of_two(y: Tensor) -> Tensor:
    """2^(y / 2^16) in 2^-16, out of 2^(1/2), 2^(1/4), ...; y / 2^16 lies in [-14, 14]."""
    power = torch.full_like(y, 1 << 30)
    for i, root in enumerate(_ROOTS):
        power = torch.where((y >> (15 - i)) & 1 > 0, power * root >> 30, power)
    return power >> (14 - (y >> 16))


def _side(square: Tensor, most: int) -> Tensor:
    """round(sqrt(square / 4)), halves up, within [1, most]: (2 side - 1)^2 is the last odd square in it."""
    root = square.double().sqrt().long()  # off by one at most
    root = root - (root * root > square).long()
    root = root + ((root + 1) * (root + 1) <= square).long()
    return ((root + 1) // 2).clamp(1, most)


def _first(at: Tensor, inside: Tensor, side: Tensor, sides: int, word: Tensor) -> Tensor:
    """First row (or column) of a side that holds the row of the chosen tile, uniform over the grid's room."""
    chosen = torch.where(inside, at, 0).sum(1, keepdim=True)
    low, high = (chosen - side + 1).clamp(min=0), torch.minimum(chosen, sides - side)
    return low + bounded(word, high - low + 1)


def _layout(
    mask: Tensor, frames: int, rows: int, columns: int, tile_rows: int, tile_columns: int, masked: int
) -> Masks:
    """Tiles (B, V, tiles) to cells, repeated for all frames; the visible and the hidden ones ascending."""
    batch, views, _ = mask.shape
    mask = mask.reshape(batch, views, 1, rows, 1, columns, 1)
    mask = mask.expand(-1, -1, frames, -1, tile_rows, -1, tile_columns)
    cells = frames * rows * tile_rows * columns * tile_columns
    mask = mask.reshape(batch, views, cells)
    order = torch.argsort(mask.byte(), dim=2, stable=True)
    return mask, order[:, :, : cells - frames * masked * tile_rows * tile_columns].clone(), order.argsort(2)


def fake_mask(
    sample_ids: Tensor,
    frames: int,
    rows: int,
    columns: int,
    tile_rows: int,
    tile_columns: int,
    views: int,
    masked: int,
    *rest: int,
) -> Masks:
    """Shapes of the results."""
    shape, tile = (sample_ids.shape[0], views), frames * tile_rows * tile_columns
    cells = rows * columns * tile
    return (
        sample_ids.new_empty((*shape, cells), dtype=torch.bool),
        sample_ids.new_empty((*shape, cells - masked * tile)),
        sample_ids.new_empty((*shape, cells)),
    )


# -- gather and scatter --------------------------------------------------------------------------------------


def gather_visible(x: Tensor, keep: Tensor, cells: int) -> Tensor:
    sample = torch.arange(x.shape[0], device=x.device).reshape(-1, *[1] * (keep.dim() - 1))
    return x[sample, keep]


def gather_visible_backward(grad_visible: Tensor, keep: Tensor, cells: int, needs: list[bool]) -> Tensor:
    batch, columns = keep.shape[0], grad_visible.shape[-1]
    entries = keep[0].numel() if batch else 0
    return _sum_by_index(
        grad_visible.reshape(batch, entries, columns), keep.reshape(batch, entries).long(), cells
    )


def scatter_visible(visible: Tensor, restore: Tensor, fill: Tensor, kept: int) -> Tensor:
    hidden = fill.expand(visible.shape[0], max(restore.shape[1] - kept, 0), fill.shape[0])
    row = torch.arange(visible.shape[0], device=visible.device)[:, None]
    return torch.cat([visible, hidden], 1)[row, restore]


def scatter_visible_backward(
    grad_out: Tensor, restore: Tensor, kept: int, needs: list[bool]
) -> tuple[Tensor | None, Tensor | None]:
    grad_visible = _sum_by_index(grad_out, restore.long(), kept) if needs[0] else None
    if not needs[1]:
        return grad_visible, None
    hidden = torch.where((restore >= kept)[:, :, None], grad_out, 0).to(_accumulate(grad_out))
    return grad_visible, hidden.sum((0, 1)).to(grad_out.dtype)


def _sum_by_index(grad: Tensor, index: Tensor, limit: int) -> Tensor:
    """(R, M, D), (R, M) -> (R, limit, D): sums of the rows of one index, in order; those past it: none."""
    rows, entries, columns = grad.shape
    total = torch.zeros(rows, limit + 1, columns, dtype=_accumulate(grad), device=grad.device)
    row = torch.arange(rows, device=grad.device)[:, None].expand(rows, entries)
    place = row * (limit + 1) + index.clamp(max=limit)
    total.flatten(0, 1).index_add_(0, place.reshape(-1), grad.flatten(0, 1).to(total.dtype))
    return total[:, :limit].to(grad.dtype)


def _accumulate(grad: Tensor) -> torch.dtype:
    return torch.float64 if grad.dtype == torch.float64 else torch.float32


def fake_gather(x: Tensor, keep: Tensor, cells: int) -> Tensor:
    return x.new_empty((*keep.shape, x.shape[2]))


def fake_gather_backward(grad_visible: Tensor, keep: Tensor, cells: int, needs: list[bool]) -> Tensor:
    return grad_visible.new_empty((keep.shape[0], cells, grad_visible.shape[-1]))


def fake_scatter(visible: Tensor, restore: Tensor, fill: Tensor, kept: int) -> Tensor:
    return visible.new_empty((*restore.shape, visible.shape[2]))


def fake_scatter_backward(
    grad_out: Tensor, restore: Tensor, kept: int, needs: list[bool]
) -> tuple[Tensor | None, Tensor | None]:
    rows, _, columns = grad_out.shape
    return (
        grad_out.new_empty((rows, kept, columns)) if needs[0] else None,
        grad_out.new_empty((columns,)) if needs[1] else None,
    )
