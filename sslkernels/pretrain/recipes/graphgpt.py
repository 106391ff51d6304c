"""GraphGPT: a transformer over Eulerian walks of molecules; masked or next tokens are predicted.

The Graph Eulerian Transformer (Zhao et al., "GraphGPT: Generative Pre-trained Graph Eulerian Transformer",
ICML 2025). A molecule is walked afresh every epoch, a row of tokens a step of the walk. objective=smtp masks
all tokens of a node wherever the walk visits it, at a rate drawn for each molecule; objective=ntp predicts
each row from those before it. After training, a linear model on frozen features predicts the polar surface
area from few labels, against the same network as it was initialised.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sslkernels.eulerian import GraphTokenizer, pack
from sslkernels.masking import corrupt_tokens, mask_rate, masked_linear_cross_entropy, row_uniform
from sslkernels.molecules import ATOM_FEATURES, BOND_FEATURES
from sslkernels.pretrain.config import TrainConfig, UserError, key
from sslkernels.pretrain.models import Transformer, segment_mask
from sslkernels.pretrain.probe import ridge_rmse
from sslkernels.pretrain.recipe import Loss, Recipe
from sslkernels.pretrain.smiles import Molecules, nci_smiles, nci_tpsa

IGNORED = -100
FRESH = 1 << 40  # an epoch that training does not reach: new walks and masks for evaluation


@dataclass(frozen=True)
class Config(TrainConfig):
    steps: int = 600
    batch_size: int = 64
    lr: float = 2e-3
    objective: Literal["smtp", "ntp"] = key("smtp", "masked tokens of nodes, or next tokens")
    schedule: Literal["linear", "cosine", "polynomial", "fixed"] = key("linear", "of the masked share (smtp)")
    power: float = key(1.0, "of schedule=polynomial")
    low: float = key(0.0, "least masked share of a molecule")
    high: float = key(0.5, "largest masked share")
    random: float = key(0.1, "share of the masked nodes whose tokens become random ones instead")
    kept: float = key(0.1, "share of the masked nodes whose tokens stay")
    dim: int = key(128, "width of the network")
    layers: int = key(4, "blocks")
    heads: int = key(4, "attention heads")
    dropout: float = key(0.0, "in the blocks")
    scope: int = key(128, "node ids; molecules with more atoms are left out")
    max_tokens: int = key(128, "length of a packed row; longer where one molecule needs it")
    limit: int = key(0, "use the first so many molecules; 0: all")
    probe_labels: int = key(200, "molecules with a label for the linear model")
    probe_size: int = key(0, "molecules it sees in all; 0: those of RDKit")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("layers", "heads"):
            self.require(name, getattr(self, name) >= 1, "at least 1")
        self.require("scope", 1 <= self.scope <= 1 << 16, "in [1, 65536]")
        self.require("max_tokens", 1 <= self.max_tokens <= 1 << 14, "in [1, 16384]")
        self.require("probe_labels", 1 <= self.probe_labels <= 4000, "in [1, 4000]")  # of RDKit's 4,991
        self.require(
            "probe_size", self.probe_size == 0 or self.probe_size > self.probe_labels, "above probe_labels"
        )
        self.require("dim", self.dim > 0 and self.dim % (2 * self.heads) == 0, "a multiple of 2 * heads")
        self.require("low", 0 <= self.low <= 1, "in [0, 1]")
        self.require("high", 0 < self.high <= 1 and self.low <= self.high, "above 0 and in [low, 1]")
        self.require("random", 0 <= self.random <= 1, "in [0, 1]")
        self.require("kept", 0 <= self.kept <= 1 - self.random + 1e-9, "in [0, 1 - random]")  # 0.1 and 0.9
        self.require("power", self.power > 0, "above 0")
        self.require("dropout", 0 <= self.dropout < 1, "in [0, 1)")
        self.require("limit", self.limit >= 0, "at least 0")


class Walks:
    """Packed rows of token rows: (R, L, F), with the segment and position of each and what is scored."""

    def __init__(self, config: Config, molecules: Molecules) -> None:
        self.config, self.molecules = config, molecules
        self.tokenizer = GraphTokenizer(ATOM_FEATURES, BOND_FEATURES, scope=config.scope)

    def __len__(self) -> int:
        return len(self.molecules)

    def batch(self, indices: np.ndarray, epoch: int) -> dict[str, Any]:
        graphs, ids = self.molecules.graphs(indices), torch.from_numpy(indices)
        began = time.perf_counter()
        walks = self.tokenizer.encode(graphs, seed=self.config.seed, step=epoch, sample_ids=ids)
        seconds = time.perf_counter() - began
        longest = int(walks.ptr.diff().max()) if len(indices) else 1
        packed = pack(walks, max(self.config.max_tokens, longest))
        rows, length, width = packed.tokens.shape
        segments = torch.arange(len(packed.graph)).repeat_interleave(packed.ptr.diff()).view(rows, length)
        tokens, labels = (
            self._masked(packed, ids, epoch) if self.config.objective == "smtp" else _next(packed)
        )
        return {
            "tokens": tokens.view(rows, length, width),
            "labels": labels.view(rows, length, width),
            "segments": segments,
            "positions": packed.positions,
            "graph": packed.graph[segments.flatten()].view(rows, length),
            "seconds": seconds,
        }

    def _masked(self, packed: Any, ids: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Node-tied masks at a rate of each molecule's own; padding, last in `ids`, is never eligible."""
        config = self.config
        samples = torch.cat([ids, ids.new_full((1,), -1)])[packed.graph]
        draw: dict[str, Any] = {"seed": config.seed, "step": epoch, "sample_ids": samples}
        u = row_uniform(len(samples), **draw)
        masked = corrupt_tokens(
            packed.tokens.flatten(0, 1),
            ptr=packed.ptr,
            groups=packed.node_groups.flatten(),
            rate=mask_rate(u, config.schedule, power=config.power, low=config.low, high=config.high),
            mix=(max(1.0 - config.random - config.kept, 0.0), config.random, config.kept),
            mask_id=self.tokenizer.mask_id,
            vocab_size=self.tokenizer.vocab_size,
            special_ids=(self.tokenizer.pad_id,),
            ignore_index=IGNORED,
            **draw,
        )
        return masked.ids, masked.labels


def _next(packed: Any) -> tuple[Tensor, Tensor]:
    """The tokens as they are; each row's labels are the next row of its molecule."""
    tokens = packed.tokens.flatten(0, 1)
    labels = tokens.roll(-1, 0).long()
    labels[(packed.ptr[1:] - 1).clamp(min=0)] = IGNORED  # nothing follows a molecule's last row
    padding = torch.repeat_interleave(packed.graph < 0, packed.ptr.diff())
    labels[padding] = IGNORED
    return tokens, labels


class GraphEulerianTransformer(nn.Module):
    """Sums the embeddings of a row's tokens; scores each column of a row with the same embedding."""

    def __init__(self, config: Config, vocab_size: int) -> None:
        super().__init__()
        width = 2 + len(ATOM_FEATURES) + len(BOND_FEATURES)
        self.causal = config.objective == "ntp"
        self.embedding = nn.Embedding(vocab_size, config.dim)
        nn.init.normal_(self.embedding.weight, std=config.dim**-0.5)
        self.body = Transformer(config.dim, config.heads, config.layers, config.dropout)
        self.columns = nn.Parameter(torch.randn(width, config.dim) * 0.02)
        self.column_mlp = nn.Sequential(nn.Linear(config.dim, config.dim), nn.GELU(), nn.RMSNorm(config.dim))
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def features(self, batch: dict[str, Any]) -> Tensor:
        """(R, L, dim)"""
        mask = segment_mask(batch["segments"], self.causal)
        return self.body(self.embedding(batch["tokens"]).sum(2), batch["positions"], mask)

    def scored(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden state and label of each scored token (S, dim), (S,), and its column (S,)."""
        labels = batch["labels"]
        row, place, column = (labels != IGNORED).nonzero(as_tuple=True)
        hidden = self.features(batch)[row, place] + self.columns[column]
        return self.column_mlp(hidden), labels[row, place, column], column

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, int]:
        """The summed loss and the number of scored tokens."""
        hidden, labels, _ = self.scored(batch)
        total = masked_linear_cross_entropy(
            hidden, self.embedding.weight, labels, self.bias, ignore_index=IGNORED, reduction="sum"
        )
        return total, len(labels)


class GraphGPT(Recipe):
    Config = Config

    def default_data(self) -> Path:
        return nci_smiles()

    def make_data(self, path: Path | None) -> Walks:
        config = self.config
        assert path is not None
        read = Molecules.read(path, config.scope, self.say, config.workers, config.limit)
        return Walks(config, read)

    def make_model(self, data: Any) -> GraphEulerianTransformer:
        return GraphEulerianTransformer(self.config, data.tokenizer.vocab_size)

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> Loss:
        total, count = model(batch)
        return Loss(total, count, {"serialization_ms": (1e3 * batch["seconds"], 1)})

    @torch.no_grad()
    def evaluate(self, model: Any, data: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        untrained = self.make_model(data).to(model.bias.device).eval()
        correct, majority = accuracy(model, data)
        trained_rmse, untrained_rmse = (self._probe(each) for each in (model, untrained))
        speed = _mean(rows, "samples_per_second")
        step_ms = 1e3 * self.config.batch_size / speed
        share = self.config.accumulation * _mean(rows, "serialization_ms") / step_ms
        what = "masked" if self.config.objective == "smtp" else "next"
        self.say(f"{what}-token accuracy {correct:.3f}, majority class of each column {majority:.3f}")
        self.say(f"probe RMSE {trained_rmse:.2f} A^2, of the same network untrained {untrained_rmse:.2f} A^2")
        self.say(f"{speed:.0f} samples/s, serialization {100 * share:.1f} % of a step")
        return {
            "accuracy": correct,
            "majority": majority,
            "probe_rmse": trained_rmse,
            "probe_rmse_untrained": untrained_rmse,
            "samples_per_second": speed,
            "serialization_share": share,
        }

    def _probe(self, model: GraphEulerianTransformer) -> float:
        """RMSE of the polar surface area (square angstrom), from the summed features of each NCI molecule.

        nan where too few have at most `scope` atoms.
        """
        try:
            molecules = Molecules.read(nci_smiles(), self.config.scope, _silent, limit=self.config.probe_size)
        except UserError:
            return math.nan
        walks = Walks(replace(self.config, objective="ntp"), molecules)  # hides nothing
        features = [pooled(model.features(batch), batch["graph"]).cpu() for batch in _all(walks, model)]
        targets = torch.from_numpy(nci_tpsa()[molecules.line - 1])
        return ridge_rmse(torch.cat(features), targets, labels=self.config.probe_labels)


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    """Over the rows that have it; nan where none has."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return sum(values) / len(values) if values else math.nan


def _silent(text: str) -> None:
    pass


def _all(walks: Walks, model: GraphEulerianTransformer, most: int = 1 << 62) -> Iterator[dict[str, Any]]:
    """The first `most` molecules in batches, on the model's device, as no training step has seen them."""
    for places in np.array_split(np.arange(min(len(walks), most)), max(min(len(walks), most) // 256, 1)):
        batch = walks.batch(places, FRESH)
        yield pytree.tree_map_only(Tensor, lambda t: t.to(model.bias.device), batch)


def pooled(features: Tensor, graph: Tensor) -> Tensor:
    """The sum of each graph's features: (R, L, D) and the graph of each place (R, L), -1: none -> (G, D)."""
    place = graph.flatten() + 1
    sums = features.new_zeros(int(place.max()) + 1, features.shape[-1]).index_add(
        0, place, features.flatten(0, 1)
    )
    return sums[1:]


def accuracy(model: GraphEulerianTransformer, walks: Walks, most: int = 2048) -> tuple[float, float]:
    """Share of scored tokens that the model gets right, and that each column's most frequent label does.

    nan where none is scored.
    """
    right, counts = 0, torch.zeros(model.columns.shape[0], len(model.bias), dtype=torch.int64)
    for batch in _all(walks, model, most):
        hidden, labels, column = model.scored(batch)
        guess = (hidden @ model.embedding.weight.T + model.bias).argmax(1)
        right += int((guess == labels).sum())
        counts.index_put_((column.cpu(), labels.cpu()), torch.tensor(1), accumulate=True)
    scored = int(counts.sum()) or math.nan
    return right / scored, int(counts.amax(1).sum()) / scored
