"""The network of masked text, and what of a batch it is shown: objectives that differ in mask and head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslkernels.masking import TokenClusters, corrupt_tokens, masked_linear_cross_entropy, sample_tokens
from sslkernels.pretrain.models import Transformer
from sslkernels.pretrain.text import MASK, PAD

IGNORED = -100
MIX = {"mlm": (0.8, 0.1, 0.1), "wwm": (0.8, 0.1, 0.1), "electra": (0.85, 0.0, 0.15)}  # else random ids alone
DETECT = ("rts", "crts", "electra")  # which tokens were replaced; the others predict what stood there
DETECTION_WEIGHT = 50.0  # of ELECTRA's detector beside its generator


def corrupted(
    config: Any,
    batch: Mapping[str, Any],
    vocab_size: int,
    words: Tensor | None = None,
    clusters: TokenClusters | None = None,
) -> dict[str, Tensor]:
    """Ids, labels and what is selected, (B, L) each: a function of the seed, the epoch and the row."""
    electra = config.objective == "electra"
    lengths = (batch["original"] != PAD).sum(1)
    found = corrupt_tokens(
        batch["original"],
        rate=0.0 if electra else config.rate,
        min_selected=(config.rate * lengths).round().long() if electra else 0,  # exactly so many
        mix=MIX.get(config.objective, (0.0, 1.0, 0.0)),
        mask_id=MASK,
        vocab_size=vocab_size,
        special_ids=(PAD, MASK),
        groups=words if config.objective == "wwm" else None,
        clusters=clusters,
        labels="selected" if config.objective in ("rts", "crts") else "original",
        ignore_index=IGNORED,
        seed=config.seed,
        step=batch["epoch"],
        sample_ids=batch["index"],
    )
    return {"ids": found.ids, "labels": found.labels, "selected": found.selected}


class Generator(nn.Module):
    """ELECTRA's small network between the embedding of the large one and its transpose: (B, L, dim) twice."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        small = config.generator_dim
        self.narrow, self.widen = nn.Linear(config.dim, small), nn.Linear(small, config.dim)
        self.body = Transformer(small, config.heads, config.generator_layers, config.dropout)
        self.norm = nn.RMSNorm(config.dim)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        return self.norm(F.gelu(self.widen(self.body(self.narrow(x), positions, mask))))


class TextModel(nn.Module):
    """A transformer over tokens; its head says which token stood there, or whether this one did.

    ELECTRA: the generator says which token stood there, and what it draws is judged by the other.
    """

    def __init__(self, config: Any, vocab_size: int, clusters: Sequence[int] | None) -> None:
        super().__init__()
        self.config, dim = config, config.dim
        self.embedding = nn.Embedding(vocab_size, dim)
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)
        self.body = Transformer(dim, config.heads, config.layers, config.dropout)
        self.transform = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.RMSNorm(dim))
        if config.objective in DETECT:
            self.detector = nn.Linear(dim, 1)
        if config.objective not in ("rts", "crts"):
            self.bias = nn.Parameter(torch.zeros(vocab_size))
        if config.objective == "electra":
            self.generator = Generator(config)
            text = torch.ones(vocab_size, dtype=torch.bool)
            text[[PAD, MASK]] = False
            self.register_buffer("text", text, persistent=False)  # what the generator may draw
        if clusters is not None:
            self.clusters = TokenClusters(torch.tensor(clusters), config.beta, (PAD, MASK))
        self.judged: list[tuple[Tensor, ...]] = []  # what C-RTS learns from, of the parts of one step

    def features(self, ids: Tensor) -> Tensor:
        """(B, L) -> (B, L, dim)"""
        return self._read(self.body, ids)

    def _read(self, body: nn.Module, ids: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        return body(self.embedding(ids), positions, (ids != PAD)[:, None, None])

    def corrupted(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch with ids, labels and what is selected, where the data have left that to the model."""
        if self.config.objective == "electra":
            return self._generated(batch, self._read(self.generator, batch["ids"]))
        if "ids" in batch:
            return batch
        return batch | corrupted(self.config, batch, self.embedding.num_embeddings, clusters=self.clusters)

    def hidden(self, batch: dict[str, Any]) -> Tensor:
        """What the heads read, (B, L, dim)"""
        return self.transform(self.features(batch["ids"]))

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The summed loss and the number of scored tokens; of ELECTRA the generator's and the detector's."""
        if self.config.objective == "electra":
            return self._electra(batch)
        batch = self.corrupted(batch)
        if self.config.objective in DETECT:
            return self._detected(self.hidden(batch), batch)
        return self._predicted(self.hidden(batch), batch["labels"])

    def _electra(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        guess = self._read(self.generator, batch["ids"])
        predicted, masked = self._predicted(guess, batch["labels"])
        batch = self._generated(batch, guess)
        detected, tokens = self._detected(self.hidden(batch), batch)
        return torch.stack([predicted, DETECTION_WEIGHT * detected]), torch.stack([masked, tokens])

    @torch.no_grad()
    def _generated(self, batch: dict[str, Any], guess: Tensor) -> dict[str, Any]:
        """The batch with what the generator draws; where that is the token itself, nothing was replaced."""
        original = batch["original"]
        row, place = batch["selected"].nonzero(as_tuple=True)
        drawn = sample_tokens(
            F.linear(guess[row, place], self.embedding.weight, self.bias),
            allowed=self.text,
            seed=self.config.seed,
            step=batch["epoch"],
            sample_ids=batch["index"][row] * self.config.max_tokens + place,
        )
        ids = original.index_put((row, place), drawn)
        labels = torch.where(original == PAD, IGNORED, (ids != original).long())
        return batch | {"ids": ids, "labels": labels}

    def _predicted(self, hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        flat, weight, target = hidden.flatten(0, 1), self.embedding.weight, labels.flatten()
        if self.config.head == "ours":
            total = masked_linear_cross_entropy(
                flat, weight, target, self.bias, ignore_index=IGNORED, reduction="sum"
            )
        else:
            logits = F.linear(flat, weight, self.bias)
            total = F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="sum")
        return total, (target != IGNORED).sum()

    def _detected(self, hidden: Tensor, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        logits, scored = self.detector(hidden)[..., 0].float(), batch["labels"] != IGNORED
        target = batch["labels"].clamp(min=0).float()
        losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        if self.training and self.config.objective == "crts":
            fooled = logits.detach() <= 0
            self.judged.append((batch["original"], batch["ids"], fooled, batch["selected"]))
        return torch.where(scored, losses, 0.0).sum(), scored.sum()
