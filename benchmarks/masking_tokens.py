"""corrupt_tokens against the collators and methods in use, on 256 x 512 tokens of a vocabulary of 30,522."""

import functools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from benchmarks.conftest import Race
from sslkernels.masking import TokenClusters, corrupt_tokens

BATCH, LENGTH, VOCABULARY, CLUSTERS = 256, 512, 30522, 100
SPECIAL = (0, 100, 101, 102, 103)
MASK = 103
RELEASED_ROWS = 8  # of the slow peer
PROBLEM = f"b={BATCH} l={LENGTH} v={VOCABULARY}"


@functools.cache
def data() -> SimpleNamespace:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, VOCABULARY, (BATCH, LENGTH), generator=generator)
    ids[:, 0], ids[:, -1] = 101, 102
    begins = torch.rand(BATCH, LENGTH, generator=generator) < 0.7  # words of 1.4 tokens, as of English text
    begins[:, :2] = True
    clusters = TokenClusters(
        torch.randint(0, CLUSTERS, (VOCABULARY,), generator=generator), excluded_ids=SPECIAL
    )
    clusters.counts += torch.randint(0, 50, clusters.counts.shape, generator=generator)
    special = torch.isin(ids, torch.tensor(SPECIAL))
    return SimpleNamespace(ids=ids, special=special, groups=begins.long().cumsum(1), clusters=clusters)


def offsets(groups: Tensor) -> np.ndarray:
    """(B, L, 2): words apart, tokens of a word touching."""
    ends = np.arange(1, LENGTH + 1) + groups.numpy()
    return np.stack([ends - 1, ends], axis=-1)


class Names:
    """What the collator's mask_tokens asks of a tokenizer."""

    mask_token, mask_token_id, pad_token_id, is_fast = "[MASK]", MASK, 0, True
    all_special_ids = SPECIAL

    def __len__(self) -> int:
        return VOCABULARY

    def convert_tokens_to_ids(self, token: str) -> int:
        return MASK


def collator(**keywords: Any) -> Any:
    return transformers.DataCollatorForLanguageModeling(Names(), **keywords)


MLM = {"mask_id": MASK, "vocab_size": VOCABULARY, "special_ids": SPECIAL, "seed": 1}
RTS = {"mix": (0, 1, 0), "labels": "selected", "special_ids": SPECIAL, "seed": 1}


def test_token_mlm(race: Race, threads: int) -> None:
    """The collator is given the special-token mask and may write into its input."""
    batch, theirs, scratch = data(), collator(), data().ids.clone()
    race(
        f"token MLM {PROBLEM} threads={threads}",
        lambda: corrupt_tokens(batch.ids, **MLM),
        {"transformers": lambda: theirs.torch_mask_tokens(scratch, special_tokens_mask=batch.special)},
        floor={"transformers": 8},
    )


def test_small_batch(race: Race, threads: int) -> None:
    ids, special, theirs = data().ids[:4, :32].contiguous(), data().special[:4, :32], collator()
    scratch = ids.clone()
    race(
        f"token MLM b=4 l=32 threads={threads}",
        lambda: corrupt_tokens(ids, **MLM),
        {"transformers": lambda: theirs.torch_mask_tokens(scratch, special_tokens_mask=special)},
        floor={"transformers": 1},
        least=200,
    )


@pytest.mark.filterwarnings("ignore:Random token replacement")
def test_whole_word(race: Race, threads: int) -> None:
    batch, scratch = data(), data().ids.clone()
    theirs, spans = collator(whole_word_mask=True), offsets(data().groups)
    race(
        f"whole word {PROBLEM} threads={threads}",
        lambda: corrupt_tokens(batch.ids, groups=batch.groups, **MLM),
        {
            "transformers": lambda: theirs.torch_mask_tokens(
                scratch, special_tokens_mask=batch.special.long(), offset_mapping=spans
            )
        },
        floor={"transformers": 60},
    )


def eager_rts(ids: Tensor, special: Tensor) -> tuple[Tensor, Tensor]:
    chosen = (torch.rand(ids.shape) < 0.15) & ~special
    drawn = torch.randint(VOCABULARY, ids.shape)
    return torch.where(chosen, drawn, ids), torch.where(special, -100, chosen.long())


def test_rts(race: Race, threads: int) -> None:
    batch = data()
    race(
        f"RTS {PROBLEM} threads={threads}",
        lambda: corrupt_tokens(batch.ids, vocab_size=VOCABULARY, **RTS),
        {"tight eager torch": lambda: eager_rts(batch.ids, batch.special)},
        floor={"tight eager torch": 6},
    )


def released_crts(
    ids: Tensor, special: Tensor, weights: Tensor, members: list[Tensor], own: Tensor
) -> Tensor:
    """The released code's method: a multinomial draw of a cluster for each selected token, then a token."""
    found = ids.clone()
    for row, at in ((torch.rand(ids.shape) < 0.15) & ~special).nonzero().tolist():
        cluster = int(torch.multinomial(weights[own[ids[row, at]]], 1))
        found[row, at] = members[cluster][torch.randint(len(members[cluster]), ())]
    return found


class NumpyClusters:
    """C-RTS in tight NumPy: one search over all rows of cumulative weights at once."""

    def __init__(self, clusters: TokenClusters) -> None:
        own = clusters.cluster_of.numpy()
        drawn = np.ones(VOCABULARY, dtype=bool)
        drawn[list(SPECIAL)] = False
        kept = np.flatnonzero(drawn)
        self.own = own
        self.tokens = kept[np.argsort(own[kept], kind="stable")]
        self.sizes = np.bincount(own[kept], minlength=CLUSTERS)
        self.starts = self.sizes.cumsum() - self.sizes
        self.line = (clusters.weights.double().numpy().cumsum(1) + np.arange(CLUSTERS)[:, None]).ravel()
        self.random = np.random.default_rng(0)

    def __call__(self, ids: np.ndarray, special: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        chosen = (self.random.random(ids.shape, dtype=np.float32) < 0.15) & ~special
        at = np.flatnonzero(chosen)
        own = self.own[ids.ravel()[at]]
        cluster = np.searchsorted(self.line, self.random.random(len(at)) + own) - own * CLUSTERS
        cluster = np.minimum(cluster, CLUSTERS - 1)
        rank = (self.random.random(len(at)) * self.sizes[cluster]).astype(np.int64)
        found = ids.copy()
        found.ravel()[at] = self.tokens[self.starts[cluster] + rank]
        return found, np.where(special, -100, chosen.astype(np.int64))


def test_crts(race: Race, threads: int) -> None:
    batch = data()
    clusters = batch.clusters
    own, weights = clusters.cluster_of, clusters.weights
    members = [(own == cluster).nonzero().flatten() for cluster in range(CLUSTERS)]
    ids, special, tight = batch.ids.numpy(), batch.special.numpy(), NumpyClusters(clusters)
    part = slice(0, RELEASED_ROWS)
    race(
        f"C-RTS {PROBLEM} clusters={CLUSTERS} threads={threads}",
        lambda: corrupt_tokens(batch.ids, clusters=clusters, **RTS),
        {
            "released method": lambda: released_crts(
                batch.ids[part], batch.special[part], weights, members, own
            ),
            "tight NumPy": lambda: tight(ids, special),
        },
        scale={"released method": BATCH / RELEASED_ROWS},
        floor={"released method": 150, "tight NumPy": 3},
    )
