"""Batches as a function of (seed, global step): the order of an epoch, a rank's share, the loader, files."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sslkernels._random import PURPOSE, draw, stream_key
from sslkernels.pretrain.config import UserError
from sslkernels.pretrain.recipe import Data

ROUNDS = 6


def permuted(positions: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """Where a permutation of range(`size`), another for each (seed, epoch), sends `positions`.

    A Feistel network over the next power of four, walked until inside the range (Black and Rogaway,
    "Ciphers with arbitrary finite domains", 2002): no table, and any place of any epoch at once.
    """
    half = np.uint64(max((size - 1).bit_length() + 1, 2) // 2)
    keys = _round_keys(seed, epoch)
    result = positions.astype(np.uint64)
    outside = np.ones(result.shape, bool)
    while outside.any():
        result[outside] = _feistel(result[outside], half, keys)
        outside = result >= size
    return result.astype(np.int64)


def _feistel(value: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = value >> half, value & mask
    for round_key in keys:
        left, right = right, left ^ (_mixed(right ^ round_key) & mask)
    return (left << half) | right


def _mixed(word: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014, variant 13)."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@functools.lru_cache(maxsize=4)
def _round_keys(seed: int, epoch: int) -> np.ndarray:
    low, high, *_ = draw(stream_key(seed, epoch), torch.tensor(0), PURPOSE.epoch_order, torch.arange(ROUNDS))
    return (low + (high << 32)).numpy().view(np.uint64)


def part_seed(seed: int, step: int, number: int) -> int:
    """The seed that torch's generators get before part `number` of a step (dropout)."""
    zero = torch.tensor(0)
    low, high, *_ = draw(stream_key(seed, step), zero + number, PURPOSE.part_seed, zero)
    return int(low) + ((int(high) & 0x7FFFFFFF) << 32)


@dataclass(frozen=True)
class Plan:
    """Which samples a step takes, and which of them a rank takes in each accumulation part."""

    size: int
    batch_size: int
    seed: int
    accumulation: int = 1
    rank: int = 0
    world: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """The last, short batch of an epoch counts."""
        return -(-self.size // self.batch_size)

    def epoch(self, step: int) -> int:
        return step // self.steps_per_epoch

    def samples(self, step: int) -> np.ndarray:
        """The global batch of a step, int64, in its order; each sample once an epoch."""
        first = step % self.steps_per_epoch * self.batch_size
        places = np.arange(first, first + self.count(step))
        return permuted(places, self.size, self.seed, self.epoch(step))

    def count(self, step: int) -> int:
        """How many samples the global batch of a step has."""
        return min(self.batch_size, self.size - step % self.steps_per_epoch * self.batch_size)

    def seen(self, step: int) -> int:
        """How many samples the steps up to and with this one have taken."""
        before = step % self.steps_per_epoch * self.batch_size
        return self.epoch(step) * self.size + before + self.count(step)

    def share(self, step: int, part: int) -> np.ndarray:
        """This rank's samples of one part: a contiguous slice, maybe empty."""
        slices = np.array_split(self.samples(step), self.accumulation * self.world)
        return slices[part * self.world + self.rank]


class _Shares(Dataset):
    """What the loader's workers run: (step, part) -> the recipe's batch."""

    def __init__(self, data: Data, plan: Plan) -> None:
        self.data, self.plan = data, plan

    def __getitem__(self, place: tuple[int, int]) -> Any:
        step, part = place
        return self.data.batch(self.plan.share(step, part), self.plan.epoch(step))


class _Places(Sampler):
    """(step, part) of every part of `steps`, in order."""

    def __init__(self, steps: range, parts: int) -> None:
        self.steps, self.parts = steps, parts

    def __len__(self) -> int:
        return len(self.steps) * self.parts

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((step, part) for step in self.steps for part in range(self.parts))


@contextlib.contextmanager
def batches(data: Data, plan: Plan, steps: range, workers: int, pin: bool = False) -> Iterator[Iterator[Any]]:
    """The parts of `steps` one after the other; `workers` changes the time this takes and nothing else.

    The workers have ended when this is left: a loader that an exception keeps alive would otherwise keep
    them, and Python, which sends them a signal that they ignore, would wait for them for ever.
    """
    parts = iter(
        DataLoader(
            _Shares(data, plan),
            batch_size=None,
            sampler=_Places(steps, plan.accumulation),
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,  # a recipe's file is no module to import
            collate_fn=_as_it_is,
            pin_memory=pin,
            worker_init_fn=_worker,
        )
    )
    try:
        yield parts
    finally:
        if workers:
            parts._shutdown_workers()  # type: ignore[attr-defined]


def _as_it_is(batch: Any) -> Any:
    return batch


def _worker(_: int) -> None:
    """A signal to the whole process group is the main process's to answer, after its step."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Arrays:
    """Samples held as tensors with one row each; a batch is a dict of the rows and `index`."""

    def __init__(self, **columns: Tensor) -> None:
        sizes = {name: len(column) for name, column in columns.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"columns have different lengths: {sizes}")
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def batch(self, indices: np.ndarray, epoch: int) -> dict[str, Tensor]:
        index = torch.from_numpy(indices)
        return {"index": index, **{name: column[index] for name, column in self.columns.items()}}


def checksum(path: Path) -> str:
    """SHA-256 of a file; of a folder: of its files' names and contents, sorted by name.

    Raises UserError where it cannot be read, or only once (a pipe).
    """
    total = hashlib.sha256()
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UserError(f"{path} is neither a file nor a folder")
        if not path.is_dir():
            return file_sha256(path)
        for each in sorted(p for p in path.rglob("*") if p.is_file()):
            total.update(f"{each.relative_to(path).as_posix()}\n{file_sha256(each)}\n".encode())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    return total.hexdigest()


def file_sha256(path: Path | str | os.PathLike[str]) -> str:
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()
