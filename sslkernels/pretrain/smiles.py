"""Molecules for recipes: SMILES files, graphs held compactly, the NCI molecules that come with RDKit."""

from __future__ import annotations

import csv
import io
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sslkernels.eulerian import GraphBatch
from sslkernels.molecules import parse_smiles
from sslkernels.pretrain.config import UserError
from sslkernels.pretrain.lines import BadLines, kind, opened

CHUNK = 1024  # lines parsed at a time


def nci_smiles() -> Path:
    """4,999 molecules of the National Cancer Institute, in RDKit's wheel; RDKit reads 4,991 of them."""
    return _nci("first_5K.smi")


def nci_tpsa() -> np.ndarray:
    """The topological polar surface area of each line of `nci_smiles`, in square angstrom, float64."""
    lines = _nci("first_5k.tpsa.csv").read_text().splitlines()
    return np.array([float(line.rpartition(",")[2]) for line in lines if not line.startswith("#")])


def _nci(name: str) -> Path:
    from rdkit import RDConfig

    return Path(RDConfig.RDDataDir, "NCI", name)


def read_smiles(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, SMILES) of a .smi or .csv file, either also .gz; "" where a row has none.

    .smi: the first word of each line that is not empty. .csv, .tsv: the column whose name is or holds
    "smiles". Bytes that are no UTF-8 come as surrogates, which are no SMILES. Raises UserError where the
    file cannot be read, is no text or has no such column.
    """
    with opened(path, errors="surrogateescape") as file:
        lines = _text(path, file)
        yield from _columns(path, lines, kind(path)) if kind(path) in ("csv", "tsv") else _words(lines)


def _text(path: Path, file: io.TextIOBase) -> Iterator[str]:
    """The lines of a file. A zero byte tells what is no text, UTF-16 too, from a line with a bad byte."""
    for number, line in enumerate(file, 1):
        if "\0" in line:
            raise UserError(f"{path}: no text in UTF-8: line {number} holds a zero byte")
        yield line


def _words(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, line.split()[0]


def _columns(path: Path, lines: Iterator[str], ending: str) -> Iterator[tuple[int, str]]:
    reader = csv.reader(lines, delimiter="\t" if ending == "tsv" else ",")
    rows = (row for row in reader if len(row) > 1 or (row and row[0].strip()))  # blank lines are no rows
    header = [name.strip() for name in next(rows, [])]
    lower = [name.lower() for name in header]
    named = [place for place, name in enumerate(lower) if name == "smiles"]
    named = named or [place for place, name in enumerate(lower) if "smiles" in name]
    if len(named) != 1:
        raise UserError(f"{path}: {len(named)} columns are named after SMILES: {', '.join(header) or 'none'}")
    for row in rows:
        yield reader.line_num, row[named[0]].strip() if named[0] < len(row) else ""


@dataclass
class Molecules:
    """Graphs of M molecules, a byte a feature: N atoms and E columns one after another."""

    line: np.ndarray  # int64 (M,): where each stood in its file, from 1
    node_ptr: np.ndarray  # int64 (M+1,)
    edge_ptr: np.ndarray  # int64 (M+1,)
    edge_index: np.ndarray  # int32 (2, E), atoms of their molecule
    x: np.ndarray  # uint8 (N, 9)
    edge_attr: np.ndarray  # uint8 (E, 3)

    def __len__(self) -> int:
        return len(self.node_ptr) - 1

    @classmethod
    def read(
        cls, path: Path, largest: int, say: Callable[[str], None], workers: int = 0, limit: int = 0
    ) -> Molecules:
        """The molecules of a file that have at most `largest` atoms, the first `limit` of them (0: all).

        Says which lines are no molecules. Raises UserError where the file cannot be read or none is one.
        About 150 us a molecule, in `workers` processes where there are any.
        """
        numbers: list[int] = []
        kept: list[tuple[np.ndarray, ...]] = []
        report, count, above = BadLines("molecule", say), 0, 0
        for lines, graphs in _parsed(path, workers):
            for (number, smiles), graph in zip(lines, graphs, strict=True):
                if graph is None:
                    report.add(number, smiles)
                elif len(graph[1]) > largest:
                    above += 1
                elif not limit or len(kept) < limit:
                    kept.append(graph)
                    numbers.append(number)
            count += len(lines)
            if limit and len(kept) >= limit:
                break
        report.close(count)
        if above:
            say(f"{above} molecules have more than {largest} atoms: left out")
        if not kept:
            raise UserError(f"{path}: none of {count} lines is a molecule of at most {largest} atoms")
        return cls.of(numbers, kept)

    @classmethod
    def of(cls, lines: list[int], graphs: list[tuple[np.ndarray, ...]]) -> Molecules:
        """From the line and (edge_index, x, edge_attr) of each molecule."""
        edge_index, x, edge_attr = zip(*graphs, strict=True)
        atoms, columns = [len(each) for each in x], [len(each) for each in edge_attr]
        return cls(
            np.array(lines, dtype=np.int64),
            np.concatenate([[0], np.cumsum(atoms)]),
            np.concatenate([[0], np.cumsum(columns)]),
            np.concatenate(edge_index, axis=1, dtype=np.int32),
            np.concatenate(x, dtype=np.uint8),
            np.concatenate(edge_attr, dtype=np.uint8),
        )

    def graphs(self, indices: np.ndarray) -> GraphBatch:
        """The molecules `indices` as one batch."""
        nodes, graph_ptr = _gathered(self.node_ptr, indices)
        columns, column_ptr = _gathered(self.edge_ptr, indices)
        shift = np.repeat(graph_ptr[:-1], np.diff(column_ptr))
        return GraphBatch(
            torch.from_numpy(self.edge_index[:, columns] + shift),
            torch.from_numpy(graph_ptr),
            torch.from_numpy(self.x[nodes].astype(np.int64)),
            torch.from_numpy(self.edge_attr[columns].astype(np.int64)),
        )


def _gathered(ptr: np.ndarray, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of the entries of `segments`, and the ptr of their concatenation."""
    lengths = ptr[segments + 1] - ptr[segments]
    result = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(result[-1]) + np.repeat(ptr[segments] - result[:-1], lengths)
    return places, result


Line = tuple[int, str]
Graph = tuple[np.ndarray, ...] | None


def _parsed(path: Path, workers: int) -> Iterator[tuple[list[Line], list[Graph]]]:
    """Chunks of lines with their graphs, in the order of the file."""
    chunks = _chunks(path)
    if not workers:
        yield from map(_parse, chunks)
        return
    with multiprocessing.get_context("fork").Pool(workers, _plain_signals) as pool:
        yield from pool.imap(_parse, chunks)


def _plain_signals() -> None:
    """A worker ends by the pool's SIGTERM; a terminal's SIGINT is the main process's to answer."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _chunks(path: Path) -> Iterator[list[Line]]:
    chunk: list[Line] = []
    for line in read_smiles(path):
        chunk.append(line)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _parse(lines: list[Line]) -> tuple[list[Line], list[Graph]]:
    kinds = (np.int32, np.uint8, np.uint8)
    # RDKit passes over bytes beyond ASCII
    graphs = parse_smiles([smiles if smiles.isascii() else "" for _, smiles in lines])
    compact = [g and tuple(part.astype(kind) for part, kind in zip(g, kinds, strict=True)) for g in graphs]
    return lines, compact
