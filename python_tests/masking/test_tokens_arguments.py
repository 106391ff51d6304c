"""corrupt_tokens: bad arguments are one line that names them, in every face; compiled calls and export."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

import sslkernels
from sslkernels import host
from sslkernels.masking import TokenClusters, corrupt_tokens, mask_rate

MLM = {"mask_id": 3, "vocab_size": 50, "special_ids": (0, 1, 2, 3), "seed": 11}
IDS = torch.arange(4, 40).reshape(3, 12)


BAD: list[tuple[dict, str, type[Exception]]] = [
    ({"rate": -0.1}, "rate", ValueError),
    ({"rate": 1.1}, "rate", ValueError),
    ({"rate": "a"}, "rate", TypeError),
    ({"rate": None}, "rate must be a float", TypeError),
    ({"rate": 10**400}, "rate", ValueError),
    ({"rate": 0, "seed": None, "step": 2**63}, "step must lie", ValueError),
    ({"clusters": 3}, "clusters must be", TypeError),
    ({"rate": float("nan")}, "rate", ValueError),
    ({"rate": torch.tensor([0.1, float("nan"), 0.2])}, r"rate\[1\]", ValueError),
    ({"rate": torch.tensor([0.1, 0.1, 1.5])}, r"rate\[2\]", ValueError),
    ({"rate": torch.tensor([0.1, 0.2])}, "rate must have shape", ValueError),
    ({"rate": torch.tensor([1, 0, 1])}, "rate must be a float", ValueError),
    ({"mix": (0.8, 0.1)}, "mix", ValueError),
    ({"mix": (0.8, 0.1, 0.2)}, "mix must sum to 1", ValueError),
    ({"mix": (1.2, -0.1, -0.1)}, "mix", ValueError),
    ({"mix": (float("nan"), 1, 0)}, "mix", ValueError),
    ({"mix": 0.8}, "mix", TypeError),
    ({"mix": ("a", 1, 0)}, "mix", TypeError),
    ({"mask_id": None}, "mask_id", ValueError),
    ({"mask_id": 1.5}, "mask_id", TypeError),
    ({"mask_id": True}, "mask_id", TypeError),
    ({"vocab_size": None}, "vocab_size", ValueError),
    ({"vocab_size": -1}, "vocab_size", ValueError),
    ({"vocab_size": 2**31}, "vocab_size", ValueError),
    ({"vocab_size": 0}, "special_ids must leave", ValueError),
    ({"vocab_size": 4}, "special_ids must leave", ValueError),
    ({"special_ids": tuple(range(50))}, "special_ids must leave", ValueError),
    ({"special_ids": 3}, "special_ids", TypeError),
    ({"special_ids": (1.5,)}, "special_ids", TypeError),
    ({"labels": "orginal"}, "labels", ValueError),
    ({"min_selected": -1}, "min_selected", ValueError),
    ({"min_selected": 1.5}, "min_selected", TypeError),
    ({"min_selected": None}, "min_selected must be an int", TypeError),
    ({"min_selected": torch.tensor([1, -2, 0])}, r"min_selected\[1\]", ValueError),
    ({"min_selected": torch.tensor([1, 2])}, "min_selected must have shape", ValueError),
    ({"min_selected": torch.tensor([1.0, 2.0, 0.0])}, "min_selected must be", ValueError),
    ({"capacity": -1}, "capacity", ValueError),
    ({"capacity": 2.5}, "capacity", TypeError),
    ({"ignore_index": None}, "ignore_index", TypeError),
    ({"seed": None}, "seed must be given", ValueError),
    ({"seed": -1}, "seed", ValueError),
    ({"seed": 2**63}, r"seed must lie in \[0, 2\^63\)", ValueError),
    ({"seed": 1.5}, "seed", TypeError),
    ({"step": -1}, "step", ValueError),
    ({"sample_ids": torch.arange(2)}, "sample_ids", ValueError),
    ({"sample_ids": torch.arange(3.0)}, "sample_ids", ValueError),
    ({"sample_ids": [1, 2, 3]}, "sample_ids", TypeError),
    ({"maskable": torch.ones(3, 11, dtype=torch.bool)}, "maskable", ValueError),
    ({"maskable": torch.ones(3, 12)}, "maskable", ValueError),
    ({"maskable": [True]}, "maskable", TypeError),
    ({"groups": torch.zeros(3, 13, dtype=torch.int64)}, "groups", ValueError),
    ({"groups": torch.zeros(3, 12)}, "groups", ValueError),
    ({"ptr": torch.tensor([0, 12])}, "ptr must start at 0 and end at 3", ValueError),
    ({"ptr": torch.tensor([1, 3])}, "ptr must start at 0", ValueError),
    ({"ptr": torch.tensor([0, 2, 1, 3])}, r"ptr\[2\]", ValueError),
    ({"ptr": torch.tensor([], dtype=torch.int64)}, "ptr", ValueError),
    ({"ptr": torch.tensor([0.0, 3.0])}, "ptr", ValueError),
    ({"vocab_size": 20}, r"ids\[1, 4\] is 20, outside \[0, 20\)", ValueError),
    ({"ids": IDS - 5}, r"ids\[0, 0\] is -1, outside", ValueError),
    ({"ids": IDS.clone().fill_(2**40)}, r"ids\[0, 0\] is 1099511627776, outside", ValueError),
    ({"ids": IDS.float()}, "ids", ValueError),
    ({"ids": IDS[0]}, "ids must have shape", ValueError),
    ({"ids": [[1, 2]]}, "ids", TypeError),
]


def to_array(value: object) -> object:
    return value.numpy() if isinstance(value, Tensor) else value


def faces() -> list[Callable[..., object]]:
    def reference(ids: Tensor, **keywords: object) -> object:
        with sslkernels.use("reference"):
            return corrupt_tokens(ids, **keywords)

    def numpy(ids: Tensor, **keywords: object) -> object:
        return host.corrupt_tokens(
            to_array(ids), **{name: to_array(value) for name, value in keywords.items()}
        )

    return [corrupt_tokens, reference, numpy]


@pytest.mark.parametrize("face", faces(), ids=["cpu", "reference", "numpy"])
@pytest.mark.parametrize(("change", "message", "kind"), BAD, ids=lambda value: str(value)[:40])
def test_bad_arguments(
    face: Callable[..., object], change: dict, message: str, kind: type[Exception]
) -> None:
    keywords = {"ids": IDS, **MLM, **change}
    with pytest.raises(kind, match=message) as error:
        face(keywords.pop("ids"), **keywords)
    assert "\n" not in str(error.value)


def test_place_of_a_bad_id() -> None:
    """Named as the caller has it: a row and a column, or a packed position; always the first one."""
    long = torch.full((2, 50_000), 4)
    long[0, 30_000] = long[0, 30_001] = long[1, 3] = 50
    ptr = torch.tensor([0, 50_000, 100_000])
    for backend in ("cpu", "reference"):
        with sslkernels.use(backend):
            with pytest.raises(ValueError, match=r"ids\[0, 30000\] is 50"):
                corrupt_tokens(long, **MLM)
            with pytest.raises(ValueError, match=r"ids\[30000\] is 50"):
                corrupt_tokens(long.flatten(), ptr=ptr, **MLM)
            with pytest.raises(ValueError, match=r"ids\[15000, 0\] is 50"):
                corrupt_tokens(long.reshape(-1, 2), ptr=ptr // 2, **MLM)


def test_no_seed_where_nothing_is_drawn() -> None:
    keywords = {"mask_id": 3, "vocab_size": 50}
    assert not corrupt_tokens(IDS, rate=0.0, **keywords).selected.any()
    assert (corrupt_tokens(IDS, rate=1.0, mix=(1, 0, 0), **keywords).ids == 3).all()
    assert torch.equal(corrupt_tokens(IDS, rate=1.0, mix=(0, 0, 1), labels="selected").ids, IDS)
    for drawn in ({"rate": 1.0}, {"rate": 0.5, "mix": (1, 0, 0)}, {"rate": 0.0, "min_selected": 1}):
        with pytest.raises(ValueError, match="seed"):
            corrupt_tokens(IDS, **drawn, **keywords)


def test_mask_id_fits_the_ids() -> None:
    with pytest.raises(ValueError, match="mask_id"):
        corrupt_tokens(IDS.int(), **{**MLM, "mask_id": 2**31})


def test_numpy_integers_are_integers() -> None:
    wide = {**MLM, "mask_id": np.int64(3), "vocab_size": np.int32(50), "seed": np.int64(11)}
    wide["special_ids"] = np.array(MLM["special_ids"])
    assert torch.equal(corrupt_tokens(IDS, **wide).ids, corrupt_tokens(IDS, **MLM).ids)


# -- compiled and exported -----------------------------------------------------------------------------------


def assert_equal(left: object, right: object) -> None:
    for a, b in zip(left, right, strict=True):
        assert a is b or torch.equal(a, b)


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"groups": IDS // 3, "capacity": 4},
        {"rate": torch.tensor([0.1, 0.5, 0.9]), "min_selected": torch.tensor([1, 2, 3])},
        {"clusters": TokenClusters(torch.arange(50) % 6), "mix": (0, 1, 0)},
    ],
    ids=["plain", "groups", "rows", "clusters"],
)
def test_compiles(keywords: dict) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(corrupt_tokens, fullgraph=True, backend="aot_eager")
    for step in range(3):
        assert_equal(
            compiled(IDS, step=step, **keywords, **MLM), corrupt_tokens(IDS, step=step, **keywords, **MLM)
        )


def test_steps_and_rates_do_not_compile_anew() -> None:
    torch._dynamo.reset()
    graphs = torch._dynamo.utils.counters["stats"]
    before = graphs["unique_graphs"]
    compiled = torch.compile(
        lambda step, rate: corrupt_tokens(IDS, step=step, rate=rate, **MLM),
        fullgraph=True,
        backend="aot_eager",
    )
    for at in range(20):
        assert_equal(compiled(at, 0.1 + at / 40), corrupt_tokens(IDS, step=at, rate=0.1 + at / 40, **MLM))
    assert graphs["unique_graphs"] - before <= 3


def test_compiles_with_every_number_dynamic() -> None:
    """Also those of the defaults: a float of `mix` is a symbol there."""
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda ids, step, rate: corrupt_tokens(ids, step=step, rate=rate, **MLM),
        fullgraph=True,
        backend="aot_eager",
        dynamic=True,
    )
    for at, ids in enumerate((IDS, IDS[:2], IDS[:, :7], IDS[:1, :1]), 2):
        assert_equal(compiled(ids, at, at / 10), corrupt_tokens(ids, step=at, rate=at / 10, **MLM))


def test_values_raise_when_compiled() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda ids, step: corrupt_tokens(ids, step=step, **MLM), fullgraph=True, backend="aot_eager"
    )
    compiled(IDS, 1)
    compiled(IDS, 2)
    with pytest.raises(ValueError, match=r"ids\[0, 0\] is 104, outside"):
        compiled(IDS + 100, 3)
    with pytest.raises(ValueError, match="step must lie in"):
        compiled(IDS, -5)


def test_rates_are_checked_when_compiled() -> None:
    """And the ends of their range are rates like others: no graph of their own beside float and int."""
    torch._dynamo.reset()
    graphs = torch._dynamo.utils.counters["stats"]
    before = graphs["unique_graphs"]
    compiled = torch.compile(
        lambda rate: corrupt_tokens(IDS, rate=rate, **MLM), fullgraph=True, backend="aot_eager"
    )
    for rate in (0.15, 0.2, 0.3, 0.0, 1.0, 0.5):
        assert_equal(compiled(rate), corrupt_tokens(IDS, rate=rate, **MLM))
    assert graphs["unique_graphs"] - before <= 2
    for wrong in (2.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"rate\[0\] is outside"):
            compiled(wrong)


def test_exports_with_a_rate_out_of_a_tensor() -> None:
    class Masks(torch.nn.Module):
        def forward(self, ids: Tensor, rate: Tensor) -> Tensor:
            return corrupt_tokens(ids, rate=rate.item(), **MLM).ids

    rates = [torch.tensor(rate, dtype=torch.float64) for rate in (0.15, 0.6)]
    program = torch.export.export(Masks(), (IDS, rates[0]), strict=False).module()
    for rate in rates:
        assert torch.equal(program(IDS, rate), Masks()(IDS, rate))


def test_symbolic_sizes_of_make_fx() -> None:
    traced = make_fx(lambda ids: tuple(corrupt_tokens(ids, **MLM))[:3], tracing_mode="symbolic")(IDS)
    assert_equal(traced(IDS), corrupt_tokens(IDS, **MLM)[:3])


def test_ids_below_zero_without_a_vocabulary() -> None:
    """As of a padding of -1; with the vocabulary they would be refused."""
    ids = IDS.clone()
    ids[:, ::5] = -1
    given = {"mix": (1, 0, 0), "mask_id": 3, "special_ids": (0, 1), "seed": 11}
    for dtype in (torch.int32, torch.int64):
        found = corrupt_tokens(ids.to(dtype), **given)
        with sslkernels.use("reference"):
            assert_equal(found, corrupt_tokens(ids.to(dtype), **given))


def test_exports_with_dynamic_sizes() -> None:
    class Masks(torch.nn.Module):
        def forward(self, ids: Tensor) -> tuple[Tensor, ...]:
            return tuple(corrupt_tokens(ids, capacity=5, **MLM))

    dimensions = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    program = torch.export.export(Masks(), (IDS,), dynamic_shapes=(dimensions,)).module()
    other = torch.arange(4, 44).reshape(5, 8)
    assert_equal(program(other), Masks()(other))


# -- rates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_rates_stay_inside(dtype: torch.dtype) -> None:
    u = torch.linspace(0, 1, 4001).to(dtype)
    for schedule in ("linear", "cosine", "polynomial", "fixed"):
        rate = mask_rate(u, schedule, power=3.0, low=0.3, high=0.9)
        assert rate.dtype == dtype
        corrupt_tokens(torch.zeros(4001, 1, dtype=torch.int64), rate=rate, mix=(0, 0, 1), seed=1)
