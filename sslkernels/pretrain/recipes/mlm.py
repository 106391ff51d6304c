"""Masked text: BERT's masked tokens or words, SLM, RTS, C-RTS and ELECTRA on English text and code.

objective=mlm hides tokens and predicts them (Devlin et al., "BERT", NAACL 2019), wwm hides whole words. slm
predicts what random tokens have replaced, rts asks of every token whether it was replaced, crts draws the
replacement from clusters that fooled the detector (Di Liello, Gabburo and Moschitti, "Effective Pretraining
Objectives for Transformer-based Autoencoders", Findings of EMNLP 2022). electra asks the same of tokens that
a small generator, trained beside, has drawn (Clark et al., "ELECTRA", ICLR 2020).

After training, a linear model on frozen features, the mean over the tokens of a line of English, says whether
the line is a comment in the standard library or from Python's documentation topics, against the same network
as it was initialised. objective=rts also times a step of RTS beside steps of MLM, with our head and with
logits at every token.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sslkernels.pretrain import loop
from sslkernels.pretrain.clusters import token_clusters
from sslkernels.pretrain.config import TrainConfig, UserError, key
from sslkernels.pretrain.data import Plan
from sslkernels.pretrain.probe import auc, ridge_auc
from sslkernels.pretrain.ranks import Ranks
from sslkernels.pretrain.recipe import Loss, Recipe
from sslkernels.pretrain.text import (
    PAD,
    Document,
    Rows,
    comments_and_topics,
    interpreter_text,
    load_tokenizer,
    read_text,
    sha256,
    train_tokenizer,
)
from sslkernels.pretrain.text_model import DETECT, DETECTION_WEIGHT, IGNORED, TextModel, corrupted

FRESH = 1 << 40  # an epoch that training does not reach: new masks for evaluation


@dataclass(frozen=True)
class Config(TrainConfig):
    steps: int = 600
    batch_size: int = 32
    lr: float = 2e-3
    objective: Literal["mlm", "wwm", "slm", "rts", "crts", "electra"] = key("mlm", "what is learnt")
    head: Literal["ours", "dense"] = key(
        "ours", "dense: logits at every token, scored or not (mlm, wwm, slm)"
    )
    rate: float = key(0.15, "share of the tokens, or words, that is selected")
    vocab_size: int = key(8192, "ids of the tokenizer at most")
    max_tokens: int = key(128, "length of a row; longer documents are cut")
    dim: int = key(128, "width of the network")
    layers: int = key(2, "blocks")
    heads: int = key(4, "attention heads")
    dropout: float = key(0.0, "in the blocks")
    clusters: int = key(100, "of tokens (crts)")
    beta: float = key(2.0, "how sharply clusters that fooled the detector are preferred (crts)")
    generator_dim: int = key(64, "width of the generator (electra)")
    generator_layers: int = key(1, "blocks of the generator (electra)")
    probe_labels: int = key(200, "texts with a label for the linear model")
    probe_size: int = key(2000, "texts it sees in all")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_tokens", "layers", "heads", "generator_layers", "probe_labels"):
            self.require(name, getattr(self, name) >= 1, "at least 1")
        self.require("rate", 0 < self.rate < 1, "in (0, 1)")
        self.require("vocab_size", 300 <= self.vocab_size <= 1 << 20, "in [300, 2^20]")
        for name in ("dim", "generator_dim"):
            width = getattr(self, name)
            self.require(name, width > 0 and width % (2 * self.heads) == 0, "a multiple of 2 * heads")
        self.require("dropout", 0 <= self.dropout < 1, "in [0, 1)")
        self.require("clusters", 1 <= self.clusters <= 256, "in [1, 256]")
        self.require("beta", 0 <= self.beta < 1e6, "in [0, 1e6)")
        self.require("probe_size", self.probe_size > self.probe_labels, "above probe_labels")
        apart = self.objective == "electra" and self.accumulation > 1
        self.require("accumulation", not apart, "1: electra adds up two losses of different counts")
        dense = self.head == "dense" and self.objective in DETECT
        self.require("head", not dense, f"ours: objective={self.objective} has no logits over the vocabulary")


class Texts:
    """Rows of tokens, corrupted afresh every epoch."""

    def __init__(self, config: Config, rows: Rows, tokenizer: Any, clusters: list[int] | None) -> None:
        self.config, self.rows, self.tokenizer, self.clusters = config, rows, tokenizer, clusters
        self.vocab_size: int = tokenizer.get_vocab_size()

    def __len__(self) -> int:
        return len(self.rows)

    def like(self, config: Config) -> Texts:
        """The same rows for another objective."""
        return Texts(config, self.rows, self.tokenizer, self.clusters)

    def batch(self, indices: np.ndarray, epoch: int) -> dict[str, Any]:
        ids, words = self.rows.padded(indices)
        batch = {"original": ids, "index": torch.from_numpy(indices), "epoch": epoch}
        if self.config.objective == "crts":  # what the detector has learnt to see through is in the model
            return batch
        return batch | corrupted(self.config, batch, self.vocab_size, words)


class MaskedText(Recipe):
    Config = Config

    def default_sha256(self) -> str:
        return sha256(interpreter_text())

    def make_data(self, path: Path | None) -> Texts:
        config, saved = self.config, self.resumed
        documents = interpreter_text() if path is None else read_text(path, self.say)
        if saved is not None:
            tokenizer = load_tokenizer(saved / "tokenizer.json")
        else:
            tokenizer = train_tokenizer(documents, config.vocab_size)
        rows = Rows.of(documents, tokenizer, config.max_tokens)
        clusters = None
        if config.objective == "crts" and saved is not None:
            clusters = _load_clusters(saved / "clusters.json", tokenizer.get_vocab_size())
        elif config.objective == "crts":
            clusters = token_clusters(rows.tokens, tokenizer.get_vocab_size(), config.clusters).tolist()
        return Texts(config, rows, tokenizer, clusters)

    def save_beside(self, run: Path, data: Any) -> None:
        _write(run / "tokenizer.json", data.tokenizer.to_str(pretty=True))
        if data.clusters is not None:
            _write(run / "clusters.json", json.dumps(data.clusters))

    def make_model(self, data: Any) -> TextModel:
        return TextModel(self.config, data.vocab_size, data.clusters)

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> Loss:
        total, count = model(batch)
        if total.ndim == 0:
            return Loss(total, count)
        generator, detector = total.detach() / total.new_tensor([1.0, DETECTION_WEIGHT])
        parts = {"generator_loss": (generator, count[0]), "detector_loss": (detector, count[1])}
        return Loss(total, count, parts)

    def after_step(self, model: Any, step: int) -> None:
        """C-RTS: what fooled the detector on any rank, in any part, goes into every rank's counts at once."""
        if self.config.objective != "crts":
            return
        counts = model.clusters.counts
        before = counts.clone()
        for part in model.judged:
            model.clusters.update(*part)
        model.judged.clear()
        if dist.is_initialized():
            change = counts - before
            dist.all_reduce(change)
            counts.copy_(before + change)

    @torch.no_grad()
    def evaluate(self, model: Any, data: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        torch.manual_seed(self.config.seed)
        untrained = self.make_model(data).to(model.embedding.weight.device).eval()
        lines = comments_and_topics(self.config.probe_size)
        speeds = [row["samples_per_second"] for row in rows if row.get("samples_per_second")]
        speed = statistics.median(speeds) if speeds else math.nan
        found = detection(model, data) if self.config.objective in DETECT else prediction(model, data)
        figures = {
            "step_ms": 1e3 * self.config.batch_size / speed,
            **found,
            "probe_auc": probe(model, data, *lines),
            "probe_auc_untrained": probe(untrained, data, *lines),
        }
        if self.config.objective == "rts":
            figures |= step_times(self.config, data, model.embedding.weight.device)
        for name, value in figures.items():
            self.say(f"{name.replace('_', ' ')}: {value:.4g}")
        return figures


def _write(path: Path, text: str) -> None:
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(text + "\n", "utf-8")
    os.replace(aside, path)


def _load_clusters(path: Path, vocab_size: int) -> list[int]:
    try:
        clusters = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if (
        not isinstance(clusters, list)
        or len(clusters) != vocab_size
        or not all(type(c) is int and 0 <= c < 256 for c in clusters)
    ):
        raise UserError(f"{path} does not hold a cluster for each of {vocab_size} tokens")
    return clusters


def _all(data: Texts, model: TextModel, most: int = 1024) -> Iterator[dict[str, Any]]:
    """The first `most` rows in batches, on the model's device, corrupted as in no training step."""
    device = model.embedding.weight.device
    for places in _parts(min(len(data), most)):
        batch = data.batch(places, FRESH)
        yield pytree.tree_map_only(Tensor, lambda t: t.to(device), batch)


def prediction(model: TextModel, data: Texts) -> dict[str, float]:
    """The share of scored tokens that the model gets right, and that the most frequent one of them is."""
    right, counts = 0, torch.zeros(data.vocab_size, dtype=torch.int64)
    for batch in _all(data, model):
        scored = batch["labels"] != IGNORED
        hidden, labels = model.hidden(batch)[scored], batch["labels"][scored]
        guess = F.linear(hidden, model.embedding.weight, model.bias).argmax(1)
        right += int((guess == labels).sum())
        counts += labels.cpu().bincount(minlength=data.vocab_size)
    total = max(int(counts.sum()), 1)
    return {"accuracy": right / total, "majority": int(counts.max()) / total}


def detection(model: TextModel, data: Texts) -> dict[str, float]:
    """AUC of replaced tokens against the others; of C-RTS also on the uniform replacements of RTS."""
    kinds = {"detection_auc": data}
    if model.config.objective == "crts":
        kinds["detection_auc_rts"] = data.like(replace(data.config, objective="rts"))
    figures = {}
    for name, texts in kinds.items():
        scores, positive = [], []
        for batch in map(model.corrupted, _all(texts, model)):
            scored = batch["labels"] != IGNORED
            scores.append(model.detector(model.hidden(batch)[scored])[:, 0].float().cpu())
            positive.append(batch["labels"][scored].cpu() == 1)
        figures[name] = auc(torch.cat(scores), torch.cat(positive))
    return figures


def probe(model: TextModel, data: Texts, documents: Sequence[Document], positive: Tensor) -> float:
    """AUC of a linear model on the mean of each document's features."""
    config, device = data.config, model.embedding.weight.device
    rows = Rows.of(documents, data.tokenizer, config.max_tokens)
    sums, tokens = torch.zeros(len(documents), config.dim), torch.zeros(len(documents), 1)
    for places in _parts(len(rows)):
        ids, _ = rows.padded(places)
        there = (ids != PAD).float()[..., None]
        document = torch.from_numpy(rows.document[places])
        sums.index_add_(0, document, (model.features(ids.to(device)).float().cpu() * there).sum(1))
        tokens.index_add_(0, document, there.sum(1))
    return ridge_auc(sums / tokens, positive, labels=config.probe_labels, splits=40)


def step_times(config: Config, data: Texts, device: torch.device, turns: int = 9) -> dict[str, float]:
    """Milliseconds of a step of RTS and of MLM with either head, batch included: the least of some turns."""
    mlm = {"objective": "mlm", "accumulation": 1}
    kinds: dict[str, dict[str, Any]] = {
        "rts": {"accumulation": 1},
        "mlm": {**mlm, "head": "ours"},
        "mlm_dense": {**mlm, "head": "dense"},
    }
    steps = {}
    for name, changes in kinds.items():
        changed = replace(config, **changes)
        steps[name] = _step(MaskedText(changed), data.like(changed), device)
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(turns):
        for name, step in steps.items():
            seconds[name].append(next(step))
    return {f"step_ms_{name}": 1e3 * min(each) for name, each in seconds.items()}


@torch.enable_grad()
def _step(recipe: MaskedText, data: Texts, device: torch.device) -> Iterator[float]:
    """Seconds of one training step after another, as the loop does them on one rank."""
    config, alone = recipe.config, Ranks(0, 1, device, owns_group=False)
    model = recipe.make_model(data).to(device).train()
    optimizer = loop.make_optimizer(model, config)
    plan = Plan(len(data), config.batch_size, config.seed)
    for step in itertools.count():
        began = time.perf_counter()
        parts = iter([data.batch(plan.samples(step), plan.epoch(step))])
        totals = loop.accumulate(recipe, model, parts, alone, step)
        loop.finish_gradients(model, 1.0 / max(float(totals.count), 1.0), config.clip)  # waits for a GPU
        optimizer.step()
        optimizer.zero_grad()
        yield time.perf_counter() - began


def _parts(size: int) -> list[np.ndarray]:
    return np.array_split(np.arange(size), -(-size // 64))
