"""Text for recipes: documents of files or of the interpreter itself, a byte-level BPE, rows of tokens."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sslkernels.pretrain.config import UserError
from sslkernels.pretrain.lines import BadLines, kind, opened

# Its threads are not in the copies that a loader forks, and one thread gives the same tokenizer everywhere.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

PAD, MASK = 0, 1
SPECIAL = ("[PAD]", "[MASK]")
PIECE = 1 << 20  # characters tokenized at a time


class Document(NamedTuple):
    name: str
    text: str


@functools.lru_cache(maxsize=1)
def interpreter_text() -> tuple[Document, ...]:
    """What every Python brings along: its documentation topics and its standard library's top-level modules.

    About 5 million characters of English and code, sorted by name; another Python version has others.
    """
    from pydoc_data.topics import topics

    folder = Path(sysconfig.get_path("stdlib"))
    sources = sorted(path for path in folder.glob("*.py") if path.is_file())
    modules = [Document(path.name, path.read_text("utf-8", errors="replace")) for path in sources]
    return (*(Document(f"topic {name}", topics[name]) for name in sorted(topics)), *modules)


def comments_and_topics(size: int) -> tuple[list[Document], Tensor]:
    """At most `size` lines of English, and bool: half of them are comments in the standard library (True).

    The other half is from the documentation topics. Lines of 30 characters and more, without what marks a
    comment, are taken at even distances.
    """
    comments: list[Document] = []
    topics: list[Document] = []
    for name, text in interpreter_text():
        for line in map(str.strip, text.splitlines()):
            kept = line.strip("# ") if line.startswith("#") else line
            if len(kept) >= 30 and line.startswith("#") == (not name.startswith("topic ")):
                (topics if name.startswith("topic ") else comments).append(Document(name, kept))
    chosen = [each for lines in (comments, topics) for each in _spaced(list(dict.fromkeys(lines)), size // 2)]
    return chosen, torch.tensor([not name.startswith("topic ") for name, _ in chosen], dtype=torch.bool)


def _spaced(lines: list[Document], most: int) -> list[Document]:
    return [lines[place * len(lines) // most] for place in range(most)] if len(lines) > most else lines


def sha256(documents: Sequence[Document]) -> str:
    total = hashlib.sha256()
    for part in (part.encode() for document in documents for part in document):
        total.update(b"%d\n" % len(part) + part)
    return total.hexdigest()


def read_text(path: Path, say: Callable[[str], None]) -> list[Document]:
    """The documents of a text file (one), a JSONL file (one a line, field "text") or a folder of such files.

    UTF-8; a name that ends in .gz is unpacked. A folder's files are sorted by their paths, hidden ones left
    out; those that are no text are counted and said. Raises UserError where nothing can be read.
    """
    documents = _folder(path, say) if path.is_dir() else list(_file(path, say))
    if not documents:
        raise UserError(f"{path}: holds no text")
    return documents


def _folder(folder: Path, say: Callable[[str], None]) -> list[Document]:
    files = sorted(
        (path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file()
    )
    seen = [(name, path) for name, path in files if not any(part[0] == "." for part in name.split("/"))]
    documents: list[Document] = []
    refused: list[str] = []
    for name, path in seen:
        try:
            documents += [Document(name, text) for _, text in _file(path, say)]
        except UserError:
            refused.append(name)
    if refused:
        say(f"{len(refused)} of {len(seen)} files are no text: left out, the first is {refused[0]}")
    return documents


def _file(path: Path, say: Callable[[str], None]) -> Iterator[Document]:
    by_line = kind(path) == "jsonl"
    with opened(path, "surrogateescape" if by_line else "strict") as file:
        if by_line:  # a byte that is no UTF-8 costs its line alone
            yield from _records(path, file, say)
            return
        text = file.read()
    if "\0" in text:
        raise UserError(f"{path}: is no text file")
    if text.strip():
        yield Document(path.name, text.replace("\r\n", "\n"))


def _records(path: Path, lines: Iterator[str], say: Callable[[str], None]) -> Iterator[Document]:
    bad, number = BadLines("text", lambda line: say(f"{path.name}: {line}")), 0
    for number, line in enumerate(lines, 1):
        text = _field(line)
        if text is not None:
            yield Document(f"{path.name}:{number}", text)
        elif line.strip():
            bad.add(number, line.strip())
    bad.close(number)


def _field(line: str) -> str | None:
    """The field "text" of a JSON object; None where there is none, it is blank, or no UTF-8 can hold it."""
    try:
        text = json.loads(line)["text"]
        text.encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return text if text.strip() else None


def train_tokenizer(documents: Sequence[Document], vocab_size: int) -> Tokenizer:
    """A byte-level BPE of at most `vocab_size` ids; [PAD] is 0 and [MASK] 1, whatever the text says."""
    tokenizer = Tokenizer(models.BPE())
    # Merging inside one word takes time that grows with its square: runs like base64 are cut.
    cut = pre_tokenizers.Split(Regex(r"\S{100}"), "isolated")
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, words])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((piece for each in documents for piece in _pieces(each.text)), trainer)
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer that a run has saved; raises UserError where the file is none of them."""
    try:
        tokenizer = Tokenizer.from_str(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except Exception as error:  # the package raises nothing more special
        raise UserError(f"{path} is no tokenizer: {error}") from None
    if tuple(map(tokenizer.id_to_token, (PAD, MASK))) != SPECIAL:
        raise UserError(f"{path} is another tokenizer: ids 0 and 1 must be {' and '.join(SPECIAL)}")
    return tokenizer


def _pieces(text: str) -> Iterator[str]:
    """`text` in parts that end with a line where they can."""
    first = 0
    while first < len(text):
        last = len(text) if len(text) - first <= PIECE else text.rfind("\n", first, first + PIECE) + 1
        last = last if last > first else first + PIECE
        yield text[first:last]
        first = last


@dataclass
class Rows:
    """Documents as rows of at most `max_tokens` tokens, T tokens in all, N rows one after another."""

    tokens: np.ndarray  # int32 (T,)
    words: np.ndarray  # int32 (T,): the number of each token's word in its document
    ptr: np.ndarray  # int64 (N+1,)
    document: np.ndarray  # int64 (N,): the place of each row's document in their list

    def __len__(self) -> int:
        return len(self.document)

    @classmethod
    def of(cls, documents: Sequence[Document], tokenizer: Tokenizer, max_tokens: int) -> Rows:
        """Cut each document into rows of `max_tokens` tokens and a shorter last one; about 8 us a token."""
        tokenizer.encode_special_tokens = True  # "[MASK]" in a text is six characters, not the token
        tokens: list[np.ndarray] = []
        words: list[np.ndarray] = []
        starts: list[int] = []
        document: list[int] = []
        total = 0
        for place, each in enumerate(documents):
            length = 0
            for piece in _pieces(each.text):
                encoding = tokenizer.encode(piece, add_special_tokens=False)
                before = words[-1][-1] + 1 if length else 0
                tokens.append(np.array(encoding.ids, dtype=np.int32))
                words.append(np.array(encoding.word_ids, dtype=np.int32) + before)
                length += len(encoding.ids)
            starts += range(total, total + length, max_tokens)
            document += [place] * -(-length // max_tokens)
            total += length
        ptr = np.array([*starts, total], dtype=np.int64)
        return cls(np.concatenate(tokens), np.concatenate(words), ptr, np.array(document, dtype=np.int64))

    def padded(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Tokens and words of the rows `indices`, int64 (B, L), as wide as the longest; then PAD and -1."""
        starts, lengths = self.ptr[indices], np.diff(self.ptr)[indices]
        behind = np.arange(lengths.max(initial=1)) >= lengths[:, None]
        places = np.where(behind, 0, starts[:, None] + np.arange(behind.shape[1]))
        columns = ((self.tokens, PAD), (self.words, -1))
        tokens, words = (np.where(behind, fill, each[places]).astype(np.int64) for each, fill in columns)
        return torch.from_numpy(tokens), torch.from_numpy(words)
