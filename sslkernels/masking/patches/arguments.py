"""The plain-number arguments of patch_mask as integers, checked (no torch).

Counts are rounded here, once and in double precision; the kernels only see integers.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from sslkernels._scalars import as_bool, as_float, as_int, one_of

KINDS = ("random", "block")
MOST_CELLS = (1 << 31) - 1
MOST_TILES = 1 << 28  # so that an area times an aspect stays within 63 bits
OCTAVES = 14  # an aspect ratio lies in [2^-14, 2^14]
_LEAST_AREA = 16  # cells of a rectangle, as in BEiT, while so many are left to mask


class Plan(NamedTuple):
    """What the operator is given; `masked`, `covered` and `least` count tiles."""

    frames: int  # the mask of one is repeated for all
    rows: int  # of tiles
    columns: int
    tile_rows: int  # of cells
    tile_columns: int
    masked: int  # a view
    covered: int  # in some view; -1: views are independent
    least: int  # area of a rectangle
    low: int  # logarithms of the aspect's ends to base 2, in 2^-16, of a rectangle counted in tiles
    high: int


def plan(
    grid: Sequence[int],
    ratio: float,
    kind: str,
    views: int,
    disjoint: bool,
    coverage: float,
    patch_block: Sequence[int],
    aspect: Sequence[float],
) -> Plan:
    """Check the arguments and turn them into integers."""
    sides = _ints("grid", grid, (2, 3), 0)
    tile = _ints("patch_block", patch_block, (2,), 1)
    one_of("kind", kind, KINDS)
    frames, rows, columns = sides if len(sides) == 3 else (1, sides[0], sides[1])
    if frames * rows * columns > MOST_CELLS:
        raise ValueError(f"grid must hold fewer than 2^31 cells, got {sides}")
    if rows % tile[0] or columns % tile[1]:
        raise ValueError(f"patch_block must divide the grid's {rows} x {columns} cells, got {tile}")
    rows, columns, size = rows // tile[0], columns // tile[1], tile[0] * tile[1]
    if rows * columns > MOST_TILES:
        raise ValueError(f"grid must hold at most 2^28 cells or tiles a frame, got {sides}")
    as_int("views", views, 1, (1 << 32) // max(rows * columns, 1))
    masked = _tiles("ratio", ratio, rows * columns * size, tile)
    low, high = _aspect(aspect, tile)
    covered = -1
    if as_bool("disjoint", disjoint):
        covered = _tiles("coverage", coverage, rows * columns * size, tile)
    else:
        _share("coverage", coverage)
    least = -(-_LEAST_AREA // size)
    return Plan(frames, rows, columns, tile[0], tile[1], masked, covered, least, low, high)


def _ints(name: str, values: Any, lengths: tuple[int, ...], low: int) -> tuple[int, ...]:
    found = _tuple(name, values)
    if len(found) not in lengths:
        allowed = " or ".join(map(str, lengths))
        raise ValueError(f"{name} must hold {allowed} ints, got {found}")
    return tuple(as_int(name, value, low, MOST_CELLS) for value in found)


def _tuple(name: str, values: Any) -> tuple[Any, ...]:
    try:
        return tuple(values)
    except TypeError:
        raise TypeError(f"{name} must be a sequence, got {type(values).__name__}") from None


def _share(name: str, value: Any) -> float:
    value = as_float(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")
    return value


def _tiles(name: str, share: float, cells: int, tile: tuple[int, ...]) -> int:
    """round(share * cells), halves to even, as a number of tiles."""
    count, size = round(_share(name, share) * cells), tile[0] * tile[1]
    if count % size:
        raise ValueError(
            f"{name} must hide a multiple of {size} cells, whole tiles of patch_block {tile}: "
            f"round({share} * {cells}) is {count}"
        )
    return count // size


def _aspect(aspect: Any, tile: tuple[int, ...]) -> tuple[int, int]:
    """Both ends of the aspect (height over width, in cells) as logarithms, for sides counted in tiles."""
    ends = tuple(as_float("aspect", value) for value in _tuple("aspect", aspect))
    if len(ends) != 2 or not 0 < ends[0] <= ends[1] < math.inf:
        raise ValueError(f"aspect must be (low, high) with 0 < low <= high, finite, got {ends}")
    shape = math.log2(tile[1] / tile[0])
    return _logarithm(ends[0], shape), _logarithm(ends[1], shape)


def _logarithm(value: float, shape: float) -> int:
    """floor(2^16 (log2(value) + shape)) within the octaves; exact for powers of two."""
    found = math.floor(65536.0 * (math.log2(value) + shape))
    return max(-OCTAVES << 16, min(OCTAVES << 16, found))
