"""Spans: bad arguments are one line that names them; compiled calls, export, threads."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

import sslkernels
from sslkernels.masking import geometric_span_groups, span_corruption, span_mask

LENGTHS = torch.tensor([12, 7, 0])
IDS = torch.arange(36).reshape(3, 12)


def mask(**keywords: Any) -> Any:
    return span_mask(**{"lengths": LENGTHS, "max_length": 12, "span": 3, "seed": 1, **keywords})


def groups(**keywords: Any) -> Any:
    return geometric_span_groups(**{"lengths": LENGTHS, "max_length": 12, "seed": 1, **keywords})


def corrupt(**keywords: Any) -> Any:
    return span_corruption(**{"ids": IDS, "lengths": LENGTHS, "sentinel_start": 99, "seed": 1, **keywords})


NAN, INF = float("nan"), float("inf")
ROWS: list[tuple[dict, str, type[Exception]]] = [
    ({"lengths": torch.tensor([12, 13, 0])}, r"lengths\[1\] is 13, outside \[0, 12\]", ValueError),
    ({"lengths": torch.tensor([12, 7, -1])}, r"lengths\[2\] is -1, outside \[0, 12\]", ValueError),
    ({"lengths": torch.tensor([12, -(2**31), 0], dtype=torch.int32)}, r"lengths\[1\]", ValueError),
    ({"lengths": torch.tensor([2**63 - 1, 2, 0])}, r"lengths\[0\]", ValueError),
    ({"lengths": torch.tensor([2**32 + 5, 2, 0])}, r"lengths\[0\]", ValueError),
    ({"lengths": LENGTHS.double()}, "lengths must be int32 or int64", ValueError),
    ({"lengths": LENGTHS > 3}, "lengths must be int32 or int64", ValueError),
    ({"lengths": LENGTHS[None]}, "lengths must have shape", ValueError),
    ({"lengths": "12"}, "lengths", TypeError),
    ({"lengths": [12, 7.5, 0]}, r"lengths\[1\] must be an int", TypeError),
    ({"lengths": [[12], [7], [0]]}, r"lengths\[0\] must be an int", TypeError),
    ({"lengths": [12, 2**70, 0]}, r"lengths\[1\]", ValueError),
    ({"lengths": [12, 7, -1]}, r"lengths\[2\] is -1, outside", ValueError),
    ({"lengths": 12}, "lengths", TypeError),
    ({"seed": None}, "seed must be given", ValueError),
    ({"seed": -1}, "seed", ValueError),
    ({"seed": 2**63}, "seed", ValueError),
    ({"seed": 1.5}, "seed", TypeError),
    ({"step": -1}, "step", ValueError),
    ({"step": None}, "step", TypeError),
    ({"step": 2**63}, "step", ValueError),
    ({"sample_ids": torch.arange(2)}, "sample_ids must have shape", ValueError),
    ({"sample_ids": torch.arange(3.0)}, "sample_ids", ValueError),
    ({"sample_ids": [0, 1, 2]}, "sample_ids", TypeError),
]
SIZES: list[tuple[dict, str, type[Exception]]] = [
    ({"max_length": -1}, "max_length", ValueError),
    ({"max_length": 2**31}, "max_length", ValueError),
    ({"max_length": 12.0}, "max_length", TypeError),
    ({"max_length": True}, "max_length", TypeError),
    ({"max_length": 11}, r"lengths\[0\] is 12, outside \[0, 11\]", ValueError),
]
CASES: list[tuple[Callable[..., Any], dict, str, type[Exception]]] = [
    *((call, *case) for call in (mask, groups, corrupt) for case in ROWS),
    *((call, *case) for call in (mask, groups) for case in SIZES),
    (mask, {"rate": -0.1}, "rate", ValueError),
    (mask, {"rate": NAN}, "rate", ValueError),
    (mask, {"rate": INF}, "rate", ValueError),
    (mask, {"rate": 10**400}, "rate must be a float", ValueError),
    (mask, {"rate": 0, "seed": None, "step": 2**63}, "step must lie", ValueError),
    (groups, {"budget": 0, "seed": None, "step": 2**63}, "step must lie", ValueError),
    (mask, {"rate": "0.5"}, "rate", TypeError),
    (mask, {"rate": None}, "rate", TypeError),
    (mask, {"rate": True}, "rate", TypeError),
    (mask, {"span": 0}, "span", ValueError),
    (mask, {"span": -3}, "span", ValueError),
    (mask, {"span": 2.5}, "span", TypeError),
    (mask, {"span": 2**63}, "span", ValueError),
    (mask, {"min_spans": -1}, "min_spans", ValueError),
    (mask, {"min_spans": 1.0}, "min_spans", TypeError),
    (mask, {"return_rate": 1}, "return_rate", TypeError),
    (groups, {"p": 0}, "p must lie", ValueError),
    (groups, {"p": 1.01}, "p must lie", ValueError),
    (groups, {"p": NAN}, "p must lie", ValueError),
    (groups, {"p": "x"}, "p must be a float", TypeError),
    (groups, {"max_span": 0}, "max_span", ValueError),
    (groups, {"max_span": 65536}, "max_span", ValueError),
    (groups, {"max_span": 2.0}, "max_span", TypeError),
    (groups, {"budget": -0.1}, "budget", ValueError),
    (groups, {"budget": 1.1}, "budget", ValueError),
    (groups, {"budget": NAN}, "budget", ValueError),
    (corrupt, {"noise_density": -0.1}, "noise_density", ValueError),
    (corrupt, {"noise_density": 1.1}, "noise_density", ValueError),
    (corrupt, {"noise_density": NAN}, "noise_density", ValueError),
    (corrupt, {"mean_span": 0}, "mean_span", ValueError),
    (corrupt, {"mean_span": -3.0}, "mean_span", ValueError),
    (corrupt, {"mean_span": INF}, "mean_span", ValueError),
    (corrupt, {"mean_span": NAN}, "mean_span", ValueError),
    (corrupt, {"sentinel_start": -1}, "sentinel_start", ValueError),
    (corrupt, {"sentinel_start": 9.5}, "sentinel_start", TypeError),
    (corrupt, {"sentinel_start": None}, "sentinel_start", TypeError),
    (
        corrupt,
        {"sentinel_start": 1, "noise_density": 0.5, "mean_span": 1},
        "sentinel_start must be",
        ValueError,
    ),
    (corrupt, {"ids": IDS.int(), "sentinel_start": 2**31}, "sentinel_start must fit", ValueError),
    (corrupt, {"ids": IDS.int(), "eos_id": 2**31}, "eos_id must fit", ValueError),
    (corrupt, {"ids": IDS.int(), "pad_id": -(2**31) - 1}, "pad_id must fit", ValueError),
    (corrupt, {"eos_id": 1.0}, "eos_id", TypeError),
    (corrupt, {"pad_id": None}, "pad_id", TypeError),
    (corrupt, {"ids": IDS.double()}, "ids must be int32 or int64", ValueError),
    (corrupt, {"ids": IDS[0]}, "ids must have shape", ValueError),
    (corrupt, {"ids": IDS[:2]}, "lengths must have shape", ValueError),
    (corrupt, {"ids": IDS[:, :11]}, r"lengths\[0\] is 12, outside \[0, 11\]", ValueError),
    (corrupt, {"ids": [[1, 2]]}, "ids", TypeError),
]


@pytest.mark.parametrize("backend", ["cpu", "reference", "triton"])
@pytest.mark.parametrize(
    ("call", "change", "message", "kind"),
    CASES,
    ids=lambda value: getattr(value, "__name__", str(value)[:40]),
)
def test_bad_arguments(
    call: Callable[..., Any], change: dict, message: str, kind: type[Exception], backend: str
) -> None:
    with sslkernels.use(backend), pytest.raises(kind, match=message) as error:
        call(**change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("call", [mask, groups, corrupt])
def test_lists_and_32_bits(call: Callable[..., Any]) -> None:
    plain = call(sample_ids=torch.tensor([4, 5, 6]))
    other = call(lengths=[12, 7, 0], sample_ids=torch.tensor([4, 5, 6], dtype=torch.int32))
    narrow = call(lengths=(12, 7, 0), sample_ids=torch.tensor([4, 5, 6]))
    for results in (other, narrow):
        assert same(plain, results)


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        left, right = (left,), (right,)
    return all(torch.equal(one, other) for one, other in zip(left, right, strict=True))


@pytest.mark.parametrize("call", [mask, groups])
def test_lengths_that_nobody_checked(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU values are not looked at: a row whose length is no length has no span, the others stay."""
    kernels = pytest.importorskip("sslkernels.masking.spans.triton_kernels")
    monkeypatch.setattr(kernels, "values_are_checked", lambda tensor: False)
    for bad in (-1, 13, 2**62, -(2**63), 2**32 + 5):
        with sslkernels.use("triton"):
            found = call(lengths=torch.tensor([12, bad, 7]))
        assert same(found, call(lengths=torch.tensor([12, 0, 7])))


# -- compiled calls ------------------------------------------------------------------------------------------

COMPILED: list[Callable[..., Any]] = [
    lambda lengths, ids, width, seed, step, names: span_mask(
        lengths, width, span=3, min_spans=1, return_rate=True, seed=seed, step=step, sample_ids=names
    ),
    lambda lengths, ids, width, seed, step, names: geometric_span_groups(
        lengths, width, budget=0.3, seed=seed, step=step, sample_ids=names
    ),
    lambda lengths, ids, width, seed, step, names: span_corruption(
        ids, lengths, sentinel_start=999, eos_id=5, seed=seed, step=step, sample_ids=names
    ),
]


@pytest.mark.parametrize("call", COMPILED, ids=["span_mask", "geometric_span_groups", "span_corruption"])
def test_compiled(call: Callable[..., Any]) -> None:
    """New steps, seeds, widths and batches: two graphs, the second of which takes any size."""
    torch._dynamo.reset()
    compiles = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        compiles.append(graph)
        return graph.forward

    compiled = torch.compile(call, fullgraph=True, backend=backend)
    for at, (batch, width) in enumerate([(3, 40), (5, 33), (8, 57), (4, 70), (6, 21)]):
        generator = torch.Generator().manual_seed(at)
        lengths = torch.randint(2, width + 1, (batch,), generator=generator)
        ids = torch.randint(10, 900, (batch, width), generator=generator)
        args = (lengths, ids, width, at * 2**40 + 3, at + 7, torch.arange(batch) * 5)
        assert same(call(*args), compiled(*args))
    assert len(compiles) <= 3


@pytest.mark.parametrize("call", COMPILED, ids=["span_mask", "geometric_span_groups", "span_corruption"])
def test_values_are_checked_in_compiled_graphs(call: Callable[..., Any]) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    names = torch.arange(3)
    compiled(LENGTHS, IDS, 12, 1, 1, names)
    with pytest.raises(ValueError, match=r"lengths\[1\] is 13"):
        compiled(torch.tensor([2, 13, 14]), IDS, 12, 1, 1, names)


@pytest.mark.parametrize("call", COMPILED, ids=["span_mask", "geometric_span_groups", "span_corruption"])
def test_exported(call: Callable[..., Any]) -> None:
    """Any batch and any width, though the width is a number of the call, taken from a shape."""

    class Module(torch.nn.Module):
        def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> Any:
            return call(lengths, ids, ids.shape[1], 7, 2, None)

    def inputs(batch: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.arange(batch * width).reshape(batch, width)
        return ids, torch.arange(batch) * 5 % (width + 1)

    batch, width = torch.export.Dim("batch"), torch.export.Dim("width")
    dynamic = ({0: batch, 1: width}, {0: batch})
    program = torch.export.export(Module(), inputs(3, 20), dynamic_shapes=dynamic).module()
    for size in ((5, 33), (2, 11)):
        assert same(program(*inputs(*size)), Module()(*inputs(*size)))


def test_compiled_outputs_can_be_used() -> None:
    """The widths are known only when the call has run; what follows in the graph goes by them."""
    torch._dynamo.reset()

    def call(ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        inputs, input_lengths, targets, _ = span_corruption(ids, lengths, sentinel_start=999, seed=3)
        kept = torch.arange(inputs.shape[1]) < input_lengths[:, None]
        return (inputs * kept).sum(1) + targets.sum(1)

    ids = torch.arange(200).reshape(2, 100)
    lengths = torch.tensor([100, 40])
    assert torch.equal(
        torch.compile(call, fullgraph=True, backend="aot_eager")(ids, lengths), call(ids, lengths)
    )


@pytest.mark.parametrize("call", [mask, groups, corrupt])
def test_threads(call: Callable[..., Any]) -> None:
    """Python threads at once, and torch's threads: the same bits."""
    lengths = torch.arange(513) % 300
    keywords: dict = {"lengths": lengths, "max_length": 300}
    if call is corrupt:
        keywords = {"lengths": lengths, "ids": torch.arange(513 * 300).reshape(513, 300) + 10**6}
        keywords["sentinel_start"] = 500
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = call(**keywords)
    torch.set_num_threads(2)
    found: list[Any] = [None] * 4

    def work(at: int) -> None:
        found[at] = call(**keywords)

    workers = [threading.Thread(target=work, args=(at,)) for at in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    torch.set_num_threads(before)
    assert all(same(expected, results) for results in found)
