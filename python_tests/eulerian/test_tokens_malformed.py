"""Sequences that no encoder wrote: an error that names the step, the reference's own words, never a crash."""

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from token_graphs import LAYOUTS, batch_of, batches, columns_of, first_visits, plain, random_graph
from torch import Tensor

import sslkernels
from sslkernels.eulerian.graph_batch import GraphBatch
from sslkernels.eulerian.tokens.tokenizer import GraphTokenizer
from sslkernels.eulerian.tokens.vocabulary import BACKWARD, BOTH, FIRST_ID, FORWARD, JUMP, SEEN, START

both_layouts = pytest.mark.parametrize("layout", LAYOUTS)


def decode(tokenizer: GraphTokenizer, tokens: Tensor, ptr: Tensor) -> GraphBatch | str:
    """What decode makes of it, which must be the same natively and in the reference."""
    results: list[GraphBatch | str] = []
    for backend in ("auto", "reference"):
        with sslkernels.use(backend):
            try:
                results.append(tokenizer.decode(tokens, ptr))
            except ValueError as error:
                results.append(str(error))
    native, reference = results
    if isinstance(native, str) or isinstance(reference, str):
        assert native == reference
    else:
        assert all(torch.equal(a, b) for a, b in zip(native, reference, strict=True))
    return native


def assert_refused_or_whole(tokenizer: GraphTokenizer, tokens: Tensor, ptr: Tensor) -> bool:
    """An error that names the step, or graphs that encode and decode to themselves; says which (True:
    graphs).
    """
    decoded = decode(tokenizer, tokens, ptr)
    if isinstance(decoded, str):
        assert "step " in decoded, decoded
        return False
    encoded = tokenizer.encode(decoded, seed=1)
    again = tokenizer.decode(encoded.tokens, encoded.ptr)
    names = first_visits(tokenizer, encoded, decoded)
    assert torch.equal(again.node_features, decoded.node_features[names])
    assert torch.equal(columns_of(again, names), columns_of(decoded))
    return True


def mutated(rng: random.Random, tokens: Tensor, vocab_size: int) -> Tensor:
    """Some tokens replaced, or a stretch of steps cut out, repeated or turned round."""
    tokens = tokens.clone()
    length = tokens.shape[0]
    low, high = sorted(rng.randint(0, length) for _ in range(2))
    kind = rng.randrange(4)
    if kind == 0:
        return torch.cat([tokens[:low], tokens[high:]])
    if kind == 1:
        return torch.cat([tokens[:high], tokens[low:]])
    if kind == 2:
        tokens[low:high] = tokens[low:high].flip(0)
        return tokens
    flat = tokens.view(-1)
    for _ in range(rng.choice([1, 1, 2, 5])):
        neighbour = int(flat[rng.randrange(flat.numel())])
        choices = [
            rng.randrange(vocab_size),
            neighbour,
            min(neighbour + 1, 2**31 - 1),
            rng.randrange(-3, 12),
            2**31 - 1,
            -(2**31),
        ]
        flat[rng.randrange(flat.numel())] = rng.choice(choices)
    return tokens


@settings(max_examples=150, deadline=None)
@given(batches(), st.randoms(use_true_random=False))
def test_mutations(case: tuple[GraphBatch, dict[str, Any]], rng: random.Random) -> None:
    batch, options = case
    tokenizer = GraphTokenizer(**options)
    encoded = tokenizer.encode(batch, seed=0)
    if encoded.tokens.numel() == 0:
        return
    for _ in range(10):
        tokens = mutated(rng, encoded.tokens, tokenizer.vocab_size)
        ptr = encoded.ptr.clamp(max=tokens.shape[0])
        ptr[-1] = tokens.shape[0]
        assert_refused_or_whole(tokenizer, tokens.long() if rng.random() < 0.3 else tokens, ptr)


@both_layouts
@pytest.mark.parametrize("edge_direction", [True, False])
def test_garbage(layout: str, edge_direction: bool) -> None:
    """Tokens of a small vocabulary at random: some are whole graphs."""
    tokenizer = GraphTokenizer([], [], scope=3, layout=layout, edge_direction=edge_direction)
    generator = torch.Generator().manual_seed(3)
    shape = (2,) if layout == "stacked" else ()
    whole = 0
    for _ in range(400):
        steps = int(torch.randint(0, 4, (), generator=generator))
        tokens = torch.randint(-1, tokenizer.vocab_size + 1, (steps, *shape), generator=generator)
        whole += assert_refused_or_whole(tokenizer, tokens, torch.tensor([0, steps]))
    assert 0 < whole < 400


@both_layouts
def test_extreme_integers(layout: str) -> None:
    tokenizer = GraphTokenizer([2], [2], layout=layout)
    width = (4,) if layout == "stacked" else ()
    for value in (2**63 - 1, -(2**63), 2**31, 2**32 + FIRST_ID):
        tokens = torch.full((5, *width), value, dtype=torch.int64)
        assert not assert_refused_or_whole(tokenizer, tokens, torch.tensor([0, 5]))


@both_layouts
@pytest.mark.parametrize("ptr", [[0, 2], [1, 3], [0, 4], [0, 3, 2, 3], [0, -1, 3], [3], []])
def test_wrong_offsets(layout: str, ptr: list[int]) -> None:
    tokenizer = GraphTokenizer([], [], layout=layout)
    tokens = torch.zeros((3, 2) if layout == "stacked" else (3,), dtype=torch.int32)
    with pytest.raises(ValueError, match="ptr"):
        tokenizer.decode(tokens, torch.tensor(ptr, dtype=torch.int64))


def test_wrong_shapes_and_types() -> None:
    rows, flat = GraphTokenizer([2], [2]), GraphTokenizer([2], [2], layout="flat")
    ptr = torch.tensor([0, 3])
    for tokenizer, shape in ((rows, (3,)), (rows, (3, 5)), (flat, (3, 4)), (flat, ())):
        with pytest.raises(ValueError, match="tokens must have shape"):
            tokenizer.decode(torch.zeros(shape, dtype=torch.int32), ptr)
    with pytest.raises(ValueError, match="tokens"):
        flat.decode(torch.zeros(3), ptr)
    with pytest.raises(TypeError, match="tokens"):
        flat.decode([1, 2, 3], ptr)  # type: ignore[arg-type]


# What a sequence may not say, one at a time. Rows are [id, entry] with ids from 0; `steps` is the step
# refused.
A, B, C = FIRST_ID, FIRST_ID + 1, FIRST_ID + 2
WRONG_ROWS = [
    ("pad as an id", [[0, START]], 0),
    ("no start", [[A, BOTH]], 0),
    ("a jump as the start", [[A, JUMP]], 0),
    ("two starts", [[A, START], [B, START]], 1),
    ("bos", [[1, 1], [A, START]], 0),
    ("an entry that is none", [[A, START], [B, 3]], 1),
    ("an id as an entry", [[A, START], [B, A]], 1),
    ("an id left out", [[A, START], [C, BOTH]], 1),
    ("an edge seen before it was there", [[A, START], [B, SEEN]], 1),
    ("an edge walked three times", [[A, START], [B, BOTH], [A, SEEN], [B, SEEN]], 3),
    ("another edge seen", [[A, START], [B, BOTH], [C, BOTH], [A, SEEN]], 3),
    ("a loop seen", [[A, START], [A, FORWARD], [A, SEEN]], 2),
    ("a loop of two columns", [[A, START], [A, BOTH]], 1),
    ("a loop walked backward", [[A, START], [A, BACKWARD]], 1),
    ("a jump to where it is", [[A, START], [A, JUMP]], 1),
    ("a jump back", [[A, START], [B, JUMP], [A, JUMP]], 2),
    ("an edge back over a jump", [[A, START], [B, JUMP], [A, BOTH]], 2),
    ("an edge seen over a jump", [[A, START], [B, BOTH], [C, JUMP], [B, SEEN]], 3),
]


@pytest.mark.parametrize(
    ("rows", "step"), [case[1:] for case in WRONG_ROWS], ids=[case[0] for case in WRONG_ROWS]
)
def test_wrong_rows(rows: list[list[int]], step: int) -> None:
    tokens = torch.tensor([[A, START], *rows])
    message = decode(GraphTokenizer([], []), tokens, torch.tensor([0, 1, len(rows) + 1]))
    assert isinstance(message, str)
    assert message.startswith(f"tokens: step {step} of graph 1: ")


def flat_tokens(rows: list[list[int]], edge_direction: bool) -> list[int]:
    """Rows of a tokenizer without features, written flat."""
    silent = (START,) if edge_direction else (START, BOTH)
    return [token for id_, entry in rows for token in ([] if entry in silent else [entry]) + [id_]]


# Flat, there is no token of a start, and without edge_direction none of a new edge.
NOT_FLAT = ("no start", "a jump as the start", "two starts")
NOT_UNDIRECTED = ("a loop seen", "a loop of two columns", "a loop walked backward", "an id as an entry")


@pytest.mark.parametrize("edge_direction", [True, False])
def test_wrong_flat_tokens(edge_direction: bool) -> None:
    """The same sequences written flat, and those cut off within a step."""
    tokenizer = GraphTokenizer([], [], layout="flat", edge_direction=edge_direction)
    wrong = [(name, flat_tokens(rows, edge_direction), step) for name, rows, step in WRONG_ROWS]
    wrong += [("cut", [A, entry], 1) for entry in ((JUMP, SEEN, BOTH) if edge_direction else (JUMP, SEEN))]
    wrong += [("bos", [1, A], 0), ("eos", [A, 2], 1)]
    for name, tokens, step in wrong:
        if name in NOT_FLAT or (name in NOT_UNDIRECTED and not edge_direction):
            continue
        message = decode(tokenizer, torch.tensor(tokens), torch.tensor([0, len(tokens)]))
        assert isinstance(message, str), name
        assert message.startswith(f"tokens: step {step} (token "), (name, message)


@both_layouts
def test_attributes(layout: str) -> None:
    """Each attribute in its own range; a node's the same at every visit; fillers in place."""
    tokenizer = GraphTokenizer([3, 2], [4], layout=layout)
    graph = (2, [(0, 1, (3,)), (1, 0, (3,)), (0, 1, (1,))], [(2, 0), (1, 1)])
    encoded = tokenizer.encode(batch_of([graph], 2, 1), seed=0)
    flat = encoded.tokens.reshape(-1)
    width = 5 if layout == "stacked" else 1
    for at in range(flat.numel()):
        for token in (tokenizer.pad_id, tokenizer.mask_id, tokenizer.vocab_size, int(flat[at]) + 100):
            wrong = flat.clone()
            wrong[at] = token
            assert isinstance(decode(tokenizer, wrong.reshape(encoded.tokens.shape), encoded.ptr), str)
    if layout == "stacked":  # another category at one of two visits
        ids = encoded.tokens[:, 0]
        again = next(at for at in range(1, ids.shape[0]) if int(ids[at]) in ids[:at].tolist())
        wrong = encoded.tokens.clone()
        feature = FIRST_ID + 512
        wrong[again, 1] = feature + (int(wrong[again, 1]) - feature + 1) % 3
        message = decode(tokenizer, wrong, encoded.ptr)
        assert isinstance(message, str)
        assert message.startswith(f"tokens: step {again} of graph 0: the attributes of node id")
    assert flat.numel() % width == 0


@both_layouts
def test_many_second_passes_stay_cheap(layout: str) -> None:
    """10^5 passes over parallel edges, and over the edges of a large star, as a garbled sequence may have
    them.
    """
    n = 50_000
    ids = [FIRST_ID, FIRST_ID + 1] * n
    entries = [START] + [BOTH] * n + [SEEN] * (n - 1)
    star = [FIRST_ID, *(token for leaf in range(1, n) for token in (FIRST_ID + leaf, FIRST_ID))]
    star_entries = [START, *([BOTH, SEEN] * (n - 1))]
    tokenizer = GraphTokenizer([], [], scope=n, layout=layout)
    for own_ids, own in ((ids, entries), (star, star_entries)):
        if layout == "stacked":
            tokens = torch.tensor([own_ids, own]).T
        else:
            pairs = zip(own_ids, own, strict=True)
            tokens = torch.tensor(
                [token for id_, entry in pairs for token in ([entry] if entry != START else []) + [id_]]
            )
        decoded = tokenizer.decode(tokens, torch.tensor([0, tokens.shape[0]]))
        assert decoded.edge_index.shape[1] == 2 * own.count(BOTH)


@both_layouts
def test_every_single_change_of_a_small_graph(layout: str) -> None:
    """Exhaustively: one token of a small sequence changed to any other of the vocabulary."""
    tokenizer = GraphTokenizer([3], [2], scope=9, layout=layout)
    graph = random_graph(random.Random(11), 1, 1)
    small = (3, [(0, 1, (1,)), (1, 0, (1,)), (1, 1, (0,)), (1, 2, (0,))], [(0,), (1,), (0,)])
    for case in (small, graph, plain(0, [])):
        encoded = tokenizer.encode(batch_of([case], 1, 1), seed=2)
        flat = encoded.tokens.reshape(-1)
        for at in range(min(flat.numel(), 30)):
            for token in range(tokenizer.vocab_size):
                wrong = flat.clone()
                wrong[at] = token
                assert_refused_or_whole(tokenizer, wrong.reshape(encoded.tokens.shape), encoded.ptr)
