"""TokenClusters and the modules: C-RTS draws and counts, seeds, ranks, state."""

import copy
import pickle

import pytest
import torch

import sslkernels
from sslkernels.masking import (
    ClusterRandomTokenSubstitution,
    MaskedLM,
    RandomTokenSubstitution,
    SwappedLM,
    TokenClusters,
    corrupt_tokens,
)

IDS = torch.randint(4, 50, (64, 96), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=["cpu", "reference"])
def backend(request: pytest.FixtureRequest):
    with sslkernels.use(request.param):
        yield request.param


def substituted(ids: torch.Tensor, clusters: TokenClusters, **keywords: object) -> torch.Tensor:
    return corrupt_tokens(ids, rate=1.0, mix=(0, 1, 0), clusters=clusters, seed=5, **keywords).ids


# -- clusters ------------------------------------------------------------------------------------------------


def test_weights() -> None:
    """softmax(beta * minmax(counts)), row by row; a row of equal counts is uniform."""
    clusters = TokenClusters(torch.tensor([0, 1, 2, 2]), beta=2.0)
    assert torch.equal(clusters.counts, torch.ones(3, 3, dtype=torch.int64))
    torch.testing.assert_close(clusters.weights, torch.full((3, 3), 1 / 3))
    clusters.counts[0] = torch.tensor([1, 3, -1])
    expected = torch.softmax(2 * torch.tensor([0.5, 1.0, 0.0]), 0)
    torch.testing.assert_close(clusters.weights[0], expected)
    torch.testing.assert_close(clusters.weights.sum(1), torch.ones(3))


def test_drawn_by_the_weights(backend: str) -> None:
    cluster_of = torch.arange(50) % 5
    clusters = TokenClusters(cluster_of)
    clusters.counts += torch.randint(0, 30, (5, 5), generator=torch.Generator().manual_seed(2))
    for own in range(5):
        drawn = substituted(torch.full((200, 200), 10 + own), clusters)
        share = torch.bincount(cluster_of[drawn.flatten()], minlength=5) / 40_000
        assert (share - clusters.weights[own]).abs().max() < 0.012
        inside = torch.bincount(drawn[cluster_of[drawn] == 2], minlength=50)[2::5].double()
        assert ((inside - inside.mean()) ** 2 / inside.mean()).sum() < 9 + 4 * 18**0.5


def test_clusters_with_gaps_and_without_tokens(backend: str) -> None:
    """A cluster that holds nothing to draw is never drawn; its weight is shared out."""
    clusters = TokenClusters(torch.tensor([0, 0, 7, 7, 3, 3]), excluded_ids=(4,))
    drawn = substituted(torch.randint(0, 6, (50, 50)), clusters, special_ids=(5,))
    eligible = drawn  # every token but 5 is replaced; 5 is special and stays
    assert set(eligible.unique().tolist()) == {0, 1, 2, 3, 5}
    share = (
        torch.bincount(substituted(torch.full((100, 100), 2), clusters, special_ids=(5,)).flatten()) / 10_000
    )
    torch.testing.assert_close(share, torch.full((4,), 0.25), atol=0.02, rtol=0)


def test_nothing_left_to_draw(backend: str) -> None:
    clusters = TokenClusters(torch.tensor([0, 1, 1]), excluded_ids=(0, 1))
    with pytest.raises(ValueError, match="special_ids and clusters.excluded_ids"):
        substituted(torch.tensor([[0, 1]]), clusters, special_ids=(2,))
    assert (substituted(torch.tensor([[0, 1]]), clusters) == 2).all()


def test_original_excluded_in_clusters(backend: str) -> None:
    """A token alone in its cluster goes to another; alone in the vocabulary it stays."""
    clusters = TokenClusters(torch.tensor([0, 1, 1, 2, 2, 2]))
    clusters.counts += torch.randint(0, 5, (3, 3), generator=torch.Generator().manual_seed(1))
    ids = torch.randint(0, 6, (100, 100), generator=torch.Generator().manual_seed(2))
    assert (substituted(ids, clusters, exclude_original=True) != ids).all()
    weights = clusters.weights[0]
    alone = substituted(torch.zeros(200, 200, dtype=torch.int64), clusters, exclude_original=True)
    share = (alone >= 3).float().mean()
    assert abs(share - weights[2] / (weights[1] + weights[2])) < 0.01
    lonely = TokenClusters(torch.tensor([0, 1]), excluded_ids=(1,))
    found = corrupt_tokens(
        torch.zeros(4, 4, dtype=torch.int64),
        rate=1.0,
        mix=(0, 1, 0),
        clusters=lonely,
        exclude_original=True,
        seed=1,
    )
    assert found.selected.all()
    assert (found.ids == 0).all()


def test_update_counts_every_duplicate() -> None:
    """The released code lost updates of one pair in one batch."""
    clusters = TokenClusters(torch.tensor([0, 0, 1, 1]))
    original, replaced = torch.tensor([[0, 1, 0, 3]]), torch.tensor([[2, 3, 3, 0]])
    clusters.update(
        original, replaced, torch.tensor([[True, True, False, False]]), torch.tensor([[True] * 4])
    )
    assert clusters.counts.tolist() == [[1, 2], [0, 1]]
    clusters.update(original, replaced, torch.ones(1, 4).bool(), torch.tensor([[False, True, True, False]]))
    assert clusters.counts.tolist() == [[1, 4], [0, 1]]
    before = clusters.counts.clone()
    clusters.update(original + 99, replaced, torch.ones(1, 4).bool(), torch.zeros(1, 4).bool())
    assert torch.equal(clusters.counts, before)  # what is not asked for may hold anything


def test_update_is_seen_by_the_next_draw() -> None:
    clusters = TokenClusters(torch.tensor([0, 1]), beta=50.0)
    ids = torch.zeros(20, 20, dtype=torch.int64)
    assert 0.2 < substituted(ids, clusters).float().mean() < 0.8
    clusters.update(ids[0], ids[0] + 1, torch.ones(20).bool(), torch.ones(20).bool())
    assert (substituted(ids, clusters) == 1).all()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"original_ids": torch.tensor([9])}, "original_ids"),
        ({"replaced_ids": torch.tensor([-1])}, "replaced_ids"),
        ({"replaced_ids": torch.tensor([0, 1])}, "replaced_ids"),
        ({"fooled": torch.tensor([1])}, "fooled"),
        ({"where": torch.tensor([1.0])}, "where"),
    ],
)
def test_bad_updates(change: dict, name: str) -> None:
    one, yes = torch.tensor([1]), torch.tensor([True])
    with pytest.raises(ValueError, match=name):
        TokenClusters(torch.tensor([0, 1])).update(
            **{"original_ids": one, "replaced_ids": one, "fooled": yes, "where": yes, **change}
        )


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (([[0, 1]],), "cluster_of"),
        ((torch.tensor([0.5]),), "cluster_of"),
        ((torch.tensor([-1, 0]),), "cluster_of"),
        ((torch.tensor([2**40]),), "cluster_of"),
        ((torch.tensor([0]), float("nan")), "beta"),
        ((torch.tensor([0]), -1.0), "beta"),
    ],
)
def test_bad_clusters(arguments: tuple, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        TokenClusters(*arguments)


def test_vocabulary_must_match() -> None:
    with pytest.raises(ValueError, match="vocab_size must be 50"):
        substituted(IDS, TokenClusters(torch.arange(50)), vocab_size=51)


def test_state_of_clusters() -> None:
    clusters = TokenClusters(torch.arange(50) % 4, excluded_ids=(4,))
    clusters.counts += torch.randint(0, 9, (4, 4))
    substituted(IDS, clusters)
    assert list(clusters.state_dict()) == ["counts"]
    assert not list(clusters.parameters())
    other = TokenClusters(torch.arange(50) % 4, excluded_ids=(4,))
    other.load_state_dict(clusters.state_dict())
    for twin in (other, copy.deepcopy(clusters), pickle.loads(pickle.dumps(clusters))):
        assert torch.equal(substituted(IDS, twin), substituted(IDS, clusters))


# -- modules -------------------------------------------------------------------------------------------------

MODULES = [
    (MaskedLM, {"mask_id": 3}, {"mask_id": 3}),
    (RandomTokenSubstitution, {}, {"mix": (0, 1, 0), "labels": "selected"}),
    (SwappedLM, {}, {"mix": (0, 1, 0)}),
    (
        ClusterRandomTokenSubstitution,
        {"clusters": TokenClusters(torch.arange(50) % 3)},
        {"mix": (0, 1, 0), "labels": "selected", "clusters": TokenClusters(torch.arange(50) % 3)},
    ),
]


@pytest.mark.parametrize(
    ("kind", "arguments", "keywords"), MODULES, ids=lambda value: getattr(value, "__name__", "")
)
def test_modules_are_the_operator(kind: type, arguments: dict, keywords: dict) -> None:
    module = kind(50, special_ids=(0, 1), rate=0.3, seed=7, **arguments)
    names, groups = torch.arange(64) + 5, IDS // 9
    found = module(IDS, groups=groups, step=3, sample_ids=names)
    expected = corrupt_tokens(
        IDS,
        groups=groups,
        rate=0.3,
        vocab_size=50,
        special_ids=(0, 1),
        seed=7,
        step=3,
        sample_ids=names,
        **keywords,
    )
    for left, right in zip(found, expected, strict=True):
        assert left is right or torch.equal(left, right)
    assert not list(module.parameters())
    with pytest.raises(ValueError, match="step must be given"):
        module(IDS)


@pytest.mark.parametrize(
    ("kind", "arguments", "keywords"), MODULES, ids=lambda value: getattr(value, "__name__", "")
)
def test_modules_without_a_seed(kind: type, arguments: dict, keywords: dict) -> None:
    """A fresh seed a call from torch's generator: repeated by manual_seed, compiled or not."""
    module = kind(50, **arguments)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    runs = []
    for call in (module, module, compiled):
        torch.manual_seed(3)
        runs.append([call(IDS).ids for _ in range(3)])
    assert not torch.equal(runs[0][0], runs[0][1])
    for other in runs[1:]:
        assert all(torch.equal(left, right) for left, right in zip(runs[0], other, strict=True))


def test_ranks_number_their_rows_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that share a seed must not share masks."""
    module = MaskedLM(50, 3, seed=1)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    found = []
    for rank in range(3):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        found.append(module(IDS, step=1).selected)
    assert torch.equal(found[0], corrupt_tokens(IDS, mask_id=3, vocab_size=50, seed=1, step=1).selected)
    for left, right in ((0, 1), (1, 2), (0, 2)):
        assert (found[left] != found[right]).any(1).all()
