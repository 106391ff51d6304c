"""The training loop: one process, DDP or FSDP2, with exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer
from torch.utils import _pytree as pytree

from sslkernels.pretrain import checkpoint
from sslkernels.pretrain.config import RankError, TrainConfig, UserError
from sslkernels.pretrain.data import Plan, batches, part_seed
from sslkernels.pretrain.log import Log
from sslkernels.pretrain.ranks import Ranks, bare, one_line
from sslkernels.pretrain.recipe import Data, Loss, Recipe
from sslkernels.pretrain.stop import SIGNALS, Stopped, StopRequest


def train(recipe: Recipe, data: Data, ranks: Ranks, run: Path, first: int, stop: StopRequest) -> nn.Module:
    """Train from step `first` (that of a checkpoint in `run`, or 0) to `config.steps`; returns the model.

    Raises Stopped after a checkpoint when a signal asked for it, and UserError naming the step whose loss
    or gradient is not finite.
    """
    config = recipe.config
    torch.manual_seed(config.seed)
    model = ranks.spread(recipe.make_model(data).to(ranks.device), config.parallel)
    optimizer = make_optimizer(model, config)
    if first:
        checkpoint.load(run, first, model, optimizer, ranks)
    plan = Plan(len(data), config.batch_size, config.seed, config.accumulation, ranks.rank, ranks.world)
    loader = batches(data, plan, range(first, config.steps), config.workers, ranks.device.type == "cuda")
    speed = _Speed()
    model.train()
    stop.hold()

    with loader as parts, Log(run, first, config.steps) if ranks.rank == 0 else nullcontext() as log:
        for step in range(first, config.steps):
            number = step + 1  # what people see: steps done
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step)

            totals = accumulate(recipe, model, parts, ranks, step)
            asked = totals.meet(ranks, stop.number)
            stop.number = asked or stop.number  # so that behind the last step, too, all ranks stop
            if not math.isfinite(totals.loss):
                raise UserError(f"loss is {totals.loss} at step {number}")
            norm = finish_gradients(model, totals.scale * ranks.world, config.clip)
            if not math.isfinite(norm):
                raise UserError(f"the gradient's norm is {norm} at step {number}")
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                recipe.after_step(bare(model), number)

            speed.add(plan.count(step))
            last = number == config.steps
            if log is not None:
                log.progress.step(number)
            if number % config.log_every == 0 or last:
                where = {"step": number, "epoch": plan.epoch(step), "samples": plan.seen(step)}
                rates = {"lr": learning_rate(config, step), "samples_per_second": speed.take()}
                row = {**where, "loss": totals.loss, **totals.metrics, "grad_norm": norm, **rates}
                ranks.first(Log.row, log, row)
            due = config.checkpoint_every and number % config.checkpoint_every == 0
            if due or last or asked:
                ranks.first(Log.save, log)
                checkpoint.save(run, number, model, optimizer, ranks, config.keep)
            if asked and not last:
                raise Stopped(asked)
        ranks.first(Log.draw, log)
    return model


def make_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """AdamW; weight decay on matrices, not on biases, norms and other vectors."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], lr=config.lr, betas=(0.9, 0.95), fused=True)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up to `lr`, then a cosine to `min_lr * lr`; a function of the step alone (from 0)."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    length = max(config.steps - config.warmup - 1, 1)
    cosine = 0.5 + 0.5 * math.cos(math.pi * min((step - config.warmup) / length, 1.0))
    return config.lr * (config.min_lr + (1 - config.min_lr) * cosine)


@dataclass
class Totals:
    """What a step's parts add up to: on this rank, and after `meet` over all ranks."""

    sum: Tensor | float = 0.0
    count: Tensor | float = 0.0
    sums: dict[str, list[Any]] = field(default_factory=dict)
    loss: float = math.nan
    scale: float = 0.0  # of gradients of `sum`
    metrics: dict[str, float] = field(default_factory=dict)

    def add(self, part: Loss) -> None:
        self.sum = self.sum + part.sum.detach()
        self.count = self.count + part.count
        for name, pair in part.metrics.items():
            before = self.sums.setdefault(name, [0.0, 0.0])
            before[:] = [have + more for have, more in zip(before, pair, strict=True)]

    def meet(self, ranks: Ranks, stop: int) -> int:
        """One all-reduce for the loss, the metrics and the signal that any rank got (returned, else 0)."""
        values = [self.sum, self.count, *(each for name in sorted(self.sums) for each in self.sums[name])]
        packed = torch.stack([torch.as_tensor(v, dtype=torch.float64, device=ranks.device) for v in values])
        asked = torch.tensor([float(stop == number) for number in SIGNALS]).to(packed)
        total, count, *rest, first, second = ranks.sum(torch.cat([packed, asked])).tolist()
        self.loss, self.scale = total / (count or 1.0), 1.0 / (count or 1.0)
        pairs = zip(sorted(self.sums), rest[::2], rest[1::2], strict=True)
        self.metrics = {name: have / of if of else math.nan for name, have, of in pairs}
        return SIGNALS[0] if first else SIGNALS[1] if second else 0


def accumulate(recipe: Recipe, model: nn.Module, parts: Iterator[Any], ranks: Ranks, step: int) -> Totals:
    """Forward and backward of a step's parts: gradients of the sums, not yet divided."""
    config, totals = recipe.config, Totals()
    kind = ranks.device.type
    for part in range(config.accumulation):
        try:
            batch = next(parts)
        except (ConnectionError, EOFError) as error:  # of the pipe from it
            raise RankError(f"a worker ended, maybe for want of memory: {one_line(error)}") from None
        except (UserError, OSError) as error:
            raise RankError(one_line(error)) from None
        batch = pytree.tree_map_only(Tensor, lambda t: t.to(ranks.device, non_blocking=True), batch)
        torch.manual_seed(part_seed(config.seed, step, part * ranks.world + ranks.rank))
        with ranks.accumulating(model, last=part == config.accumulation - 1):
            with torch.autocast(kind, torch.bfloat16, enabled=config.precision == "bf16"):
                loss = joined(recipe.loss(model, batch), ranks, config.accumulation)
            loss.sum.backward()
        totals.add(loss)
    return totals


def joined(loss: Loss, ranks: Ranks, accumulation: int) -> Loss:
    """Several terms as one of count 1 / ranks: their counts over all ranks are needed before backward."""
    if loss.sum.ndim == 0:
        return loss
    if accumulation > 1:
        raise UserError(f"accumulation is {accumulation}, must be 1: the loss has terms of different counts")
    counts = ranks.sum(torch.as_tensor(loss.count, dtype=torch.float64, device=ranks.device).clone())
    return Loss((loss.sum / counts.clamp(min=1).to(loss.sum.dtype)).sum(), 1.0 / ranks.world, loss.metrics)


def finish_gradients(model: nn.Module, scale: float, clip: float) -> float:
    """Divide the summed gradients once, clip them, and return their norm before that.

    DDP and FSDP give the mean over ranks, so `scale` holds their number.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    for parameter in parameters:
        parameter.grad.mul_(scale)  # type: ignore[union-attr]
    norm = nn.utils.clip_grad_norm_(parameters, clip or math.inf)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


class _Speed:
    """Samples a second since it was last asked."""

    def __init__(self) -> None:
        self.samples, self.since = 0, time.perf_counter()

    def add(self, samples: int) -> None:
        self.samples += samples

    def take(self) -> float:
        now = time.perf_counter()
        rate = self.samples / max(now - self.since, 1e-9)
        self.samples, self.since = 0, now
        return rate
