"""The checks of the native kernels, in the same words, for eager calls of the reference."""

from torch import Tensor

from sslkernels._random import check_stream


def check_mask(
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
) -> None:
    """Sizes and limits that the kernels rely on; ValueError."""
    sizes = {"frames": frames, "rows": rows, "columns": columns, "tile_rows": tile_rows}
    for name, value in {**sizes, "tile_columns": tile_columns, "views": views}.items():
        if not 0 <= value < 1 << 32:
            raise ValueError(f"{name} must lie in [0, 2^32), got {value}")
    tiles = rows * columns
    if tiles > 1 << 28 or views * tiles > 1 << 32:
        raise ValueError(f"rows x columns must hold at most 2^28 tiles, with views 2^32, got {tiles}")
    if frames * tiles * tile_rows * tile_columns >= 1 << 31:
        raise ValueError("frames x rows x columns must hold fewer than 2^31 cells")
    if not 0 <= masked <= tiles:
        raise ValueError(f"masked must lie in [0, {tiles}], got {masked}")
    if not -1 <= covered <= tiles:
        raise ValueError(f"covered must lie in [-1, {tiles}], got {covered}")
    if not 1 <= least < 1 << 32:
        raise ValueError(f"least must lie in [1, 2^32), got {least}")
    if not -(14 << 16) <= low <= high <= 14 << 16:
        raise ValueError(f"low and high must lie in [-14 * 2^16, 14 * 2^16], got {low} and {high}")
    check_stream(seed, step)


def check_gather(x: Tensor, keep: Tensor, cells: int) -> None:
    if cells != x.shape[1]:
        raise ValueError(f"cells must be {x.shape[1]}, the patches of x, got {cells}")
    check_indices("keep", keep, cells)


def check_gather_backward(grad_visible: Tensor, keep: Tensor, cells: int, needs: list[bool]) -> None:
    if grad_visible.shape[:-1] != keep.shape:
        raise ValueError(
            f"grad_visible must have shape {(*keep.shape, 'D')}, got {tuple(grad_visible.shape)}"
        )
    check_indices("keep", keep, cells)


def check_scatter(visible: Tensor, restore: Tensor, fill: Tensor, kept: int) -> None:
    if kept != visible.shape[1]:
        raise ValueError(f"kept must be {visible.shape[1]}, the patches of visible, got {kept}")
    check_kept(kept, restore)


def check_scatter_backward(grad_out: Tensor, restore: Tensor, kept: int, needs: list[bool]) -> None:
    check_kept(kept, restore)


def check_kept(kept: int, restore: Tensor) -> None:
    if not 0 <= kept <= restore.shape[1]:
        raise ValueError(f"visible must have at most N={restore.shape[1]} patches, got {kept}")
    check_indices("restore", restore, restore.shape[1])


def check_indices(name: str, index: Tensor, limit: int) -> None:
    """Every index lies in [0, limit); the first that does not is named."""
    bad = ((index < 0) | (index >= limit)).nonzero()
    if len(bad):
        place = bad[0].tolist()
        raise ValueError(
            f"{name}[{', '.join(map(str, place))}] is {int(index[tuple(place)])}, outside [0, {limit})"
        )
