"""sample_tokens: faults met in the field, then their classes; distributions; what a row's draw depends on."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sslkernels import _op, use
from sslkernels.masking import sample_tokens
from sslkernels.masking.sampling import reference

INF = float("inf")
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
_op.declare_all()
BACKENDS = [
    name
    for name in ("reference", "cpu", "triton")
    if _op.OPS["sample_tokens"].kernel(name, "CPU") is not None
]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest):
    with use(request.param):
        yield request.param


def normal(rows: int, columns: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)


# -- frozen --------------------------------------------------------------------------------------------------

GOLDEN = [[532, 526, 371], [532, 524, 363]]


@pytest.mark.parametrize("dtype", FLOATS)
def test_streams_are_frozen(backend: str, dtype: torch.dtype) -> None:
    """A change here changes every user's samples: it needs a major version."""
    logits = (torch.arange(600) * 37 % 101).div(32).to(dtype).expand(3, -1)
    names = torch.tensor([-3, 2**40, 7])
    one = sample_tokens(logits, seed=2**62, step=2**33 + 1, sample_ids=names)
    two = sample_tokens(logits, seed=2**62, step=2**33 + 1, sample_ids=names, temperature=0.25)
    assert [one.tolist(), two.tolist()] == GOLDEN


# -- the ends of the generator -------------------------------------------------------------------------------


def with_words(monkeypatch: pytest.MonkeyPatch, *words: int) -> None:
    """The reference draws these four words everywhere."""
    monkeypatch.setattr(
        "sslkernels.masking.sampling.reference.draw",
        lambda key, sample, purpose, position: tuple(torch.full_like(sample, word) for word in words),
    )


@pytest.mark.parametrize("words", list(itertools.product([0, 0xFFFFFFFF], repeat=4)))
def test_a_word_at_the_ends_of_the_generator(monkeypatch: pytest.MonkeyPatch, words: tuple[int, ...]) -> None:
    """sglang #33423, pytorch #4858, #48841, #50034: the extreme words drew forbidden tokens."""
    with_words(monkeypatch, *words)
    logits = torch.full((1, 1000), -INF)
    for places in ([0, 2], [300], [999], [0, 255, 256, 999], [511, 512]):
        row = logits.clone()
        row[0, places] = 0.0
        with use("reference"):
            token = int(sample_tokens(row, seed=1))
        assert token in places
        if len(set(words)) == 1:
            assert token == (places[0] if words[0] == 0 else places[-1])


def test_minus_infinity_is_never_drawn(backend: str) -> None:
    """pytorch #50034 drew them once in some 10^7: noise of both signs of infinity met."""
    rows = 100_000 if backend != "triton" else 30
    logits = torch.tensor([0.0, -INF, 0.0]).expand(rows, 3)
    tokens = sample_tokens(logits, seed=1)
    assert not (tokens == 1).any()
    assert abs(float((tokens == 2).double().mean()) - 0.5) < 4 / math.sqrt(rows)


def test_a_weight_that_vanishes_is_not_drawn(backend: str) -> None:
    """exp(-1000) is 0 in any precision; so is the share of all blocks but one."""
    logits = torch.full((20, 1000), -1000.0)
    logits[torch.arange(20), torch.arange(20) * 50] = 0.0
    assert torch.equal(sample_tokens(logits, seed=1), torch.arange(20) * 50)
    assert torch.equal(sample_tokens(logits - 3e38, seed=1), sample_tokens(torch.zeros(20, 1000), seed=1))


# -- temperature ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("temperature", [1e-5, 1e-30, 1e-45, 1e-300])
def test_a_temperature_that_overflows(backend: str, dtype: torch.dtype, temperature: float) -> None:
    """vllm #1623, aici #19: divided in fp16 three entries are infinite, and the softmax is NaN."""
    logits = torch.tensor([[2.875, 2.955, 11.0625, -2.447]], dtype=dtype)
    assert sample_tokens(logits, temperature=temperature, seed=1).item() == 2
    assert sample_tokens(-logits, temperature=temperature, seed=1).item() == 3


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("temperature", [1e-320, 5e-324])
def test_the_smallest_temperatures_are_not_zero_halved(
    backend: str, dtype: torch.dtype, temperature: float
) -> None:
    """Half of 5e-324 is 0."""
    logits = normal(20, 300, dtype)
    assert torch.equal(
        logits.gather(1, sample_tokens(logits, temperature=temperature, seed=1)[:, None])[:, 0],
        logits.amax(1),
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_any_temperature_of_any_logits(backend: str, dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    logits = torch.tensor([[largest, -largest, 0.0, largest, -INF]], dtype=dtype).repeat(12, 1)
    for temperature in (1e-10, 1.0, 1e10):
        cold = sample_tokens(logits, temperature=temperature, seed=1)
        if largest / temperature > 100:
            assert set(cold.tolist()) == {0, 3}
    hot = sample_tokens(logits, temperature=largest, seed=1)  # weights 1, e^-2, e^-1, 1, 0
    assert set(hot.tolist()) <= {0, 1, 2, 3}
    assert len(set(hot.tolist())) >= 3


@pytest.mark.parametrize("dtype", FLOATS)
def test_temperature_zero_is_the_first_largest(backend: str, dtype: torch.dtype) -> None:
    logits = normal(40, 700, dtype).round()  # many ties
    expected = (logits == logits.amax(1, keepdim=True)).byte().argmax(1)
    assert torch.equal(sample_tokens(logits, temperature=0), expected)
    assert torch.equal(sample_tokens(logits, temperature=torch.zeros(40), seed=3), expected)
    signed = torch.tensor([[-0.0, 0.0], [0.0, -0.0], [-1.0, -0.0]], dtype=dtype)
    assert sample_tokens(signed, temperature=0.0).tolist() == [0, 0, 1]
    tiny = torch.tensor([[1e-40, 2e-40, 1e-40]], dtype=torch.float32)
    assert sample_tokens(tiny, temperature=0).item() == 1


def test_a_temperature_for_each_row(backend: str) -> None:
    logits, each = normal(6, 300), torch.tensor([0.0, 0.3, 1.0, 2.0, 1e-3, 7.0])
    together = sample_tokens(logits, temperature=each, seed=5)
    for i, one in enumerate(each.double().tolist()):
        alone = sample_tokens(logits[i : i + 1], temperature=one, seed=5, sample_ids=torch.tensor([i]))
        assert alone.item() == together[i]


# -- bad values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.0, 0.5])
@pytest.mark.parametrize("rows", [1, 20])
def test_a_row_that_cannot_be_drawn_from(backend: str, temperature: float, rows: int) -> None:
    allowed = torch.ones(rows, 600, dtype=torch.bool)

    def draw(logits: Tensor, flags: Tensor | None = allowed) -> Tensor:
        return sample_tokens(logits, temperature=temperature, allowed=flags, seed=1)

    last = rows - 1
    for place in (0, 31, 255, 256, 599):
        for bad, word in ((math.nan, "nan"), (INF, "inf")):
            logits = normal(rows, 600)
            logits[last, place] = bad
            with pytest.raises(ValueError, match=rf"logits\[{last}, {place}\] is {word}"):
                draw(logits)
            with pytest.raises(ValueError, match=rf"logits\[{last}, {place}\] is {word}"):
                draw(logits, None)
            if backend == "triton" and (rows, place) != (1, 255):
                continue  # its draws are slow under the interpreter
            hidden = allowed.clone()
            hidden[last, place] = False
            tokens = draw(logits, hidden)
            assert tokens[last] != place
            assert (tokens >= 0).all()
    with pytest.raises(ValueError, match=rf"logits\[{last}\] has nothing allowed"):
        draw(normal(rows, 600), allowed & (torch.arange(rows) < last)[:, None])
    with pytest.raises(ValueError, match=r"logits\[0\] has nothing allowed"):
        draw(torch.full((rows, 600), -INF))
    with pytest.raises(ValueError, match=r"logits\[0\] has nothing allowed"):
        draw(normal(rows, 600), torch.zeros(600, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"logits\[0\] has nothing allowed"):
        draw(torch.empty(rows, 0), None)
    with pytest.raises(ValueError, match="nan"):  # whatever else is forbidden
        draw(torch.full((rows, 600), math.nan))


@pytest.mark.skipif("triton" not in BACKENDS, reason="needs triton")
@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_unchecked_rows_of_a_gpu(monkeypatch: pytest.MonkeyPatch, temperature: float) -> None:
    """Where nobody looks at values a row that cannot be drawn from gives -1, and no other row suffers."""
    monkeypatch.setattr("sslkernels.masking.sampling.triton_kernels.check", lambda *_: None)
    logits = normal(6, 300)
    logits[1, 7], logits[2, 270], logits[3] = math.nan, INF, -INF
    allowed = torch.ones(6, 300, dtype=torch.bool)
    allowed[4] = False
    for flags in (allowed, None):
        with use("triton"), torch.no_grad():
            tokens = sample_tokens(logits, temperature=temperature, allowed=flags, seed=1)
        kept = torch.tensor([0, 5] if flags is not None else [0, 4, 5])
        names = {"sample_ids": kept, "seed": 1, "temperature": temperature}
        assert torch.equal(tokens[kept], sample_tokens(logits[kept], **names))
        assert (tokens[1:4] == -1).all()
        assert flags is None or tokens[4] == -1


@pytest.mark.skipif("triton" not in BACKENDS, reason="needs triton")
def test_more_rows_than_the_second_side_of_a_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA allows 2^31 - 1 programs along the first side of a grid and 65535 along the second."""
    grids = []

    class Recorder:
        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
            grids.append(grid)
            return lambda *_, **__: None

    for name in ("weigh_kernel", "draw_kernel"):
        monkeypatch.setattr(f"sslkernels.masking.sampling.triton_kernels.{name}", Recorder())
    with use("triton"):
        sample_tokens(torch.zeros(70_000, 1), seed=1)
    assert len(grids) == 2
    assert all(side <= 65535 for grid in grids for side in grid[1:])


def test_a_compiled_call_checks_values_too() -> None:
    compiled = torch.compile(lambda x: sample_tokens(x, seed=1), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(normal(3, 9)), sample_tokens(normal(3, 9), seed=1))
    with pytest.raises(ValueError, match=r"logits\[0\] has nothing allowed"):
        compiled(torch.full((3, 9), -INF))


@pytest.mark.parametrize("bad", [-1.0, math.nan, INF, -1e-300])
def test_a_temperature_out_of_range(backend: str, bad: float) -> None:
    with pytest.raises(ValueError, match="temperature must lie in"):
        sample_tokens(normal(2, 3), temperature=bad, seed=1)
    with pytest.raises(ValueError, match=r"temperature\[1\] must lie in"):
        sample_tokens(normal(2, 3), temperature=torch.tensor([1.0, bad], dtype=torch.float64), seed=1)
    with pytest.raises(ValueError, match="got -1e-300"):
        sample_tokens(normal(2, 3), temperature=-1e-300, seed=1)


def test_arguments_are_named() -> None:
    logits = normal(4, 5)
    for keywords, kind, name in (
        ({}, ValueError, "seed"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 1.5}, TypeError, "seed"),
        ({"seed": 1, "step": -1}, ValueError, "step"),
        ({"temperature": 0, "step": -1}, ValueError, "step"),
        ({"temperature": 0, "step": 2**63}, ValueError, "step"),
        ({"seed": 1, "temperature": 10**400}, ValueError, "temperature"),
        ({"temperature": 0, "seed": "x"}, TypeError, "seed"),
        ({"seed": 1, "temperature": "cold"}, TypeError, "temperature"),
        ({"seed": 1, "temperature": True}, TypeError, "temperature"),
        ({"seed": 1, "temperature": None}, TypeError, "temperature"),
        ({"seed": 1, "temperature": torch.ones(3)}, ValueError, "temperature"),
        ({"seed": 1, "temperature": torch.ones(4, dtype=torch.int64)}, ValueError, "temperature"),
        ({"temperature": torch.zeros(4)}, ValueError, "seed"),
        ({"seed": 1, "allowed": torch.ones(4, dtype=torch.bool)}, ValueError, "allowed"),
        ({"seed": 1, "allowed": torch.ones(5, 4, dtype=torch.bool)}, ValueError, "allowed"),
        ({"seed": 1, "allowed": torch.ones(5)}, ValueError, "allowed"),
        ({"seed": 1, "sample_ids": torch.arange(5)}, ValueError, "sample_ids"),
        ({"seed": 1, "sample_ids": torch.arange(4).int()}, ValueError, "sample_ids"),
    ):
        with pytest.raises(kind, match=name):
            sample_tokens(logits, **keywords)
    for wrong in (torch.ones(3), torch.ones(2, 3, dtype=torch.int64), torch.ones(1, 2, 3)):
        with pytest.raises(ValueError, match="logits"):
            sample_tokens(wrong, seed=1)
    with pytest.raises(TypeError, match="logits"):
        sample_tokens(None, seed=1)  # type: ignore[arg-type]


def test_the_result_has_no_gradient() -> None:
    logits = normal(3, 5).requires_grad_()
    tokens = sample_tokens(logits, seed=1)
    assert not tokens.requires_grad
    assert logits.gather(1, tokens[:, None]).requires_grad


def test_a_schedule_of_temperatures_compiles_twice() -> None:
    """A float that is compiled in meets the limit of recompilations after eight steps."""
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x, t, step: sample_tokens(x, temperature=t, seed=1, step=step),
        fullgraph=True,
        backend="aot_eager",
    )
    logits = normal(20, 300)
    for step in range(20):
        t = 1.0 / (1 + step) if step < 19 else 0.0
        assert torch.equal(compiled(logits, t, step), sample_tokens(logits, temperature=t, seed=1, step=step))


# -- what a row's draw depends on ----------------------------------------------------------------------------


def test_temperature_zero_needs_no_seed_when_compiled() -> None:
    compiled = torch.compile(
        lambda x, t: sample_tokens(x, temperature=t), fullgraph=True, backend="aot_eager"
    )
    for t in (0, 0.0):
        assert torch.equal(compiled(normal(3, 9), t), normal(3, 9).argmax(1))


def test_independent_of_batch_order_and_threads() -> None:
    logits = normal(70, 3000)
    names = torch.randint(-(2**63), 2**63 - 1, (70,), generator=torch.Generator().manual_seed(1))
    allowed = torch.rand(70, 3000, generator=torch.Generator().manual_seed(2)) < 0.5
    together = sample_tokens(logits, allowed=allowed, sample_ids=names, seed=1)
    threads = torch.get_num_threads()
    for rows in (torch.tensor([5]), torch.arange(9, 30), torch.randperm(70), torch.arange(12)):
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found = sample_tokens(logits[rows], allowed=allowed[rows], sample_ids=names[rows], seed=1)
            assert torch.equal(found, together[rows])
    torch.set_num_threads(threads)
    assert torch.equal(
        sample_tokens(logits, seed=1), sample_tokens(logits, seed=1, sample_ids=torch.arange(70))
    )


def test_forbidden_columns_behind_change_nothing(backend: str) -> None:
    """A vocabulary padded to a multiple of 64 or 128 draws what it drew without the padding."""
    rows = 300 if backend != "triton" else 10
    logits = normal(rows, 1000)
    padded = torch.cat([logits, torch.full((rows, 152), math.nan)], 1)
    allowed = torch.arange(1152) < 1000
    expected = sample_tokens(logits, seed=1)
    assert torch.equal(sample_tokens(padded, allowed=allowed, seed=1), expected)
    assert torch.equal(sample_tokens(padded.nan_to_num(-INF), seed=1), expected)


def test_every_part_of_the_key_counts() -> None:
    logits = torch.zeros(2000, 1000)
    base = {"seed": 1, "step": 5, "sample_ids": torch.arange(2000)}
    first = sample_tokens(logits, **base)
    others = [{"seed": 2}, {"seed": 1 + 2**40}, {"step": 6}, {"step": 5 + 2**40}]
    others += [{"sample_ids": torch.arange(2000) + 2**40}, {"sample_ids": torch.arange(2000) - 2000}]
    for other in others:
        assert (sample_tokens(logits, **{**base, **other}) == first).sum() < 15  # 2 are expected


def test_offsets_beyond_32_bits(backend: str) -> None:
    """flash-linear-attention #1080, mamba #1015, ml-cross-entropy #37: wrong rows behind 2^31 cells."""
    stride = 2**30 + 3
    store = torch.empty(3 * stride, dtype=torch.bfloat16)  # address space: hardly any of it is touched
    logits = store.as_strided((3, 700), (stride, 1))
    small = normal(3, 700, torch.bfloat16)
    logits.copy_(small)
    assert torch.equal(sample_tokens(logits, seed=1), sample_tokens(small, seed=1))
    if backend == "cpu":
        rows = 2**31 // 30_000 + 5  # one row again and again: 2^31 cells without the memory
        row = normal(1, 30_000)
        tokens = sample_tokens(row.expand(rows, -1), temperature=0)
        assert (tokens == row.argmax()).all()


def test_backends_agree_on_many_rows() -> None:
    """Rounding parts two backends where a draw falls on an edge: rarely."""
    differ = 0
    for seed, dtype in enumerate(FLOATS):
        logits = normal(2000, 1500, dtype, seed) * (1 + 3 * seed)
        with use("reference"):
            expected = sample_tokens(logits, seed=seed, temperature=0.8)
        differ += int((sample_tokens(logits, seed=seed, temperature=0.8) != expected).sum())
    assert differ <= 1


# -- distributions -------------------------------------------------------------------------------------------

LIMIT = 4.0  # seeds are fixed: a right kernel passes always, and a bias of a few per cent does not


def chi_square(tokens: Tensor, probability: Tensor) -> float:
    """How far counts are off, in standard deviations; columns of few expected counts are taken together."""
    expected = probability * len(tokens)
    observed = torch.bincount(tokens, minlength=len(probability)).double()
    rare = expected < 8
    observed = torch.cat([observed[~rare], observed[rare].sum()[None]])
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    observed, expected = observed[expected > 0], expected[expected > 0]
    freedom = len(expected) - 1
    return (float(((observed - expected) ** 2 / expected).sum()) - freedom) / math.sqrt(2 * freedom)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_distribution(dtype: torch.dtype, temperature: float, share: float) -> None:
    row = normal(1, 700, dtype, seed=3)
    allowed = torch.rand(700, generator=torch.Generator().manual_seed(4)) < share
    probability = (row.double() / temperature).masked_fill(~allowed, -INF).softmax(1)[0]
    tokens = sample_tokens(row.expand(100_000, -1), temperature=temperature, allowed=allowed, seed=9)
    assert allowed[tokens].all()
    assert chi_square(tokens, probability) < LIMIT


def test_distribution_where_one_block_dominates() -> None:
    row = normal(1, 2000, torch.float32, seed=5)
    row[0, 512:768] += 9
    probability = row.double().softmax(1)[0]
    assert 0.99 < probability[512:768].sum() < 0.9999
    tokens = sample_tokens(row.expand(300_000, -1), seed=11)
    assert chi_square(tokens, probability) < LIMIT
    outside = (tokens < 512) | (tokens >= 768)
    share = 1 - float(probability[512:768].sum())
    assert abs(int(outside.sum()) - 300_000 * share) < LIMIT * math.sqrt(300_000 * share)


def test_a_small_share_beside_a_large_one_keeps_its_size() -> None:
    """10^6 tokens of 10^-9 each beside one of .999: in a running sum in fp32 they would vanish."""
    row, rows = torch.zeros(1, 1_000_001), 2000
    row[0, 300_000] = math.log(1e9)
    expected = rows * 1e6 / (1e9 + 1e6)
    tokens = sample_tokens(row.expand(rows, -1), temperature=1.0, seed=1)
    rare = int((tokens != 300_000).sum())
    assert 0 < rare < expected + 4 * math.sqrt(expected)


@pytest.mark.parametrize("logit", [-12.0, -25.0])
def test_the_smallest_share_of_a_block(logit: float) -> None:
    """What a block's sum is rounded by, about 10^-7 of it, must not fall to its last column."""
    row, rows = torch.full((1, 256), -2.0), 2_000_000
    row[0, 255] = logit
    tokens = torch.cat([sample_tokens(row.expand(rows // 2, -1), seed=seed) for seed in (1, 2)])
    expected = rows * float(row.double().softmax(1)[0, 255])
    assert abs(int((tokens == 255).sum()) - expected) <= 4 * math.sqrt(expected) + 0.5


def test_rows_are_drawn_independently() -> None:
    tokens = sample_tokens(torch.zeros(100_000, 4), seed=1)
    pairs = tokens[:-1] * 4 + tokens[1:]
    assert chi_square(pairs, torch.full((16,), 1 / 16, dtype=torch.float64)) < LIMIT
    steps = tokens * 4 + sample_tokens(torch.zeros(100_000, 4), seed=1, step=1)
    assert chi_square(steps, torch.full((16,), 1 / 16, dtype=torch.float64)) < LIMIT


def test_block_and_column_are_independent() -> None:
    tokens = sample_tokens(torch.zeros(200_000, 1024), seed=1)
    cells = tokens // 256 * 16 + tokens % 256 // 16
    assert chi_square(cells, torch.full((64,), 1 / 64, dtype=torch.float64)) < LIMIT


def test_the_reference_sums_to_the_softmax() -> None:
    """The two draws multiply to softmax(logits / temperature), whatever the block."""
    row = normal(1, 600, torch.float64, seed=6)
    x = torch.nn.functional.pad(row, (0, 168), value=-INF).view(3, reference.BLOCK)
    largest = x.amax(1, keepdim=True)
    each = torch.tensor(0.7, dtype=torch.float64)
    weight = reference._weights(x, largest, each)
    mass = weight.sum(1, keepdim=True) * reference._weights(largest, largest.amax(), each)
    product = (mass / mass.sum() * weight / weight.sum(1, keepdim=True)).flatten()[:600]
    torch.testing.assert_close(product, (row[0] / 0.7).softmax(0), rtol=1e-12, atol=0)
