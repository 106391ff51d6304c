"""What one paper adds to the loop: a configuration, data, a model and a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import Tensor, nn

from sslkernels.pretrain.config import TrainConfig


class Data(Protocol):
    """Samples by number. `batch` runs in a loader's worker and keeps no state between calls."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, epoch: int) -> Any:
        """The samples `indices` (int64, maybe none) in `epoch`: tensors in tuples, lists or dicts.

        Whatever is random is a function of the seed, `epoch` and the sample's number alone.
        """


@dataclass(frozen=True)
class Loss:
    """One part's loss as sums, so that the loop can divide once by the count over all ranks and parts.

    `sum` and `count` are 0-d, or (terms,) where several losses with counts of their own add up
    (weights included in `sum`); several terms need accumulation=1. A loss that already is the mean over
    the global batch (contrastive losses with a process group) has count 1 on every rank.
    `metrics`: name -> (sum, count), logged as their ratio over all ranks and parts; the same names always.
    """

    sum: Tensor
    count: Tensor | float
    metrics: Mapping[str, tuple[Tensor | float, Tensor | float]] = field(default_factory=dict)


class Recipe:
    """A recipe is one file with one subclass of this; its docstring's first line is what `--list` shows.

    Whatever must survive a checkpoint (a momentum teacher, a queue, counts) is a submodule or a buffer of
    the model. A batch may hold no sample: `loss` then takes part in every collective and returns sums of
    zero that still depend on the parameters.
    """

    Config: ClassVar[type[TrainConfig]] = TrainConfig
    accumulates: ClassVar[bool] = True  # False where negatives come from the batch: they do not add up
    resumed: Path | None = None  # the directory of the run that goes on, known before `make_data`

    def __init__(self, config: Any, say: Any = print) -> None:
        self.config = config
        self.say = say  # prints a line for the user, on rank 0 alone

    def default_data(self) -> Path | None:
        """The file or folder used without --data; None where the data come from elsewhere."""
        return None

    def default_sha256(self) -> str | None:
        """Of the data used where there is no path at all; None where they cannot change between two runs."""
        return None

    def make_data(self, path: Path | None) -> Data:
        """Raises UserError where `path` cannot be read or holds no usable sample."""
        raise NotImplementedError

    def save_beside(self, run: Path, data: Data) -> None:
        """Write what `make_data` must find again (a tokenizer) into a new run's directory, on rank 0."""

    def make_model(self, data: Data) -> nn.Module:
        """The same weights on every rank: torch's generator has just been seeded."""
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: Any) -> Loss:
        """Calls `model` itself, never a submodule or a weight of it: those may be sharded."""
        raise NotImplementedError

    def after_step(self, model: nn.Module, step: int) -> None:
        """What follows an optimizer step, without gradients: a momentum teacher's update."""

    def evaluate(self, model: nn.Module, data: Data, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Figures after the last step, for results.json: rank 0 alone, whole weights, eval mode.

        One that is not finite becomes null. `rows` are those of metrics.jsonl, maybe none. torch's generator
        has just been seeded: `make_model` gives the network as it was before training.
        """
        return {}
