"""Checkpoints that are whole or do not count: written aside, summed, renamed, found again.

    step-N/
      __R_0.distcp, .metadata   model and optimizer (torch.distributed.checkpoint), for any number of ranks
      weights.safetensors       the model alone, for everyone else
      checksums.json            {"step": N, "files": {name: SHA-256}}
      complete                  the SHA-256 of checksums.json, written last
    latest                      the name of the newest folder

A folder comes into being by one rename of `step-N.tmp`; it counts only when `complete` and all sums agree.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.optim import Optimizer

from sslkernels.pretrain.config import UserError, write_whole
from sslkernels.pretrain.data import file_sha256
from sslkernels.pretrain.ranks import Ranks, one_line


def save(run: Path, step: int, model: nn.Module, optimizer: Optimizer, ranks: Ranks, keep: int = 0) -> None:
    """Write `run`/step-N, then move `latest`; keep the newest `keep` folders (0: all).

    Raises UserError where it cannot be written; what was there before stays whole.
    """
    aside = run / f"step-{step}.tmp"
    ranks.first(lambda: _empty_folder(aside))
    weights = whole_weights(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.save(_state(model, optimizer), checkpoint_id=aside, no_dist=not ranks.together)
    except (Exception, CheckpointException) as error:
        raise UserError(f"{aside} cannot be written: {_cause(error)}") from None
    ranks.first(lambda: _close(run, step, aside, weights, keep))


def _state(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    of_model, of_optimizer = get_state_dict(model, optimizer)
    return {"model": of_model, "optimizer": of_optimizer}


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """The unsharded state dict on the CPU, on rank 0 (elsewhere empty); every rank takes part."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_model_state_dict(model, options=options)


def _cause(error: BaseException) -> str:
    """A CheckpointException's first rank's reason in one line; of errors that follow an OSError, that one."""
    failures = getattr(error, "failures", None)
    if failures:
        error = next(iter(failures.values()))[0]
    before: BaseException | None = error
    while before is not None and not isinstance(before, OSError):
        before = before.__cause__ or before.__context__
    return one_line(before or error)


def _empty_folder(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()


def _close(run: Path, step: int, aside: Path, weights: dict[str, Any], keep: int) -> None:
    """Weights, sums, closing mark, rename, `latest`; then the folders that are no longer kept go."""
    # tied weights share memory and others lie transposed: the format has neither
    apart = {
        name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in weights.items()
    }
    try:
        save_file(apart, aside / "weights.safetensors")
    except SafetensorError as error:  # no OSError, on a full disk either
        raise UserError(f"{aside / 'weights.safetensors'} cannot be written: {one_line(error)}") from None
    files = {path.name: file_sha256(path) for path in sorted(aside.iterdir())}
    (aside / "checksums.json").write_text(json.dumps({"step": step, "files": files}, indent=2) + "\n")
    (aside / "complete").write_text(file_sha256(aside / "checksums.json") + "\n")
    for path in (*aside.iterdir(), aside):
        _to_disk(path)
    target = run / f"step-{step}"
    if target.exists():  # torn, or this run would not have come to write it
        shutil.rmtree(target)
    os.rename(aside, target)
    write_whole(run / "latest", target.name + "\n")
    _to_disk(run)
    up_to = [each for each in steps(run) if each <= step]  # a torn newer one must not push out this one
    for step_before in up_to[keep:] if keep else ():
        shutil.rmtree(run / f"step-{step_before}")
    for broken_off in run.glob("step-*.tmp"):
        shutil.rmtree(broken_off)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def steps(run: Path) -> list[int]:
    """The steps that have a folder, whole or torn, newest first."""
    found = (re.fullmatch(r"step-(\d+)", path.name) for path in run.iterdir() if path.is_dir())
    return sorted((int(match[1]) for match in found if match), reverse=True)


def fault(folder: Path) -> str | None:
    """Why a checkpoint does not count, or None where it is whole."""
    try:
        sums = folder / "checksums.json"
        if (folder / "complete").read_text().strip() != file_sha256(sums):
            return "checksums.json has changed"
        content = json.loads(sums.read_text())
        if folder.name != f"step-{content['step']}":
            return f"it is of step {content['step']}"
        for name, expected in content["files"].items():
            if file_sha256(folder / name) != expected:
                return f"{name} has changed"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except (OSError, ValueError, KeyError) as error:
        return one_line(error)
    return None


def newest(run: Path, say: Callable[[str], None]) -> int:
    """The step of the newest whole checkpoint, 0 where there is no folder; says which it left out.

    Raises UserError where there are folders and none is whole.
    """
    there = steps(run)
    for step in there:
        reason = fault(run / f"step-{step}")
        if reason is None:
            return step
        say(f"left out {run / f'step-{step}'}: {reason}")
    if there:
        raise UserError(f"no checkpoint in {run} is whole")
    return 0


def load(run: Path, step: int, model: nn.Module, optimizer: Optimizer, ranks: Ranks) -> None:
    """Load `run`/step-N into the model and the optimizer, whatever the ranks that wrote it."""
    folder = run / f"step-{step}"
    state = _state(model, optimizer)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.load(state, checkpoint_id=folder, no_dist=not ranks.together)
    except (Exception, CheckpointException) as error:
        raise UserError(f"{folder} does not fit this model: {_cause(error)}") from None
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
