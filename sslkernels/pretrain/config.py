"""Configuration of a run: frozen dataclasses with typed key=value overrides, saved as JSON."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

T = TypeVar("T")


class UserError(ValueError):
    """What the user can mend: said in one line on stderr, exit status 2, no traceback."""


class RankError(UserError):
    """One that the other ranks may not meet: whoever meets it says it."""


def key(default: T, text: str) -> T:
    """A configuration key with the sentence that `--help` shows beside it."""
    return field(default=default, metadata={"text": text})


@dataclass(frozen=True)
class TrainConfig:
    """The keys of every recipe; a recipe's own Config adds to them and changes defaults."""

    steps: int = key(1000, "optimizer steps")
    batch_size: int = key(64, "samples a step, over all ranks and accumulation parts")
    accumulation: int = key(1, "parts that a step's batch is cut into, one after the other")
    lr: float = key(1e-3, "highest learning rate")
    warmup: int = key(50, "steps of linear warm-up; a cosine follows")
    min_lr: float = key(0.0, "learning rate of the last step, as a share of lr")
    weight_decay: float = key(0.01, "AdamW's, on matrices only")
    clip: float = key(1.0, "largest norm of the gradient; 0: none")
    precision: Literal["fp32", "bf16"] = key("fp32", "bf16: autocast")
    seed: int = key(0, "of initial weights, order, masks and dropout")
    log_every: int = key(10, "steps between two lines of metrics.jsonl")
    checkpoint_every: int = key(200, "steps between two checkpoints; 0: only the last")
    keep: int = key(0, "checkpoints kept; 0: all")
    workers: int = key(0, "processes a rank that prepare batches; 0: none")
    parallel: Literal["ddp", "fsdp"] = key("ddp", "under torchrun")
    device: Literal["auto", "cpu", "cuda"] = key("auto", "auto: cuda where there is one")

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "log_every"):
            self.require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("warmup", "weight_decay", "clip", "checkpoint_every", "keep", "workers"):
            self.require(name, getattr(self, name) >= 0, "at least 0")
        for name in ("lr", "weight_decay", "clip"):
            self.require(name, math.isfinite(getattr(self, name)), "finite")
        self.require("lr", self.lr > 0, "above 0")
        self.require("min_lr", 0 <= self.min_lr <= 1, "in [0, 1]")
        self.require("seed", 0 <= self.seed < 2**63, "in [0, 2^63)")

    def require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise UserError(f"{name} is {getattr(self, name)}, must be {allowed}")


# What may change when a run goes on, because it does not change the numbers.
FREE = ("log_every", "checkpoint_every", "keep", "workers", "parallel")
SWITCHES = ("true", "yes", "on", "1", "false", "no", "off", "0")
# What config.json holds beside the keys.
RESERVED = {"recipe": str, "data": str | None, "data_sha256": str | None}

Config = TypeVar("Config", bound=TrainConfig)


def describe(config: type[TrainConfig]) -> list[str]:
    """`key=default` lines with their texts, in the order of the fields."""
    hints = typing.get_type_hints(config)
    lines = []
    for item in dataclasses.fields(config):
        text = _text(config, item.name)
        if typing.get_origin(hints[item.name]) is Literal:
            text = f"{'|'.join(map(str, typing.get_args(hints[item.name])))}; {text}"
        lines.append(f"  {item.name + '=' + _shown(item.default):<24} {text}".rstrip())
    return lines


def _text(config: type[TrainConfig], name: str) -> str:
    """The text of a key, also where a recipe only changed the default."""
    for base in config.__mro__:
        item = getattr(base, "__dataclass_fields__", {}).get(name)
        if item is not None and "text" in item.metadata:
            return item.metadata["text"]
    return ""


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def override(config: Config, assignments: Sequence[str]) -> Config:
    """`config` with each `key=value` in its place, converted to the key's type.

    Raises UserError naming the key that is unknown, has no value, or one of another type.
    """
    kind = type(config)
    hints = typing.get_type_hints(kind)
    values = OmegaConf.structured(config)
    OmegaConf.set_readonly(values, False)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if name not in hints:
            raise UserError(f"unknown key {name!r}{suggestion(name, hints)}")
        if not equals or not text:
            raise UserError(f"{name} has no value: write {name}=VALUE")
        null = _optional(hints[name]) and text in ("null", "none")
        try:
            if "${" in text:  # OmegaConf would look it up elsewhere, in the environment too
                raise ValidationError
            if hints[name] is bool and text.lower() not in SWITCHES:  # it takes any number for true
                raise ValidationError
            OmegaConf.update(values, name, None if null else text)
        except OmegaConfBaseException:
            raise UserError(f"{name} is {text!r}, must be {_kind(hints[name])}") from None
    return _built(kind, OmegaConf.to_container(values, resolve=False))


def _optional(hint: Any) -> bool:
    return typing.get_origin(hint) in (types.UnionType, typing.Union) and type(None) in typing.get_args(hint)


def _kind(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return " or ".join(map(str, typing.get_args(hint)))
    if _optional(hint):
        return " or ".join(_kind(each) for each in typing.get_args(hint))
    names = {int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _fits(hint: Any, value: Any) -> bool:
    """Whether `value`, read from JSON, is one that a key of this type holds."""
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if _optional(hint):
        return any(_fits(each, value) for each in typing.get_args(hint))
    return type(value) in ((int, float) if hint is float else (hint,))


def _built(kind: type[Config], values: Any) -> Config:
    try:
        return kind(**values)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from None


def suggestion(name: str, known: typing.Iterable[str]) -> str:
    """`; did you mean ...?` where a known name is close, else nothing."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


def write_whole(path: Path, text: str) -> None:
    """Write `path` in one move; raises UserError where it cannot be written, and what was there stays."""
    aside = path.with_name(path.name + ".tmp")
    try:
        aside.write_text(text)
        os.replace(aside, path)
    except OSError as error:  # a full disk's names no file
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None


def save(run: Path, recipe: str, config: TrainConfig, data: str | None, data_sha256: str | None) -> None:
    """Write `run`/config.json in one move."""
    content = {"recipe": recipe, "data": data, "data_sha256": data_sha256, **dataclasses.asdict(config)}
    write_whole(run / "config.json", json.dumps(content, indent=2) + "\n")


def load(run: Path) -> dict[str, Any]:
    """The content of `run`/config.json; raises UserError where there is none or it cannot be read."""
    try:
        content = json.loads((run / "config.json").read_text())
    except FileNotFoundError:
        raise UserError(f"{run} holds no run: it has no config.json") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{run / 'config.json'} cannot be read: {_first_line(error)}") from None
    if not isinstance(content, dict) or not all(
        name in content and _fits(hint, content[name]) for name, hint in RESERVED.items()
    ):
        raise UserError(f"{run / 'config.json'} is not the configuration of a run")
    return content


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def resumed(kind: type[Config], saved: Mapping[str, Any], assignments: Sequence[str]) -> Config:
    """The saved configuration with what may change changed; raises UserError naming what may not."""
    values = {name: value for name, value in saved.items() if name not in RESERVED}
    names = {item.name for item in dataclasses.fields(kind)}
    for name in values.keys() ^ names:
        where = "has no" if name in names else "has an unknown"
        raise UserError(f"the saved config.json {where} key {name!r}")
    hints = typing.get_type_hints(kind)
    for name, value in values.items():
        if not _fits(hints[name], value):
            raise UserError(f"the saved config.json: {name} is {value!r}, must be {_kind(hints[name])}")
    before = _built(kind, values)
    after = override(before, assignments)
    for item in dataclasses.fields(kind):
        old, new = getattr(before, item.name), getattr(after, item.name)
        if item.name == "steps" and new < old:
            raise UserError(f"steps is {new}, must be at least the saved {old}")
        if item.name not in (*FREE, "steps") and new != old:
            raise UserError(f"{item.name} is {_shown(new)}, but the run was started with {_shown(old)}")
    return after
