"""patch_mask, gather_visible and scatter_visible against the released methods, on 256 grids of 14 x 14."""

import functools
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.conftest import Race
from sslkernels.masking import gather_visible, patch_mask, scatter_visible

BATCH, SIDE, WIDTH = 256, 14, 768
CELLS = SIDE * SIDE


# -- the released generators' methods, written anew ---------------------------------------------------------


def beit(count: int, least: int = 16) -> np.ndarray:
    """BEiT's: up to ten tries for a rectangle that adds something and not too much, cell by cell."""
    mask, hidden = np.zeros((SIDE, SIDE), dtype=int), 0
    while hidden < count:
        most, added = count - hidden, 0
        for _ in range(10):
            area = random.uniform(least, most)
            aspect = math.exp(random.uniform(math.log(0.3), math.log(1 / 0.3)))
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if height < SIDE and width < SIDE:
                top, left = random.randint(0, SIDE - height), random.randint(0, SIDE - width)
                already = mask[top : top + height, left : left + width].sum()
                if 0 < height * width - already <= most:
                    for row in range(top, top + height):
                        for column in range(left, left + width):
                            if mask[row, column] == 0:
                                mask[row, column] = 1
                                added += 1
            if added > 0:
                break
        if added == 0:
            break
        hidden += added
    return mask


def dinov2(count: int) -> np.ndarray:
    """DINOv2's: the same with at least 4 and at most half of the grid's cells a rectangle."""
    mask, hidden = np.zeros((SIDE, SIDE), dtype=bool), 0
    while hidden < count:
        most, added = min(count - hidden, CELLS // 2), 0
        for _ in range(10):
            area = random.uniform(4, most)
            aspect = math.exp(random.uniform(math.log(0.3), math.log(1 / 0.3)))
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if height < SIDE and width < SIDE:
                top, left = random.randint(0, SIDE - height), random.randint(0, SIDE - width)
                already = mask[top : top + height, left : left + width].sum()
                if 0 < height * width - already <= most:
                    for row in range(top, top + height):
                        for column in range(left, left + width):
                            if not mask[row, column]:
                                mask[row, column] = True
                                added += 1
            if added > 0:
                break
        if added == 0:
            break
        hidden += added
    return mask


def ijepa(generator: torch.Generator) -> tuple[Tensor, list[Tensor]]:
    """I-JEPA's: four target blocks of 15 to 20 % and one context block without them, by tensors a sample."""

    def block(height: int, width: int, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
        while True:
            top, left = torch.randint(0, SIDE - height, (1,)), torch.randint(0, SIDE - width, (1,))
            mask = torch.zeros((SIDE, SIDE), dtype=torch.int32)
            mask[top : top + height, left : left + width] = 1
            if allowed is not None:
                mask *= allowed
            cells = torch.nonzero(mask.flatten())
            if len(cells) > 10:
                complement = torch.ones((SIDE, SIDE), dtype=torch.int32)
                complement[top : top + height, left : left + width] = 0
                return cells.squeeze(), complement

    def size(low: float, high: float, aspects: tuple[float, float]) -> tuple[int, int]:
        share = torch.rand(1, generator=generator).item()
        area = int(CELLS * (low + share * (high - low)))
        aspect = aspects[0] + share * (aspects[1] - aspects[0])
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        return min(height, SIDE - 1), min(width, SIDE - 1)

    target, context = size(0.15, 0.2, (0.75, 1.5)), size(0.85, 1.0, (1.0, 1.0))
    targets, allowed = [], torch.ones((SIDE, SIDE), dtype=torch.int32)
    for _ in range(4):
        cells, complement = block(*target, None)
        targets.append(cells)
        allowed = allowed * complement
    return block(*context, allowed)[0], targets


def mae_masks(ratio: float) -> tuple[Tensor, Tensor, Tensor]:
    """MAE's: two argsorts of noise and a gather."""
    kept = int(CELLS * (1 - ratio))
    shuffle = torch.argsort(torch.rand(BATCH, CELLS), dim=1)
    restore = torch.argsort(shuffle, dim=1)
    mask = torch.ones(BATCH, CELLS)
    mask[:, :kept] = 0
    return torch.gather(mask, dim=1, index=restore), shuffle[:, :kept], restore


def mae_encode(x: Tensor, fill: Tensor) -> Tensor:
    """MAE's whole path: masks, gather by an expanded index, mask tokens, gather by ids_restore."""
    _, keep, restore = mae_masks(0.75)
    width = x.shape[2]
    visible = torch.gather(x, dim=1, index=keep.unsqueeze(-1).repeat(1, 1, width))
    tokens = fill.repeat(BATCH, CELLS - keep.shape[1], 1)
    return torch.gather(
        torch.cat([visible, tokens], 1), dim=1, index=restore.unsqueeze(-1).repeat(1, 1, width)
    )


def tight_encode(x: Tensor, fill: Tensor) -> Tensor:
    """The same by index_select over flat rows: nothing is expanded."""
    _, keep, restore = mae_masks(0.75)
    width, kept = x.shape[2], keep.shape[1]
    rows = torch.arange(BATCH)[:, None]
    visible = x.view(-1, width).index_select(0, (rows * CELLS + keep).flatten())
    # One row of mask tokens behind all visible ones stands for every hidden patch.
    place = torch.where(restore < kept, rows * kept + restore, BATCH * kept)
    return (
        torch.cat([visible, fill.view(1, width)]).index_select(0, place.flatten()).view(BATCH, CELLS, width)
    )


def ours_encode(x: Tensor, fill: Tensor) -> Tensor:
    made = patch_mask(BATCH, (SIDE, SIDE), 0.75, seed=1)
    return scatter_visible(gather_visible(x, made.keep[:, 0]), made.restore[:, 0], fill)


# -- races ---------------------------------------------------------------------------------------------------


def test_block_masks(race: Race, threads: int) -> None:
    """75 of 196 cells as in BEiT; I-JEPA draws other blocks, and is timed for as many samples."""
    generator = torch.Generator().manual_seed(0)
    race(
        f"block masks b={BATCH} 14x14 threads={threads}",
        lambda: patch_mask(BATCH, (SIDE, SIDE), 75 / CELLS, kind="block", seed=1),
        {
            "BEiT's method": lambda: [beit(75) for _ in range(BATCH)],
            "DINOv2's method": lambda: [dinov2(75) for _ in range(BATCH)],
            "I-JEPA's method": lambda: [ijepa(generator) for _ in range(BATCH)],
        },
        floor={"BEiT's method": 20, "DINOv2's method": 20, "I-JEPA's method": 20},
    )


def test_random_masks(race: Race, threads: int) -> None:
    race(
        f"random masks b={BATCH} 14x14 threads={threads}",
        lambda: patch_mask(BATCH, (SIDE, SIDE), 0.75, seed=1),
        {"MAE's method": lambda: mae_masks(0.75)},
        floor={"MAE's method": 4},
    )


@functools.cache
def patches() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(BATCH, CELLS, WIDTH, generator=generator), torch.randn(
        1, 1, WIDTH, generator=generator
    )


def test_mae(race: Race, threads: int) -> None:
    x, fill = patches()
    race(
        f"MAE mask, gather, restore b={BATCH} n={CELLS} d={WIDTH} threads={threads}",
        lambda: ours_encode(x, fill.flatten()),
        {"MAE's method": lambda: mae_encode(x, fill), "index_select": lambda: tight_encode(x, fill)},
        floor={"MAE's method": 4, "index_select": 1},
    )


def test_mae_with_gradients(race: Race, threads: int) -> None:
    x, fill = patches()
    grad = torch.ones_like(x)

    def backward(encode: object) -> tuple[Tensor, ...]:
        leaves = x.detach().requires_grad_(), fill.detach().requires_grad_()
        given = leaves[1].flatten() if encode is ours_encode else leaves[1]
        return torch.autograd.grad(encode(leaves[0], given), leaves, grad)  # type: ignore[operator]

    race(
        f"MAE forward + backward b={BATCH} n={CELLS} d={WIDTH} threads={threads}",
        lambda: backward(ours_encode),
        {"MAE's method": lambda: backward(mae_encode), "index_select": lambda: backward(tight_encode)},
        floor={"MAE's method": 2},
    )


def gpu_peers(operator: str, arguments: tuple[Any, ...]) -> dict[str, Callable[[], Any]]:
    """The same on any device, for benchmarks/gpu.py: MAE's method, which hides three quarters."""
    if operator == "patch_mask":
        batch, cells = len(arguments[0]), int(arguments[2]) * int(arguments[3])

        def argsorts() -> Tensor:
            shuffle = torch.rand(batch, cells, device=arguments[0].device).argsort(1)
            return shuffle.argsort(1)

        return {} if arguments[9] else {"MAE's method": argsorts}  # whose masks are no blocks
    if operator == "gather_visible" and arguments[1].dim() == 2:
        x, keep = arguments[0], arguments[1].long()
        return {"MAE's method": lambda: torch.gather(x, 1, keep.unsqueeze(-1).repeat(1, 1, x.shape[2]))}
    if operator == "scatter_visible":
        visible, restore, fill = arguments[0], arguments[1].long(), arguments[2]
        hidden, width = restore.shape[1] - visible.shape[1], visible.shape[2]

        def restored() -> Tensor:
            tokens = torch.cat([visible, fill.repeat(len(visible), hidden, 1)], 1)
            return torch.gather(tokens, 1, restore.unsqueeze(-1).repeat(1, 1, width))

        return {"MAE's method": restored}
    return {}
