"""Masked autoencoding of projected latent vectors: the smallest real recipe, for the trainer's tests.

A row is 16 numbers that a fixed random matrix makes of 4; some are hidden, and a small network fills them
in. How many are hidden differs from row to row, so that a mean of means would show.
"""

import itertools
import os
import signal
from dataclasses import dataclass

import torch
from torch import nn

from sslkernels._random import draw, stream_key
from sslkernels.pretrain.config import TrainConfig, UserError, key
from sslkernels.pretrain.recipe import Loss, Recipe

WIDTH, LATENT = 16, 4


@dataclass(frozen=True)
class Config(TrainConfig):
    steps: int = 40
    batch_size: int = 16
    lr: float = 1e-2
    warmup: int = 5
    rows: int = key(101, "samples")
    hidden: int = key(32, "width of the network")
    dropout: float = key(0.0, "of the hidden layer")
    ruin: int = key(0, "the step whose loss becomes infinite; 0: none")
    terms: bool = key(False, "the loss as two terms with counts of their own")
    fresh: bool = key(True, "new masks every epoch")
    spoilt: int = key(-1, "the row that no batch can be made of; -1: none")
    fatal: bool = key(False, "it ends the process")


class Rows:
    def __init__(self, config: Config) -> None:
        self.config = config
        make = torch.Generator().manual_seed(7)
        latent = torch.randn(config.rows, LATENT, generator=make)
        self.values = latent @ torch.randn(LATENT, WIDTH, generator=make)

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, indices, epoch):
        if "SEEN" in os.environ:
            with open(os.environ["SEEN"], "a") as file:  # short appends do not mix
                file.write("".join(f"{epoch} {index}\n" for index in indices))
        if self.config.spoilt in indices:
            if self.config.fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            raise UserError(f"row {self.config.spoilt} is spoilt\nand more")
        index = torch.from_numpy(indices)
        stream = stream_key(self.config.seed, epoch if self.config.fresh else 0)
        words = draw(stream, index[:, None], 4000, torch.arange(WIDTH))[0]
        share = 2**30 + 2**31 * (index % 5) // 5  # a quarter to two thirds
        return {"values": self.values[index], "hidden": words < share[:, None]}


class Net(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = (2 * WIDTH, config.hidden, config.hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(wide, to), nn.GELU(), nn.Dropout(config.dropout))
            for wide, to in itertools.pairwise(widths)
        )
        self.head = nn.Linear(config.hidden, WIDTH)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, values, hidden):
        x = torch.cat([values.masked_fill(hidden, 0.0), hidden.to(values)], dim=1)
        for block in self.blocks:
            x = block(x)
        return (self.head(x) - values)[hidden]


class Projected(Recipe):
    Config = Config

    def make_data(self, path):
        if path is not None:
            raise UserError(f"--data: {path}: projected makes its own")
        if os.environ.get("SIGNAL_AT") == "data":
            signal.raise_signal(signal.SIGTERM)
        return Rows(self.config)

    def make_model(self, data):
        return Net(self.config)

    def loss(self, model, batch):
        errors = model(batch["values"], batch["hidden"])
        squares, count = errors.square(), errors.numel()
        metrics = {"within_half": ((errors.detach().abs() < 0.5).sum(), count)}
        if not self.config.terms:
            return Loss(squares.sum(), count, metrics)
        rows = len(batch["values"])
        return Loss(torch.stack([squares.sum(), 0.1 * squares.sum()]), torch.tensor([count, rows]), metrics)

    def after_step(self, model, step):
        model.calls += 1
        if step + 1 == self.config.ruin:
            model.head.bias.fill_(torch.inf)
        at, _, number = os.environ.get("SIGNAL_AT", "0:0").partition(":")  # a step and a signal's number
        if step == int(at) and os.environ.get("RANK", "1") == "1":
            (os.killpg if "SIGNAL_GROUP" in os.environ else os.kill)(os.getpid(), int(number))

    def evaluate(self, model, data, rows):
        self.say(f"calls: {int(model.calls)}")
        return {"calls": int(model.calls)}
