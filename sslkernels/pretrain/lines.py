"""Files of lines, plain or gzipped: opened, their errors in one line, their bad lines counted."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from sslkernels.pretrain.config import UserError

SHOWN = 20  # bad lines that are shown one by one


@contextlib.contextmanager
def opened(path: Path, errors: str = "strict") -> Iterator[io.TextIOBase]:
    """The text of `path`, UTF-8, .gz too; whatever cannot be read is a UserError that names the file.

    `errors` says what becomes of bytes that are no UTF-8, as in `bytes.decode`.
    """
    try:
        with _open(path, errors) as file:
            yield file
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: {reason}") from None


def _open(path: Path, errors: str) -> io.TextIOBase:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors=errors, newline="")
    return path.open(encoding="utf-8-sig", errors=errors, newline="")


def kind(path: Path) -> str:
    """The ending of a file's name, in lower case and without .gz: csv, smi, jsonl."""
    return path.name.lower().removesuffix(".gz").rpartition(".")[2]


class BadLines:
    """Says which lines are not `what`: the first ones one by one, then their number."""

    def __init__(self, what: str, say: Callable[[str], None]) -> None:
        self.what, self.say, self.count = what, say, 0

    def add(self, number: int, content: str) -> None:
        self.count += 1
        if self.count <= SHOWN:
            self.say(f"line {number}: no {self.what}: {content[:60]!a}")
        elif self.count == SHOWN + 1:
            self.say("further lines like these are only counted")

    def close(self, lines: int) -> None:
        if self.count:
            self.say(f"{self.count} of {lines} lines are no {self.what}s: left out")
