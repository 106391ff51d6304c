"""What a CPU kernel refuses by itself: called through torch's dispatcher, past every check in Python.

So are the values of a compiled or exported program. One line that names the argument, and nothing written.
"""

from typing import Any

import pytest
import torch

import sslkernels
from sslkernels import _op, _problem

_op.declare_all()

SOFTMAX = "segment_softmax n=37 d=5 segments=11 dtype=fp32"
TOKENS = "corrupt_tokens b=4 l=33"
WORDS = "corrupt_tokens b=7 l=19 groups=words rate=0.3 least=2"
WALKS = "serialize graphs=9 nodes=4 edges=3 seed=3"
ENCODED = "encode_tokens graphs=7 steps=13 stacked=true direction=true"
REFUSED = [
    (ENCODED, "ids", lambda ids: ids + (1 << 20), r"ids\[0\] is 1048\d+, outside \[0, \d+\)"),
    (ENCODED, "nodes", torch.zeros_like, r"edges\[\d+\] is \d+, which does not join nodes"),
    (SOFTMAX, "x", lambda x: x.long(), "x must be float32, float64, float16 or bfloat16"),
    (SOFTMAX, "ptr", lambda ptr: ptr.float(), "ptr must be int32 or int64"),
    (SOFTMAX, "ptr", lambda ptr: ptr - 1, r"ptr\[0\] is -1"),
    (TOKENS, "labels", lambda _: "none", "labels must be original, selected or changed, got 'none'"),
    (TOKENS, "vocab_size", lambda _: 1 << 31, r"vocab_size must lie in \[0, 2\^31\).* got 2147483648"),
    (TOKENS, "special_ids", lambda _: list(range(5000)), "special_ids must leave an id"),
    (
        TOKENS,
        "sample_ids",
        lambda _: torch.arange(3),
        r"sample_ids must have one entry a sample \(B=4\), got 3",
    ),
    (WORDS, "groups", lambda groups: groups[:, :-1], "groups must have 19 columns, got 18"),
    (WALKS, "graph_ptr", lambda ptr: ptr + (1 << 30) * (ptr == ptr[-1]), "at most 1073741823 are allowed"),
    (
        "reindex graphs=3 nodes=9 edges=8 scope=9 mode=cyclic",
        "mode",
        lambda _: "none",
        "mode must be .* got none",
    ),
]


@pytest.mark.parametrize(
    ("line", "name", "change", "message"),
    REFUSED,
    ids=[f"{line.split()[0]} {name} {at}" for at, (line, name, *_) in enumerate(REFUSED)],
)
def test_refused(line: str, name: str, change: Any, message: str) -> None:
    op, args = _problem.inputs(line)
    at = op.arguments.index(name)
    changed = (*args[:at], change(args[at]), *args[at + 1 :])
    with sslkernels.use("cpu"), pytest.raises(ValueError, match=message) as error:
        op.overload(*changed)
    assert "\n" not in str(error.value)
