"""What a run writes and shows: metrics.jsonl, curves.png, TensorBoard, a progress bar or plain lines."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from sslkernels.pretrain.config import UserError, write_whole

Row = dict[str, Any]
PLACES = ("step", "epoch", "samples")  # where a row stands; the rest are curves
ALWAYS = ("loss", "lr", "samples_per_second")  # numbers in every row
REDRAW = 20.0  # seconds between two pictures


def read_rows(run: Path, last: int | None = None) -> list[Row]:
    """The rows of metrics.jsonl up to step `last`, each step once; a line that is none is passed over."""
    rows: list[Row] = []
    try:
        lines = (run / "metrics.jsonl").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        row = _row(line)
        if row and (last is None or row["step"] <= last) and (not rows or row["step"] > rows[-1]["step"]):
            rows.append(row)
    return rows


def _row(line: str) -> Row | None:
    """The row that a line holds, of numbers or null; None where it is torn or something else."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    if not all(_is_number(row.get(name)) for name in ALWAYS):
        return None
    return row if all(value is None or _is_number(value) for value in row.values()) else None


def _is_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


class Log:
    """Context that writes the rows of a run from step `first` on; every method is for rank 0 alone."""

    def __init__(self, run: Path, first: int, steps: int) -> None:
        _figure(1, 1)  # without matplotlib it ends here, not after hours
        self.run, self.steps = run, steps
        self.rows = read_rows(run, first)
        write_whole(run / "metrics.jsonl", "".join(_json(row) for row in self.rows))
        self.file = (run / "metrics.jsonl").open("ab", buffering=0)  # a row is on disk before the next
        self.board = _tensorboard(run, first)
        self.drawn = time.monotonic()
        self.progress: Progress = _Bar(first, steps) if sys.stdout.isatty() else _Lines(steps)

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.close()
        self.file.close()
        if self.board is not None:
            self.board.close()
        if kind is not None:
            with contextlib.suppress(UserError):  # what ended the run is what is said
                self.draw()

    def row(self, values: Mapping[str, float]) -> None:
        """One line of strict JSON; what is not finite is null."""
        row = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.rows.append(row)
        line = _json(row).encode()
        try:
            while line:  # the end of a disk may take a part of it
                line = line[self.file.write(line) :]
        except OSError as error:
            raise UserError(f"{self.run / 'metrics.jsonl'} cannot be written: {error.strerror}") from None
        if self.board is not None:
            for name in row.keys() - set(PLACES):
                if row[name] is not None:
                    self.board.add_scalar(name, row[name], row["step"])
        self.progress.show(row)

    def save(self) -> None:
        """Before a checkpoint counts, the rows up to it are on disk; now and then the picture follows."""
        os.fsync(self.file.fileno())
        if time.monotonic() - self.drawn > REDRAW:
            self.draw()

    def draw(self) -> None:
        draw_curves(self.rows, self.run / "curves.png")
        self.drawn = time.monotonic()


def _json(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


class Progress(Protocol):
    def show(self, row: Row) -> None: ...
    def step(self, step: int) -> None: ...
    def close(self) -> None: ...


class _Lines:
    """For files and pipes: a line each logged step."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def show(self, row: Row) -> None:
        print(f"step {row['step']}/{self.steps} loss {row['loss']:.6g}", flush=True)

    def step(self, step: int) -> None:
        pass

    def close(self) -> None:
        pass


class _Bar:
    """For terminals: a bar with the loss, samples a second and the time left."""

    def __init__(self, first: int, steps: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn())
        figures = (TextColumn("loss {task.fields[loss]}"), TextColumn("{task.fields[rate]} samples/s"))
        self.bar = Progress(*columns, *figures, TimeRemainingColumn(), TextColumn("left"))
        self.task = self.bar.add_task("", total=steps, completed=first, loss="-", rate="-")
        self.bar.start()

    def show(self, row: Row) -> None:
        figures = {"loss": f"{row['loss']:.4g}", "rate": f"{row['samples_per_second']:.0f}"}
        self.bar.update(self.task, **figures)  # type: ignore[arg-type]

    def step(self, step: int) -> None:
        self.bar.update(self.task, completed=step)

    def close(self) -> None:
        self.bar.stop()


def _tensorboard(run: Path, first: int) -> Any:
    """A writer into `run`/tensorboard where TensorBoard is installed, else None."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(run / "tensorboard"), purge_step=first + 1)


def _figure(width: float, height: float) -> Any:
    """A matplotlib figure that needs no display, no home and no valid MPLBACKEND."""
    os.environ["MPLBACKEND"] = "Agg"
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it makes do with a temporary cache by itself
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def draw_curves(rows: list[Row], path: Path) -> None:
    """A panel each for the loss and whatever else the rows hold, over steps; nothing without rows.

    Raises UserError where `path` cannot be written.
    """
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in PLACES]
    if not names:
        return
    columns = min(len(names), 3)
    height = -(-len(names) // columns)
    figure = _figure(4 * columns, 2.6 * height)
    for place, name in enumerate(names):
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        axes = figure.add_subplot(height, columns, place + 1)
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else "", linewidth=1)
        axes.set_title(name.replace("_", " "), fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    figure.subplots_adjust(0.06, 0.2 / height, 0.98, 1 - 0.12 / height, wspace=0.25, hspace=0.5)
    aside = path.with_name(path.name + ".tmp")
    try:
        figure.savefig(aside, format="png", dpi=110)
        os.replace(aside, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
