"""The command line of `python -m sslkernels.pretrain`: arguments, the run directory, exit status."""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import math
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

try:
    from sslkernels.pretrain import config as configuration
    from sslkernels.pretrain import recipes
    from sslkernels.pretrain.config import RankError, UserError
    from sslkernels.pretrain.stop import Stopped, StopRequest
except ModuleNotFoundError as error:
    print(f"error: {error.name} is not installed: pip install 'sslkernels[pretrain]'", file=sys.stderr)
    sys.exit(2)

if TYPE_CHECKING:
    from sslkernels.pretrain.ranks import Ranks
    from sslkernels.pretrain.recipe import Recipe

USAGE = "python -m sslkernels.pretrain RECIPE [key=value ...] [--data PATH] [--out DIR] [--resume DIR]"
OLDEST_TORCH = (2, 10)
OPTIONAL = ("torch", "safetensors", "matplotlib", "rich", "rdkit", "tokenizers")
Saved = dict[str, Any] | None  # config.json of the run that goes on


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 for what the user can mend, 128 + signal."""
    with StopRequest() as stop:
        try:
            return _command(_parse(sys.argv[1:] if arguments is None else arguments), stop)
        except UserError as error:
            return _complain(str(error), alone=isinstance(error, RankError))
        except Stopped as stopped:
            return _complain(f"stopped by {stopped} before the run began", 128 + stopped.signal)
        except OSError as error:
            return _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except ImportError as error:
            if error.name in OPTIONAL:
                return _complain(f"{error.name} is not installed: pip install 'sslkernels[pretrain]'")
            if error.name is None:  # raised by us, with the cure
                return _complain(str(error))
            raise


def _complain(text: str, status: int = 2, alone: bool = False) -> int:
    """One line on stderr, once a machine: every rank meets the same error, unless it stands `alone`."""
    if alone or "RANK" not in os.environ or os.environ.get("LOCAL_RANK", "0") == "0":
        print("error:", " ".join(text.split()), file=sys.stderr, flush=True)
    return status


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("words", nargs="*")
    for name in ("--data", "--out", "--resume"):
        parser.add_argument(name, type=Path)
    for names in (["--list"], ["--help", "-h"]):
        parser.add_argument(*names, action="store_true")
    return parser.parse_intermixed_args(arguments)


def _command(options: argparse.Namespace, stop: StopRequest) -> int:
    if options.list:
        for name in recipes.names():
            print(f"{name:<16} {recipes.summary(name)}")
        return 0
    if not options.words or "=" in options.words[0]:
        if options.help and not options.words:
            print(f"usage: {USAGE}\n\n--list names the recipes; RECIPE --help lists a recipe's keys.")
            return 0
        raise UserError(f"no recipe is named: {USAGE}")
    name, *assignments = options.words
    _require_torch()
    kind = recipes.load(name)
    if options.help:
        print(f"usage: {USAGE}\n\nKeys of {name}, with their defaults:")
        print(*configuration.describe(kind.Config), sep="\n")
        return 0
    return _run(name, kind, assignments, options, stop)


def _require_torch() -> None:
    # Threads that spin while they wait take the cores from one another where other programs run: a step then
    # took ten times as long. OpenMP reads this when torch loads it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        version = importlib.import_module("torch").__version__
    except ModuleNotFoundError:
        raise UserError("torch is not installed: pip install 'torch>=2.10'") from None
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_TORCH:
        raise UserError(f"torch is {version}, must be 2.10 or newer")


def _run(
    name: str, kind: type[Recipe], assignments: Sequence[str], options: argparse.Namespace, stop: StopRequest
) -> int:
    from sslkernels.pretrain.ranks import Ranks

    if options.resume is not None:
        if options.out is not None:
            raise UserError("--out cannot be given with --resume, which goes on in its own folder")
        saved = configuration.load(options.resume)
        if saved["recipe"] != _full_name(name):
            raise UserError(f"{options.resume} is a run of {saved['recipe']}, not of {name}")
        config = configuration.resumed(kind.Config, saved, assignments)
    else:
        saved = None
        config = configuration.override(kind.Config(), assignments)
        _refuse_used(options.out)
    if config.accumulation > 1 and not kind.accumulates:
        raise UserError(
            f"accumulation is {config.accumulation}, must be 1: {name} compares a batch's samples"
        )
    ranks = Ranks.start(config)
    job = Job(name, kind(config, ranks.say), ranks, options, saved)
    try:
        status, failure = job.do(stop), None
    except (UserError, OSError, MemoryError, RuntimeError) as error:
        failure = _explained(error)
        if failure is None:
            raise
    except Stopped as stopped:
        if job.run is None:
            raise
        ranks.say(f"stopped by {stopped}; go on with: {job.resume_line()}")
        status, failure = 128 + stopped.signal, None
    # Not in the handler: the traceback there holds the model, which has to go before the process group.
    ranks.end()
    if failure is not None:
        raise failure
    return status


def _explained(error: Exception) -> UserError | None:
    """What the user is told; None where it is a fault of the program."""
    import torch

    from sslkernels.pretrain.ranks import one_line

    text = one_line(error)
    if isinstance(error, RankError):
        return RankError(text)
    if isinstance(error, (UserError, OSError)):
        return UserError(text)
    allocation = ("can't allocate memory", "Storage size calculation overflowed")  # of torch on the CPU
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(each in text for each in allocation):
        return RankError(f"out of memory; a smaller batch or network needs less: {text}")
    if "DataLoader worker" in text:
        return RankError(f"a worker ended, maybe for want of memory: {text}")
    if isinstance(error, torch.distributed.DistError) or "Connection closed by peer" in text:
        return RankError(f"another rank ended: {text}")
    return None


def _full_name(name: str) -> str:
    """A recipe's name from anywhere: of a file its absolute path."""
    return str(Path(name).resolve()) if name.endswith(".py") else name


def _refuse_used(folder: Path | None) -> None:
    """Raises UserError where `folder` holds a run: nothing is ever written over."""
    names = {path.name for path in folder.iterdir()} if folder is not None and folder.is_dir() else set()
    if any(name in ("config.json", "metrics.jsonl") or name.startswith("step-") for name in names):
        raise UserError(f"{folder} holds a run already: go on with --resume, or choose another --out")


class Job:
    """One run: its folder, its data, training, and the figures after it."""

    def __init__(
        self, name: str, recipe: Recipe, ranks: Ranks, options: argparse.Namespace, saved: Saved
    ) -> None:
        self.name, self.recipe, self.ranks = name, recipe, ranks
        self.options, self.saved, self.config = options, saved, recipe.config
        self.run: Path | None = None  # the run directory, once it is this run's
        recipe.resumed = options.resume

    def do(self, stop: StopRequest) -> int:
        from sslkernels.pretrain.loop import train

        _deterministic()
        data = self._data()
        run, first = self.ranks.first(lambda: self._folder(data))
        self.run = run
        self.ranks.say(f"run directory: {run}")
        if first == self.config.steps and self.ranks.first((run / "results.json").exists):
            self.ranks.say(f"finished: all {self.config.steps} steps are done\nrun directory: {run}")
            return 0
        self.ranks.say(f"going on from step {first}" if self.saved else f"{len(data)} samples")
        if first < self.config.steps:
            self.ranks.first(lambda: (run / "results.json").unlink(missing_ok=True))  # a shorter run's
        model = train(self.recipe, data, self.ranks, run, first, stop)
        stop.answer_at_once()  # all is saved
        self._results(run, model, data)
        self.ranks.say(f"run directory: {run}")
        return 0

    def _data(self) -> Any:
        """The recipe's data; on resume from the same bytes as before."""
        from sslkernels.pretrain.data import checksum

        before = self.saved["data"] if self.saved else None
        path = self.options.data or (Path(before) if before and Path(before).exists() else None)
        path = path or self.recipe.default_data()
        self.path = path.resolve() if path is not None else None
        self.sha256 = checksum(self.path) if self.path is not None else self.recipe.default_sha256()
        if self.saved is not None and self.saved["data_sha256"] != self.sha256:
            if before and not self.options.data and not Path(before).exists():
                raise UserError(f"{before}, the data of the run, is gone: name a copy with --data")
            now, then = path or "what the recipe reads here", before or "what it read there"
            raise UserError(f"--data: {now} does not hold what the run was started with ({then})")
        data = self.recipe.make_data(self.path)
        if not len(data):
            raise UserError("the data hold no sample")
        return data

    def _folder(self, data: Any) -> tuple[Path, int]:
        """The run directory with its config.json, made or taken up, and the step to go on from."""
        from sslkernels.pretrain import checkpoint

        run = self.options.resume or self.options.out or _free(Path("runs"), Path(self.name).stem)
        run, first = Path(run).resolve(), 0
        if self.saved is None:
            _refuse_used(run)
        else:
            first = checkpoint.newest(run, self.ranks.say)
        if self.path is not None and run.is_relative_to(self.path):
            raise UserError(f"--data: {self.path} would hold the run itself, {run}: choose another --out")
        if first > self.config.steps:
            raise UserError(f"steps is {self.config.steps}, but {run} has a checkpoint of step {first}")
        run.mkdir(parents=True, exist_ok=True)
        if self.saved is None:
            self.recipe.save_beside(run, data)  # before config.json: with it the run can go on
        path = str(self.path) if self.path is not None else None
        configuration.save(run, _full_name(self.name), self.config, path, self.sha256)
        return run, first

    def resume_line(self) -> str:
        return shlex.join(["python", "-m", "sslkernels.pretrain", self.name, "--resume", str(self.run)])

    def _results(self, run: Path, model: Any, data: Any) -> None:
        """Evaluate with whole weights on rank 0 and write results.json."""
        import torch

        from sslkernels.pretrain import checkpoint
        from sslkernels.pretrain.log import read_rows

        weights = checkpoint.whole_weights(model)
        if self.ranks.rank:
            return
        whole = self.recipe.make_model(data)
        whole.load_state_dict(weights)
        torch.manual_seed(self.config.seed)
        figures = self.recipe.evaluate(whole.to(self.ranks.device).eval(), data, read_rows(run))
        strict = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        configuration.write_whole(run / "results.json", json.dumps(strict, indent=2) + "\n")
        self.ranks.say(f"curves: {run / 'curves.png'}")


def _free(parent: Path, name: str) -> Path:
    """`parent`/name-<time>, with a number behind it where that is taken."""
    first = parent / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    others = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    return next(run for run in itertools.chain([first], others) if not run.exists())


def _deterministic() -> None:
    """The same numbers at every repeat: without it, resuming would only come close."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # what use_deterministic_algorithms() does, without its import of the compiler (3 s)
    torch.set_deterministic_debug_mode("warn" if torch.cuda.is_available() else "error")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
