"""Text for recipes: files that are none, a tokenizer that is the same everywhere, rows that lose nothing."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
import torch

from sslkernels.pretrain import text
from sslkernels.pretrain.clusters import token_clusters
from sslkernels.pretrain.config import UserError
from sslkernels.pretrain.text import (
    MASK,
    PAD,
    Document,
    Rows,
    comments_and_topics,
    interpreter_text,
    load_tokenizer,
    read_text,
    sha256,
    train_tokenizer,
)

from .runs import ROOT


@pytest.fixture
def said():
    return []


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def contents(path, said):
    return [each.text for each in read_text(path, said.append)]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "One.\r\nTwo.\n", ["One.\nTwo.\n"]),
        ("a.txt", "\ufeffOne.", ["One."]),
        ("noending", "One.", ["One."]),
        ("a.txt.gz", "One.", ["One."]),
        ("a.jsonl", '{"text": "One."}\n\n{"text": "Two\\n", "id": 2}', ["One.", "Two\n"]),
        ("a.JSONL.gz", '{"text": "One."}\n', ["One."]),
        ("a.jsonl", '{"text": "Grüße, 世界 🙂"}\n', ["Grüße, 世界 🙂"]),
    ],
)
def test_files(tmp_path, said, name, content, expected):
    assert contents(write(tmp_path / name, content), said) == expected
    assert said == []


@pytest.mark.parametrize(
    "line",
    [
        *(
            "{",
            "[]",
            "1",
            "null",
            '"text"',
            '{"txt": "a"}',
            '{"text": 1}',
            '{"text": null}',
            '{"text": ["a"]}',
        ),
        *('{"text": ""}', '{"text": " \\n"}', '{"text": "\\ud800"}', "[" * 100_000, "1" * 5000, "NaN"),
    ],
)
def test_lines_without_text_are_counted_and_named(tmp_path, said, line):
    path = write(tmp_path / "a.jsonl", f'{{"text": "One."}}\n{line}\n{{"text": "Two."}}\n')
    assert contents(path, said) == ["One.", "Two."]
    assert ["a.jsonl: line 2: no text" in said[0], "1 of 3 lines" in said[1], len(said)] == [True, True, 2]
    with pytest.raises(UserError, match=r"a\.jsonl"):
        read_text(write(tmp_path / "a.jsonl", line), said.append)


def test_a_byte_that_is_no_utf_8_costs_its_line_alone(tmp_path, said):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "One."}\n{"text": "Caf\xe9"}\n{"text": "Two."}\n')
    assert contents(path, said) == ["One.", "Two."]
    assert "a.jsonl: line 2: no text" in said[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("a.txt", b""), ("a.txt", b" \n\t"), ("a.txt", b"\xff\xfea"), ("a.txt", b"a\0b"), ("a.jsonl", b"")),
        *(("a.jsonl", b"\xff"), ("b/.hidden", b"One."), ("b/c.png", b"\x89PNG\r\n\x1a\n\0")),
    ],
)
def test_what_holds_no_text_is_named(tmp_path, said, name, content):
    write(tmp_path / name, content)
    path = tmp_path / name.partition("/")[0]
    with pytest.raises(UserError, match=path.name) as raised:
        read_text(path, said.append)
    assert "\n" not in str(raised.value)


def test_a_torn_archive_and_a_missing_file(tmp_path, said):
    torn = tmp_path / "a.txt.gz"
    torn.write_bytes(gzip.compress(b"One. " * 999, mtime=0)[:-9])
    for path in (torn, tmp_path / "nowhere.txt"):
        with pytest.raises(UserError, match=path.name):
            read_text(path, said.append)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path, said):
    for name, content in {
        "b.txt": "third",
        "a/z.txt": "second",
        "a/a.jsonl": '{"text": "first"}\n',
        "c/.git/config": "hidden",
        ".hidden": "hidden",
        "picture.png": b"\x89PNG\0",
        "zz.txt": "",
        "none.txt": b"\xff\xff",
    }.items():
        write(tmp_path / name, content)
    documents = read_text(tmp_path, said.append)
    assert [each.text for each in documents] == ["first", "second", "third"]
    assert [each.name for each in documents] == ["a/a.jsonl", "a/z.txt", "b.txt"]
    assert said == ["2 of 6 files are no text: left out, the first is none.txt"]


def test_the_interpreters_own_text():
    documents = interpreter_text()
    names = [each.name for each in documents]
    assert names[0].startswith("topic ")
    assert {"argparse.py", "topic if"} <= set(names)
    assert sum(len(each.text) for each in documents) > 3_000_000
    lines, positive = comments_and_topics(400)
    assert len(lines) == len(set(lines)) == 400
    assert int(positive.sum()) == 200
    assert all(len(line) >= 30 and not line.startswith(("#", " ")) for _, line in lines)
    assert all(name.endswith(".py") == bool(kind) for (name, _), kind in zip(lines, positive, strict=True))


def test_sums_tell_documents_apart():
    pairs = [("a", "bc"), ("ab", "c"), ("a", "b"), ("a", "b\n")]
    sums = [sha256([Document(*pair)]) for pair in pairs]
    sums += [sha256([]), sha256([Document("a", "b"), Document("", "")])]
    assert len(set(sums)) == len(sums)


ENGLISH = (
    "The quick brown fox, it's said, jumps over the lazy dog; def f(x):\n    return x  # twice [MASK] [PAD]\n"
)


def documents():
    return [Document("a", ENGLISH * 20), Document("b", "Grüße 世界 🙂\n" * 5), *interpreter_text()[:4]]


def test_the_same_tokenizer_in_every_process(tmp_path):
    """Its hash maps are seeded anew in every process."""
    script = (
        "from sslkernels.pretrain.text import *\n"
        "import hashlib\n"
        "text = train_tokenizer(interpreter_text()[:40], 1500).to_str()\n"
        "print(hashlib.sha256(text.encode()).hexdigest())\n"
    )
    command = [sys.executable, "-c", script]
    found = {subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout for _ in range(3)}
    assert len(found) == 1


def test_saved_and_loaded_it_is_the_same(tmp_path):
    tokenizer = train_tokenizer(documents(), 600)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), "utf-8")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    ours, theirs = (Rows.of(documents(), each, 50) for each in (tokenizer, loaded))
    for name in ("tokens", "words", "ptr", "document"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name


@pytest.mark.parametrize("piece", [7, 100, 1 << 20])
def test_rows_lose_nothing(piece, monkeypatch):
    monkeypatch.setattr(text, "PIECE", piece)
    tokenizer = train_tokenizer(documents(), 600)
    assert tokenizer.get_vocab_size() <= 600
    rows = Rows.of(documents(), tokenizer, 50)
    ids, words = rows.padded(np.arange(len(rows)))
    assert ids.shape == words.shape == (len(rows), 50)
    assert torch.equal(ids == PAD, words == -1)
    assert not (ids == MASK).any()  # the six characters of "[MASK]" are text
    for place, document in enumerate(documents()):
        of_document = np.flatnonzero(rows.document == place)
        first, last = rows.ptr[of_document[0]], rows.ptr[of_document[-1] + 1]
        assert tokenizer.decode(rows.tokens[first:last].tolist()) == document.text
        steps = np.diff(rows.words[first:last])
        assert set(np.unique(steps)) <= {0, 1}  # a new piece's words go on from the last one's


def test_words_are_those_of_the_tokenizer():
    tokenizer = train_tokenizer([Document("a", "abc " * 50)], 300)
    rows = Rows.of([Document("a", "zebra-crossing, twice")], tokenizer, 99)
    by_word = [
        tokenizer.decode(rows.tokens[rows.words == number].tolist()) for number in range(rows.words.max() + 1)
    ]
    assert by_word == ["zebra", "-", "crossing", ",", " twice"]


def test_a_word_without_end_is_cut():
    """As one word, these 100,000 letters took minutes."""
    letters = "".join(map(chr, np.random.default_rng(0).integers(97, 107, 100_000)))
    tokenizer = train_tokenizer([Document("a", letters)], 600)
    rows = Rows.of([Document("a", letters)], tokenizer, 64)
    assert tokenizer.decode(rows.tokens.tolist()) == letters
    assert np.bincount(rows.words).max() <= 100


def test_the_width_of_a_batch_is_that_of_its_longest_row():
    tokenizer = train_tokenizer([Document("a", "one two three")], 300)
    rows = Rows.of([Document("a", "ab"), Document("b", "abcdefgh"), Document("c", "")], tokenizer, 5)
    assert rows.document.tolist() == [0, 1, 1]
    assert rows.padded(np.array([0]))[0].shape == (1, 2)
    assert rows.padded(np.array([2, 1]))[0].shape == (2, 5)
    assert rows.padded(np.array([], dtype=np.int64))[0].shape == (0, 1)


def test_clusters_hold_words_of_one_kind():
    generator = np.random.default_rng(0)
    left, right = generator.integers(0, 10, 5000), generator.integers(10, 20, 5000)
    tokens = np.stack([left, right], 1).ravel().astype(np.int32)
    cluster = token_clusters(tokens, 25, 2)
    assert cluster.shape == (25,)
    assert len(set(cluster[:10])) == len(set(cluster[10:20])) == 1
    assert cluster[0] != cluster[10]
    assert np.array_equal(cluster, token_clusters(tokens, 25, 2))
    assert token_clusters(tokens[:1], 25, 25).max() < 25
    assert token_clusters(tokens[:0], 25, 3).tolist() == [0] * 25
