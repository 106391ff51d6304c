"""Rows of packed graphs: every graph once, borders by offsets, positions anew, groups apart."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslkernels.eulerian.results import PackedBatch, TokenBatch
from sslkernels.eulerian.tokens.pack import pack


def sequences(lengths: list[int], width: int | None = None) -> TokenBatch:
    """Tokens that say whose they are: graph g's are g * 1000 + 1, g * 1000 + 2, ..."""
    tokens = torch.tensor(
        [g * 1000 + 1 + t for g, length in enumerate(lengths) for t in range(length)], dtype=torch.int32
    )
    groups = torch.tensor([t // 2 - 1 for length in lengths for t in range(length)], dtype=torch.int64)
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    return TokenBatch(tokens if width is None else tokens.unsqueeze(1).repeat(1, width), ptr, groups)


def assert_packed(batch: TokenBatch, packed: PackedBatch, max_tokens: int) -> None:
    lengths = batch.ptr.diff().tolist()
    rows = packed.tokens.shape[0]
    assert packed.tokens.shape == (rows, max_tokens, *batch.tokens.shape[1:])
    assert packed.tokens.dtype == batch.tokens.dtype
    assert packed.positions.shape == packed.node_groups.shape == (rows, max_tokens)
    assert rows <= 2 * -(-sum(lengths) // max_tokens) + 1
    assert sorted(g for g in packed.graph.tolist() if g >= 0) == list(range(len(lengths)))
    ptr = packed.ptr.tolist()
    assert ptr[0] == 0
    assert ptr[-1] == rows * max_tokens
    tokens, positions = packed.tokens.flatten(0, 1), packed.positions.flatten()
    groups = packed.node_groups.flatten()
    owners: dict[tuple[int, int], int] = {}
    for at, graph in enumerate(packed.graph.tolist()):
        begin, end = ptr[at], ptr[at + 1]
        assert begin <= end
        assert begin // max_tokens == max(begin, end - 1) // max_tokens, "a segment lies in one row"
        assert positions[begin:end].tolist() == list(range(end - begin))
        if graph < 0:
            assert end > begin
            assert end % max_tokens == 0, "padding stands at the end of a row"
            assert not bool(tokens[begin:end].any())
            assert bool((groups[begin:end] == -1).all())
            continue
        own = slice(int(batch.ptr[graph]), int(batch.ptr[graph + 1]))
        assert torch.equal(tokens[begin:end], batch.tokens[own])
        labels = list(zip(batch.node_groups[own].tolist(), groups[begin:end].tolist(), strict=True))
        renamed = dict(labels)
        assert all((old < 0) == (new < 0) and (old < 0 or renamed[old] == new) for old, new in labels)
        for new in {new for old, new in labels if old >= 0}:
            assert owners.setdefault((begin // max_tokens, new), graph) == graph, (
                "a group in two graphs of a row"
            )
        assert len(set(renamed.values())) == len(renamed)


@pytest.mark.parametrize("width", [None, 3])
@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(0, 20), max_size=60), slack=st.integers(0, 40))
def test_every_graph_once(width: int | None, lengths: list[int], slack: int) -> None:
    max_tokens = max([1, *lengths]) + slack
    batch = sequences(lengths, width)
    assert_packed(batch, pack(batch, max_tokens), max_tokens)


def test_positions_and_borders() -> None:
    """nanoVLM #201: two graphs of 2 tokens in a row of 5, the padding a segment of its own."""
    packed = pack(sequences([2, 2]), 5)
    assert packed.positions.tolist() == [[0, 1, 0, 1, 0]]
    assert packed.ptr.tolist() == [0, 2, 4, 5]
    assert packed.graph.tolist() == [0, 1, -1]
    assert packed.tokens.tolist() == [[1, 2, 1001, 1002, 0]]


def test_segments_of_one_token() -> None:
    """ms-swift #9903: between two graphs of one token the positions show no border, the offsets do."""
    packed = pack(sequences([1, 1, 1]), 3)
    assert packed.positions.tolist() == [[0, 0, 0]]
    assert packed.ptr.tolist() == [0, 1, 2, 3]
    assert packed.graph.tolist() == [0, 1, 2]


def test_no_tokens() -> None:
    none = pack(sequences([]), 4)
    assert none.tokens.shape == (0, 4)
    assert none.ptr.tolist() == [0]
    empty = pack(sequences([0, 0]), 4)
    assert_packed(sequences([0, 0]), empty, 4)
    stacked = pack(sequences([], 3), 4)
    assert stacked.tokens.shape == (0, 4, 3)


def test_rows_are_filled() -> None:
    """Lengths as of molecules: little is wasted."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(5, 60, (2000,), generator=generator).tolist()
    rows = pack(sequences(lengths), 256).tokens.shape[0]
    assert rows <= 1.02 * sum(lengths) / 256 + 1


@pytest.mark.parametrize("max_tokens", [0, -3])
def test_wrong_rows(max_tokens: int) -> None:
    with pytest.raises(ValueError, match="max_tokens must lie in"):
        pack(sequences([1]), max_tokens)
    with pytest.raises(TypeError, match="max_tokens must be an int, got float"):
        pack(sequences([1]), 2.5)  # type: ignore[arg-type]


def test_a_graph_too_long_is_named() -> None:
    with pytest.raises(ValueError, match="graph 1 has 6 tokens, more than max_tokens = 5"):
        pack(sequences([2, 6, 9]), 5)


def test_wrong_offsets() -> None:
    batch = sequences([2, 2])
    for ptr in ([0, 2, 5], [0, 3, 2], [1, 2, 4]):
        with pytest.raises(ValueError, match="ptr"):
            pack(batch._replace(ptr=torch.tensor(ptr)), 9)
    with pytest.raises(ValueError, match="node_groups"):
        pack(batch._replace(node_groups=torch.zeros(3, dtype=torch.int64)), 9)


def test_compiles() -> None:
    batch = sequences([3, 1, 4, 1, 5, 9, 2, 6], 2)
    compiled = torch.compile(pack, fullgraph=True, dynamic=True, backend="aot_eager")
    for ours, eager in zip(compiled(batch, 12), pack(batch, 12), strict=True):
        assert torch.equal(ours, eager)


WRONG = {
    "no batch": (lambda batch: (5, 4), TypeError, "token_batch must be a TokenBatch"),
    "no tensor": (
        lambda batch: (batch._replace(tokens=[1]), 4),
        TypeError,
        "tokens must be a tensor, got list",
    ),
    "0-d": (lambda batch: (batch._replace(tokens=torch.tensor(1)), 4), ValueError, "tokens must have shape"),
    "floats": (
        lambda batch: (batch._replace(tokens=batch.tokens.float()), 4),
        ValueError,
        "tokens must be int32 or int64, got float32",
    ),
    "groups too few": (
        lambda batch: (batch._replace(node_groups=batch.node_groups[1:]), 4),
        ValueError,
        "node_groups must have shape",
    ),
    "a float": (lambda batch: (batch, 4.0), TypeError, "max_tokens must be an int, got float"),
    "two numbers": (lambda batch: (batch, torch.ones(2)), TypeError, "max_tokens must be an int, got Tensor"),
    "too many": (lambda batch: (batch, 1 << 62), ValueError, "max_tokens must lie in"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_named(case: str) -> None:
    make, kind, message = WRONG[case]
    with pytest.raises(kind, match=f"^{message}"):
        pack(*make(sequences([2, 3])))
