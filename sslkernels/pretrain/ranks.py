"""The processes of a run: one, or those that torchrun started; what they share and agree on."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from sslkernels.pretrain.config import TrainConfig, UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among the `world` processes of a run."""

    rank: int
    world: int
    device: torch.device
    owns_group: bool  # started the process group, so ends it

    @classmethod
    def start(cls, config: TrainConfig) -> Ranks:
        """Join torchrun's process group (nccl on cuda, gloo on cpu), or stand alone."""
        device = _device(config)
        if dist.is_initialized():
            dist.barrier()  # what every rank has looked at in the run directory, rank 0 may now change
            return cls(dist.get_rank(), dist.get_world_size(), device, owns_group=False)
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return cls(0, 1, device, owns_group=False)
        try:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except (RuntimeError, ValueError) as error:
            raise UserError(f"the ranks do not meet: {one_line(error)}") from None
        return cls(dist.get_rank(), dist.get_world_size(), device, owns_group=True)

    def end(self) -> None:
        """Leave the process group, when nothing else holds the model any more.

        DistributedDataParallel's reducer keeps the group too. Freed after it, it would end gloo's threads
        while it holds the interpreter lock that they wait for.
        """
        gc.collect()
        if self.owns_group and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def together(self) -> bool:
        return dist.is_initialized()

    def say(self, *text: object) -> None:
        """Print a line for the user, once whatever the number of ranks."""
        if self.rank == 0:
            print(*text, flush=True)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks, on every rank, in place."""
        if self.together:
            dist.all_reduce(values)
        return values

    def first(self, action: Callable[..., T], *arguments: Any) -> T:
        """What `action` gives on rank 0, on every rank; a UserError or OSError there is raised on all."""
        result: list[Any] = [None, None]
        if self.rank == 0:
            try:
                result[0] = action(*arguments)
            except (UserError, OSError) as error:
                result[1] = UserError(one_line(error))
        if self.together:
            dist.broadcast_object_list(result, src=0, device=self.device)
        if result[1] is not None:
            raise result[1]
        return result[0]

    def spread(self, model: nn.Module, parallel: str) -> nn.Module:
        """The module whose call runs forward: itself, in DistributedDataParallel, or sharded (FSDP2)."""
        if not self.together:
            return model
        if parallel == "ddp":
            ids = [self.device.index] if self.device.type == "cuda" else None
            return DistributedDataParallel(model, device_ids=ids)
        mesh = init_device_mesh(self.device.type, (self.world,))
        for block in _blocks(model):
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)  # in place
        return model

    @contextlib.contextmanager
    def accumulating(self, model: nn.Module, last: bool) -> Iterator[None]:
        """Gradients meet those of the other ranks at the last part of a step only."""
        if isinstance(model, FSDPModule):
            model.set_requires_gradient_sync(last)
        hold = not last and isinstance(model, DistributedDataParallel)
        with model.no_sync() if hold else contextlib.nullcontext():  # type: ignore[operator]
            yield


def _device(config: TrainConfig) -> torch.device:
    there = torch.cuda.is_available()
    if config.device == "cuda" and not there:
        raise UserError("device is cuda, but torch finds no CUDA device here")
    if config.device == "cpu" or not there:
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", 0))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", local + 1))  # so that every rank, the first too, says it
    if here > torch.cuda.device_count():
        raise UserError(f"more ranks here than CUDA devices ({torch.cuda.device_count()})")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def _blocks(model: nn.Module) -> Sequence[nn.Module]:
    """What is sharded and gathered as one: every element of a ModuleList."""
    return [block for module in model.modules() if isinstance(module, nn.ModuleList) for block in module]


def bare(model: nn.Module) -> nn.Module:
    """The recipe's own module inside what `spread` returned."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def one_line(error: BaseException) -> str:
    """An error's first line; an OSError's with its file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if "in DataLoader worker process" in lines[0]:  # the worker's traceback follows, and behind it its error
        name = type(error).__name__
        raised = (line.partition(": ") for line in lines)
        return next((text for kind, _, text in raised if kind.rpartition(".")[2] == name), lines[0])
    return lines[0]
