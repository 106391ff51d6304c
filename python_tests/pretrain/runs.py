"""Runs of the trainer for its tests: where things are, what a run wrote, a run in its own process."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401
import torch
import torch._dynamo

import sslkernels.pretrain.loop  # noqa: F401
from sslkernels.pretrain.cli import main

with contextlib.suppress(ImportError):
    import torch.utils.tensorboard

ROOT = Path(__file__).parents[2]
RECIPE = str(Path(__file__).parent / "projected.py")


class Result(NamedTuple):
    status: int
    out: str
    err: str


def rows(run):
    """metrics.jsonl, read strictly: a NaN or Infinity in it fails."""

    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    with (run / "metrics.jsonl").open() as file:
        return [json.loads(line, parse_constant=refuse) for line in file]


def losses(run):
    return {row["step"]: row["loss"] for row in rows(run)}


def forked(*arguments, cwd, **environment):
    """The same in a copy of this process that a signal may end, without the seconds of its imports."""
    return _ended(_fork(arguments, cwd, environment), cwd)


def forked_ranks(*arguments, cwd, world=2, **environment):
    """The same on several gloo ranks; the results rank by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    for rank in range(world):
        (cwd / f"rank{rank}").mkdir(exist_ok=True)
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world), **environment}
    places = [{**meet, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]
    pids = [_fork(arguments, cwd / f"rank{rank}", places[rank]) for rank in range(world)]
    return [_ended(pid, cwd / f"rank{rank}") for rank, pid in enumerate(pids)]


def _fork(arguments, cwd, environment):
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        torch.set_num_threads(1)  # the threads of OpenMP's pool are not in the copy: waiting for them hangs
        os.chdir(cwd)
        os.setsid()
        os.environ.update(environment)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        status = main([str(word) for word in arguments])
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _ended(pid, cwd, timeout=180):
    end = time.monotonic() + timeout
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)  # a test that hangs says so: its status is -9
        time.sleep(0.02)
    status = ended[1]
    return Result(
        os.waitstatus_to_exitcode(status), *(Path(cwd, name).read_text() for name in ("out", "err"))
    )


def spawn(*arguments, cwd, timeout=120, module=("-m", "sslkernels.pretrain"), **environment):
    """The same in a process of its own, for signals and environments."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    variables = {name: value for name, value in variables.items() if value is not None}
    done = subprocess.run(
        [sys.executable, *module, *map(str, arguments)],
        cwd=cwd,
        env=variables,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return Result(done.returncode, done.stdout, done.stderr)
