"""patch_mask: counts, fairness, independence of rows, views, tiles; and its arguments."""

import itertools
import math
from typing import Any

import pytest
import torch
import torch._dynamo.testing
from torch import Tensor

import sslkernels
from sslkernels.masking import PatchMask, patch_mask

KINDS = ("random", "block")


@pytest.fixture(autouse=True, params=["cpu", "reference"])
def backend(request: pytest.FixtureRequest):
    with sslkernels.use(request.param):
        yield request.param


def only_on(backend: str, wanted: str) -> None:
    """Statistics need many samples, and both backends give the same bits."""
    if backend != wanted:
        pytest.skip(f"runs on {wanted} alone")


def check_layout(result: PatchMask) -> None:
    """keep lists the visible cells; restore undoes cat(visible, hidden), as MAE's ids_restore does."""
    batch, views, cells = result.mask.shape
    for b, v in itertools.product(range(batch), range(views)):
        mask = result.mask[b, v]
        assert torch.equal(result.keep[b, v], (~mask).nonzero().flatten())
        both = torch.cat([(~mask).nonzero().flatten(), mask.nonzero().flatten()])
        assert torch.equal(both[result.restore[b, v]], torch.arange(cells))


def chi_square(counts: Tensor, expected: float) -> float:
    return float(((counts.double() - expected) ** 2 / expected).sum())


# -- counts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("grid", "ratio", "count"),
    [
        ((2, 5), 0.9, 9),  # lightly #1583: int(N * (1 - r)) masks all ten
        ((10, 10), 0.29, 29),
        ((14, 14), 0.9, 176),
        ((14, 14), 0.75, 147),
        ((1, 9), 0.5, 4),  # 4.5, to even
        ((1, 11), 0.5, 6),  # 5.5, to even
        ((9, 1), 0.6, 5),
        ((16, 4), 0.9, 58),
        ((3, 70), 0.37, 78),
        ((7, 7), 0.0, 0),
        ((7, 7), 1.0, 49),
        ((7, 7), 1, 49),
        ((1, 1), 0.5, 0),
        ((0, 5), 0.7, 0),
        ((5, 0), 1.0, 0),
    ],
)
def test_exact_count(kind: str, grid: tuple[int, int], ratio: float, count: int) -> None:
    result = patch_mask(16, grid, ratio, kind=kind, views=2, seed=3)
    assert result.mask.shape == (16, 2, grid[0] * grid[1])
    assert result.mask.dtype == torch.bool
    assert result.keep.dtype == result.restore.dtype == torch.int64
    assert (result.mask.sum(-1) == count).all()
    check_layout(result)


@pytest.mark.parametrize("aspect", [(1, 1), (0.3, 3.33), (1e-6, 1e-6), (1e6, 1e6), (1e-300, 1e300)])
@pytest.mark.parametrize("grid", [(16, 4), (1, 9), (9, 1), (5, 130), (14, 14)])
def test_blocks_find_room_everywhere(grid: tuple[int, int], aspect: tuple[float, float]) -> None:
    """lightly #2064, #2065: the released generator gives up on narrow grids. The count comes first here."""
    count = round(0.9 * grid[0] * grid[1])
    for ratio, wanted in ((0.9, count), (1 / (grid[0] * grid[1]), 1)):
        result = patch_mask(8, grid, ratio, kind="block", aspect=aspect, seed=1)
        assert (result.mask.sum(-1) == wanted).all()
        check_layout(result)


def test_every_count_of_a_grid() -> None:
    for kind, count in itertools.product(KINDS, range(13)):
        result = patch_mask(5, (3, 4), count / 12, kind=kind, seed=count)
        assert (result.mask.sum(-1) == count).all()


# -- what a row depends on -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("views", [{}, {"views": 3, "disjoint": True, "coverage": 0.9}])
def test_a_row_is_the_same_alone(kind: str, views: dict[str, Any]) -> None:
    """ijepa #60, jepa #50: masks cut to the shortest of their batch, choices made once for all rows."""
    arguments = {"kind": kind, "seed": 11, "step": 4, **views}
    batch = patch_mask(64, (14, 14), 0.4, **arguments)
    alone = patch_mask(1, (14, 14), 0.4, sample_ids=torch.tensor([5]), **arguments)
    for whole, one in zip(batch, alone, strict=True):
        assert torch.equal(whole[5:6], one)
    shuffled = torch.tensor([63, -7, 5, 2**62, 0])
    mixed = patch_mask(5, (14, 14), 0.4, sample_ids=shuffled, **arguments)
    assert torch.equal(mixed.mask[2], batch.mask[5])
    assert torch.equal(mixed.mask[4], batch.mask[0])


@pytest.mark.parametrize("kind", KINDS)
def test_draws_depend_on_seed_step_and_sample(kind: str) -> None:
    first = patch_mask(4, (14, 14), 0.4, kind=kind, seed=1)
    assert torch.equal(first.mask, patch_mask(4, (14, 14), 0.4, kind=kind, seed=1).mask)
    for other in (
        patch_mask(4, (14, 14), 0.4, kind=kind, seed=2),
        patch_mask(4, (14, 14), 0.4, kind=kind, seed=1, step=1),
        patch_mask(4, (14, 14), 0.4, kind=kind, seed=1, sample_ids=torch.arange(4) + 4),
    ):
        assert not (first.mask == other.mask).flatten(1).all(1).any()
    assert len({tuple(row.tolist()) for row in first.mask[:, 0]}) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_threads_and_the_global_generator_do_not_matter(kind: str) -> None:
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.manual_seed(threads)
        torch.set_num_threads(threads)
        results.append(patch_mask(300, (14, 14), 0.4, kind=kind, seed=1).mask)
    torch.set_num_threads(before)
    assert torch.equal(*results)


def test_streams_are_frozen() -> None:
    """A change here changes every user's masks: it needs a major version."""
    frozen = {
        "random": "110100010011101101011011101000000101",
        "block": "110000000001000101000001111111111111",
    }
    for kind in KINDS:
        mask = patch_mask(
            1, (6, 6), 0.5, kind=kind, seed=2**62 + 5, step=9, sample_ids=torch.tensor([-3])
        ).mask
        assert "".join(str(int(cell)) for cell in mask.flatten()) == frozen[kind]


# -- fairness ------------------------------------------------------------------------------------------------


def test_random_cells_are_uniform(backend: str) -> None:
    """Each cell as often as any other: chi-square with 29 degrees of freedom, and pairs likewise."""
    only_on(backend, "cpu")
    mask = patch_mask(20000, (5, 6), 0.3, seed=7).mask[:, 0].double()
    variance = 30 / 29 * 0.7  # of a count over its mean, for 9 of 30 drawn without replacement
    assert chi_square(mask.sum(0), 20000 * 0.3) / variance < 58.3  # 0.999
    together = mask.T @ mask
    pairs = together[torch.triu(torch.ones(30, 30, dtype=torch.bool), 1)]
    expected = 20000 * 9 * 8 / (30 * 29)
    assert chi_square(pairs, expected) / len(pairs) == pytest.approx(0.92, abs=0.3)


@pytest.mark.parametrize("grid", [(6, 6), (5, 8), (1, 9), (16, 4)])
@pytest.mark.parametrize("ratio", [0.25, 0.6])
def test_blocks_treat_mirror_images_alike(backend: str, grid: tuple[int, int], ratio: float) -> None:
    """ijepa #40: an upper bound left out, so that the last row and column were never masked."""
    only_on(backend, "cpu")
    samples = 20000
    share = patch_mask(samples, grid, ratio, kind="block", seed=5).mask.double().mean((0, 1)).reshape(grid)
    deviation = (2 * 0.25 / samples) ** 0.5
    for axes in ((0,), (1,), (0, 1)):
        assert ((share - share.flip(axes)).abs() < 4.5 * deviation).all()
    assert share.min() > 0


def test_square_blocks_do_not_know_up_from_left(backend: str) -> None:
    """With an aspect range that is its own inverse a square grid's transpose is as likely."""
    only_on(backend, "cpu")
    mask = patch_mask(20000, (7, 7), 0.4, kind="block", aspect=(0.25, 4), seed=5).mask.double()
    share = mask.mean((0, 1)).reshape(7, 7)
    assert ((share - share.T).abs() < 4.5 * (0.5 / 20000) ** 0.5).all()


def test_disjoint_blocks_stay_symmetric(backend: str) -> None:
    only_on(backend, "cpu")
    result = patch_mask(20000, (6, 6), 0.4, kind="block", views=3, disjoint=True, seed=5)
    for share in result.mask.double().mean(0).reshape(3, 6, 6):
        for axes in ((0,), (1,), (0, 1)):
            assert ((share - share.flip(axes)).abs() < 4.5 * (0.5 / 20000) ** 0.5).all()


# -- the shape of blocks -------------------------------------------------------------------------------------


def box(mask: Tensor, grid: tuple[int, int]) -> tuple[int, int, int]:
    """Height and width of the bounding box of the masked cells, and how many there are."""
    where = mask.reshape(grid).nonzero()
    height, width = (where.amax(0) - where.amin(0) + 1).tolist()
    return height, width, len(where)


def test_one_square_block() -> None:
    for mask in patch_mask(200, (20, 20), 16 / 400, kind="block", aspect=(1, 1), seed=1).mask[:, 0]:
        assert box(mask, (20, 20)) == (4, 4, 16)


@pytest.mark.parametrize(
    ("aspect", "expected"), [((4, 4), (8, 2)), ((0.25, 0.25), (2, 8)), ((16, 16), (16, 1))]
)
def test_aspect_is_height_over_width(aspect: tuple[float, float], expected: tuple[int, int]) -> None:
    for mask in patch_mask(50, (20, 20), 16 / 400, kind="block", aspect=aspect, seed=1).mask[:, 0]:
        assert box(mask, (20, 20))[:2] == expected


def test_aspect_counts_cells_not_tiles() -> None:
    result = patch_mask(50, (32, 32), 64 / 1024, kind="block", aspect=(1, 1), patch_block=(2, 1), seed=1)
    boxes = [box(mask, (32, 32)) for mask in result.mask[:, 0]]
    assert (8, 8, 64) in boxes


def test_aspect_is_log_uniform(backend: str) -> None:
    """Rectangles of 16 cells, larger ones cut by rows or by columns, have the sides of the formula."""
    only_on(backend, "cpu")
    low, high, samples = 1 / 16, 16.0, 40000
    masks = patch_mask(samples, (64, 64), 16 / 4096, kind="block", aspect=(low, high), seed=2).mask
    masks = masks.reshape(samples, 64, 64)
    rows, columns = masks.any(2), masks.any(1)
    # One rectangle: without a gap; a smaller one is followed by others, mostly far away.
    solid = [(used.diff(dim=1, prepend=used[:, :1] & False) & used).sum(1) == 1 for used in (rows, columns)]
    rows, columns = rows.sum(1), columns.sum(1)
    draws = 100001
    aspect = torch.linspace(math.log(low), math.log(high), draws, dtype=torch.float64).exp()
    height, width = (4 * aspect.sqrt() + 0.5).floor(), (4 / aspect.sqrt() + 0.5).floor()
    full = height * width >= 16
    shares: dict[tuple[int, int], float] = {}
    for h, w in torch.stack([height, width], 1)[full].long().tolist():
        for sides in ((-(-16 // w), w), (h, -(-16 // h))):
            shares[sides] = shares.get(sides, 0.0) + 0.5 / draws
    assert len(shares) > 8
    for (h, w), share in shares.items():
        found = float((solid[0] & solid[1] & (rows == h) & (columns == w)).double().mean())
        assert found == pytest.approx(share, abs=4.5 * (share / samples) ** 0.5 + 0.002)


def test_blocks_hang_together(backend: str) -> None:
    """Neighbours of a hidden cell are hidden far more often than with random cells."""
    only_on(backend, "cpu")
    both = {}
    for kind in KINDS:
        mask = patch_mask(500, (14, 14), 0.4, kind=kind, seed=3).mask.reshape(-1, 14, 14)
        both[kind] = float((mask[:, 1:] & mask[:, :-1]).double().mean())
    assert both["random"] == pytest.approx(0.16, abs=0.01)
    assert both["block"] > 0.28


# -- views ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("ratio", "views", "coverage"),
    [
        (0.5, 2, 1.0),
        (0.5, 3, 1.0),
        (0.25, 3, 1.0),
        (0.75, 2, 1.0),
        (0.4, 4, 0.9),
        (0.3, 5, 0.7),
        (0.5, 3, 0.2),
    ],
)
def test_disjoint_views_cover(kind: str, ratio: float, views: int, coverage: float) -> None:
    """DMJD: later views hide what the earlier ones show, until so many are hidden in some view."""
    arguments = {"kind": kind, "views": views, "disjoint": True, "coverage": coverage, "seed": 9}
    mask = patch_mask(20, (8, 9), ratio, **arguments).mask
    masked, covered = round(ratio * 72), round(coverage * 72)
    assert (mask.sum(-1) == masked).all()
    seen = torch.zeros_like(mask[:, 0])
    for view in range(views):
        before, fresh = seen.sum(-1), (mask[:, view] & ~seen).sum(-1)
        wanted = masked if view == 0 else min(masked, max(covered - int(before[0]), 0))
        assert (fresh == wanted).all()
        seen |= mask[:, view]
    assert (seen.sum(-1) == min(max(covered, masked), views * masked)).all()


def test_views_are_independent_otherwise(backend: str) -> None:
    only_on(backend, "cpu")
    mask = patch_mask(5000, (8, 8), 0.5, views=2, seed=9).mask
    assert float((mask[:, 0] | mask[:, 1]).double().mean()) == pytest.approx(0.75, abs=0.005)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_views_do_not_depend_on_their_number(kind: str) -> None:
    for disjoint in (False, True):
        arguments = {"kind": kind, "disjoint": disjoint, "seed": 4}
        two = patch_mask(6, (8, 8), 0.3, views=2, **arguments).mask
        five = patch_mask(6, (8, 8), 0.3, views=5, **arguments).mask
        assert torch.equal(two, five[:, :2])


# -- tiles and tubes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tile", [(2, 2), (3, 1), (1, 4), (6, 8)])
def test_tiles_are_hidden_whole(kind: str, tile: tuple[int, int]) -> None:
    mask = patch_mask(10, (6, 8), 0.5, kind=kind, patch_block=tile, seed=1).mask if tile != (6, 8) else None
    if mask is None:  # one tile: all or nothing
        mask = patch_mask(10, (6, 8), 1.0, kind=kind, patch_block=tile).mask
    parts = mask.reshape(10, 6 // tile[0], tile[0], 8 // tile[1], tile[1])
    assert (parts.amax((2, 4)) == parts.amin((2, 4))).all()
    assert (mask.sum(-1) == (48 if tile == (6, 8) else 24)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_tube(kind: str) -> None:
    """VideoMAE: one mask for all frames, whose count is rounded a frame."""
    result = patch_mask(6, (3, 5, 7), 0.9, kind=kind, views=2, seed=1)
    frames = result.mask.reshape(6, 2, 3, 35)
    assert (frames == frames[:, :, :1]).all()
    assert (result.mask.sum(-1) == 3 * round(0.9 * 35)).all()
    assert result.keep.shape == (6, 2, 3 * 3)
    check_layout(result)
    assert torch.equal(frames[:, :, 0], patch_mask(6, (5, 7), 0.9, kind=kind, views=2, seed=1).mask)


def test_no_frames() -> None:
    assert patch_mask(2, (0, 4, 4), 0.5, seed=1).mask.shape == (2, 1, 0)


# -- arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"ratio": 1.5}, ValueError, "ratio"),
        ({"ratio": -0.1}, ValueError, "ratio"),
        ({"ratio": float("nan")}, ValueError, "ratio"),
        ({"ratio": "half"}, TypeError, "ratio"),
        ({"ratio": 10**400}, ValueError, "ratio"),
        ({"ratio": 0, "seed": None, "step": 2**63}, ValueError, "step"),
        ({"device": "gpu"}, ValueError, "device"),
        ({"device": 0.5}, ValueError, "device"),
        ({"ratio": None}, TypeError, "ratio"),
        ({"grid": (4,)}, ValueError, "grid"),
        ({"grid": (1, 2, 3, 4)}, ValueError, "grid"),
        ({"grid": 14}, TypeError, "grid"),
        ({"grid": (-1, 4)}, ValueError, "grid"),
        ({"grid": (2.0, 4)}, TypeError, "grid"),
        ({"grid": (1 << 20, 1 << 20)}, ValueError, "grid"),
        ({"grid": (1 << 15, 1 << 15)}, ValueError, "grid"),
        ({"kind": "blocks"}, ValueError, "kind"),
        ({"kind": None}, TypeError, "kind"),
        ({"views": 0}, ValueError, "views"),
        ({"views": 1.0}, TypeError, "views"),
        ({"disjoint": 1}, TypeError, "disjoint"),
        ({"coverage": 1.1}, ValueError, "coverage"),
        ({"coverage": float("nan"), "disjoint": True}, ValueError, "coverage"),
        ({"patch_block": (4, 4)}, ValueError, "patch_block"),  # 14 cells: 3 tiles and a half
        ({"patch_block": (28, 14)}, ValueError, "patch_block"),
        ({"patch_block": (0, 1)}, ValueError, "patch_block"),
        ({"patch_block": 2}, TypeError, "patch_block"),
        ({"patch_block": (2, 2), "ratio": 0.75}, ValueError, "patch_block"),  # 147 is no multiple of 4
        ({"patch_block": (2, 2), "ratio": 1, "disjoint": True, "coverage": 0.75}, ValueError, "coverage"),
        ({"aspect": (0, 1)}, ValueError, "aspect"),
        ({"aspect": (2, 1)}, ValueError, "aspect"),
        ({"aspect": (1, float("inf"))}, ValueError, "aspect"),
        ({"aspect": (float("nan"), 1)}, ValueError, "aspect"),
        ({"aspect": 1.0}, TypeError, "aspect"),
        ({"aspect": (1, 2, 3)}, ValueError, "aspect"),
        ({"seed": None}, ValueError, "seed"),
        ({"seed": -1}, ValueError, "seed"),
        ({"step": -1}, ValueError, "step"),
        ({"batch": -1}, ValueError, "batch"),
        ({"batch": 2.0}, TypeError, "batch"),
        ({"sample_ids": torch.arange(3)}, ValueError, "sample_ids"),
        ({"sample_ids": torch.zeros(2)}, ValueError, "sample_ids"),
        ({"sample_ids": [1, 2]}, TypeError, "sample_ids"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], error: type[Exception], name: str) -> None:
    arguments: dict[str, Any] = {"batch": 2, "grid": (14, 14), "ratio": 0.5, "seed": 1, **change}
    for _ in range(2):  # what was refused once is not remembered as right
        with pytest.raises(error, match=name) as caught:
            patch_mask(**arguments)
        assert "\n" not in str(caught.value)


def test_nothing_drawn_needs_no_seed() -> None:
    for ratio in (0.0, 1.0, 0.001):
        assert (patch_mask(2, (4, 4), ratio).mask.double().mean((0, 1)) == round(ratio)).all()
    assert patch_mask(2, (0, 4), 0.5).mask.shape == (2, 1, 0)
    assert patch_mask(0, (4, 4), 0.5, seed=1).keep.shape == (0, 1, 8)


def test_device() -> None:
    ids = torch.arange(3)
    assert patch_mask(3, (4, 4), 0.5, seed=1).mask.device.type == "cpu"
    with torch.device("meta"):  # the default device is not asked
        assert patch_mask(3, (4, 4), 0.5, seed=1).mask.device.type == "cpu"
    assert patch_mask(3, (4, 4), 0.5, seed=1, device="cpu", sample_ids=ids).keep.device.type == "cpu"
    for device in ("meta", torch.device("meta")):
        result = patch_mask(3, (4, 4), 0.5, seed=1, device=device, sample_ids=ids)
        assert [tensor.device.type for tensor in result] == ["meta"] * 3
        assert result.keep.shape == (3, 1, 8)


def test_limits_of_the_operator_are_checked() -> None:
    """Called by itself, past the checks of the function."""
    good = [torch.arange(2), 1, 4, 4, 1, 1, 1, 8, -1, True, 16, -65536, 65536, 1, 0]
    places = {
        "frames": 1,
        "rows": 2,
        "columns": 3,
        "tile_rows": 4,
        "tile_columns": 5,
        "views": 6,
        "masked": 7,
    }
    places |= {"covered": 8, "least": 10, "low": 11, "high": 12, "seed": 13, "step": 14}
    for name, place in places.items():
        for value in (-(2**62), 2**62) if name not in ("seed", "step") else (-1,):
            bad = [*good[:place], value, *good[place + 1 :]]
            with pytest.raises(
                ValueError, match=r"rows|columns|masked|covered|least|low|high|seed|step|frames|views"
            ):
                torch.ops.sslkernels.patch_mask(*bad)


# -- compiled ------------------------------------------------------------------------------------------------


def test_compiles_once_for_every_step(backend: str) -> None:
    only_on(backend, "cpu")
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")

    @torch.compile(fullgraph=True, backend=counter)
    def masks(ids: Tensor, step: int) -> PatchMask:
        return patch_mask(
            ids.shape[0],
            (14, 14),
            0.4,
            kind="block",
            views=2,
            disjoint=True,
            seed=1,
            step=step,
            sample_ids=ids,
        )

    for step, batch in enumerate((4, 4, 6, 9, 5)):
        ids = torch.arange(batch) + 100
        expected = patch_mask(
            batch, (14, 14), 0.4, kind="block", views=2, disjoint=True, seed=1, step=step, sample_ids=ids
        )
        for left, right in zip(masks(ids, step), expected, strict=True):
            assert torch.equal(left, right)
    assert counter.frame_count <= 3


def test_compiles_with_changing_ratio(backend: str) -> None:
    only_on(backend, "cpu")
    torch._dynamo.reset()

    @torch.compile(fullgraph=True, backend="aot_eager")
    def masks(ids: Tensor, ratio: float) -> PatchMask:
        return patch_mask(ids.shape[0], (6, 6), ratio, seed=1, sample_ids=ids)

    for ratio in (0.25, 0.5, 0.75):
        expected = patch_mask(3, (6, 6), ratio, seed=1)
        for left, right in zip(masks(torch.arange(3), ratio), expected, strict=True):
            assert torch.equal(left, right)


def test_compiles_with_every_number_dynamic(backend: str) -> None:
    """dynamic=True makes symbols of sizes, shares and aspects, the defaults among them."""
    only_on(backend, "cpu")
    torch._dynamo.reset()

    def masks(x: Tensor, step: int, ratio: float, aspect: tuple[float, float]) -> PatchMask:
        grid = (x.shape[1] // 2, x.shape[2] // 2)
        return patch_mask(x.shape[0], grid, ratio, kind="block", aspect=aspect, seed=1, step=step)

    compiled = torch.compile(masks, fullgraph=True, dynamic=True, backend="aot_eager")
    cases = [((2, 8, 8), 0.5, (0.3, 3.33)), ((3, 8, 12), 0.5, (1.0, 1.0)), ((4, 10, 6), 0.3, (0.25, 2.5))]
    for step, (shape, ratio, aspect) in enumerate(cases):
        x = torch.zeros(shape)
        found, expected = compiled(x, step, ratio, aspect), masks(x, step, ratio, aspect)
        assert all(torch.equal(left, right) for left, right in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_exports_with_dynamic_sizes(kind: str) -> None:
    class Masks(torch.nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return tuple(patch_mask(x.shape[0], (x.shape[1], x.shape[2]), 0.5, kind=kind, seed=1))

    sizes = {0: torch.export.Dim("B"), 1: torch.export.Dim("H", max=64), 2: torch.export.Dim("W", max=64)}
    exported = torch.export.export(Masks(), (torch.zeros(2, 4, 6),), dynamic_shapes=(sizes,)).module()
    for shape in ((2, 4, 6), (5, 3, 9), (3, 7, 7)):
        for left, right in zip(exported(torch.zeros(shape)), Masks()(torch.zeros(shape)), strict=True):
            assert torch.equal(left, right)
