"""Philox4x32-10 in torch, the twin of csrc/common/philox.h (Salmon et al., SC 2011).

    key     = philox4x32(key = seed (lo, hi); counter = (step lo, step hi, 0, 0))[0:2]
    counter = (position, purpose, sample id lo, sample id hi)

Words are int64 tensors with values in [0, 2^32). References draw from here; the native kernels draw
the same words. `PURPOSE` is frozen: what a draw is for, what a position is, and which word serves what.
"""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from sslkernels import _scalars

PURPOSE = SimpleNamespace(
    # masking
    select=1,  # (position // 4) word position % 4: is the unit that starts here selected?
    action=2,  # (position) word 0: mask, random or keep, for the unit that starts here;
    # (position * columns + column) word 1: random token; word 2: cluster
    top_up=3,  # (position // 4) word position % 4: rank of a unit when a row is topped up
    row_uniform=4,  # (0) word 0: the number of a row
    span_count=5,  # (0) word 0: rounds the number of spans; word 1: which span is the shortened one
    span_place=6,  # (i // 4) word i % 4: i-th step of a choice: starts; slots; cuts of what is kept, of noise
    span_length=7,  # (i // 4) word i % 4: length of the i-th span
    patch_rank=9,  # (view * ceil(patches / 4) + patch // 4) word patch % 4: rank of a patch in a view
    patch_shape=10,  # (view * patches + rectangle) word 0: area, 1: aspect, 2: its patch, 3: order
    patch_place=11,  # (view * patches + rectangle) word 0: row of its patch, 1: column
    sample_token=13,  # (0) words 0 and 1, low and high: block of 256 columns; 2 and 3: column in it
    # eulerian
    walk_edge=256,  # (position // 4) word position % 4: place of edge k (2 k, 2 k + 1), arc k (k)
    walk_start=257,  # (component) word 0: start, 1: direction, 2: order; 3 of the first: scan
    reindex=258,  # (position // 4) word position % 4: id of the position-th node met
    reindex_offset=259,  # (0) word 0: first id of a cyclic renumbering
    # pretrain (drawn in Python only)
    epoch_order=1024,  # (round) words 0 and 1: key of a round, low and high; step: epoch
    part_seed=1025,  # (0) words 0 and 1: torch's seed for a part of a step; sample: the part's number
)

_LOW = 0xFFFFFFFF
_MULTIPLY_0, _MULTIPLY_1 = 0xD2511F53, 0xCD9E8D57
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85


def _high_low(product: Any) -> tuple[Any, Any]:
    """The halves of an unsigned 64-bit product that lies in an int64 (>> keeps the sign: mask it)."""
    return (product >> 32) & _LOW, product & _LOW


def philox4x32(key: tuple[int, int], counter: tuple[Any, Any, Any, Any]) -> tuple[Any, ...]:
    """Ten rounds over int64 tensors of 32-bit words, which broadcast together, or over plain ints."""
    k0, k1 = key
    c0, c1, c2, c3 = counter
    for _ in range(10):
        high0, low0 = _high_low(c0 * _MULTIPLY_0)
        high1, low1 = _high_low(c2 * _MULTIPLY_1)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL_0) & _LOW, (k1 + _WEYL_1) & _LOW
    return c0, c1, c2, c3


def stream_key(seed: int, step: int) -> tuple[int, int]:
    """The key of a call, from its seed and step in [0, 2^63)."""
    mixed: tuple[Any, ...] = philox4x32((seed & _LOW, seed >> 32), (step & _LOW, step >> 32, 0, 0))
    return mixed[0], mixed[1]


def signed_key(seed: int, step: int) -> tuple[int, int]:
    """The key's words as int32, so that the signature of a Triton kernel does not depend on their values."""
    low, high = stream_key(seed, step)
    return (low ^ 1 << 31) - (1 << 31), (high ^ 1 << 31) - (1 << 31)


def check_stream(seed: int, step: int) -> None:
    """A stream needs a seed and a step in [0, 2^63)."""
    for name, value in (("seed", seed), ("step", step)):
        if value < 0:
            raise ValueError(f"{name} must lie in [0, 2^63), got {value}")


def draw(key: tuple[int, int], sample: Tensor, purpose: int, position: Tensor) -> tuple[Tensor, ...]:
    """Four words at each of the broadcast (sample, position); sample ids are any 64 bits."""
    low, high = sample & _LOW, (sample >> 32) & _LOW
    return philox4x32(key, (position & _LOW, torch.full_like(low, purpose), low, high))


def draw_word(key: tuple[int, int], sample: Tensor, purpose: int, position: Tensor) -> Tensor:
    """One word a position, four positions to a call: word `position % 4` of draw(position // 4)."""
    words = torch.stack(torch.broadcast_tensors(*draw(key, sample, purpose, position >> 2)), dim=-1)
    return words.gather(-1, (position & 3).expand(words.shape[:-1]).unsqueeze(-1)).squeeze(-1)


def bounded(word: Tensor, n: int | Tensor) -> Tensor:
    """An integer in [0, n), n < 2^31: (word * n) >> 32."""
    return (word * n) >> 32


def require_seed(function: str, seed: int | None, step: int) -> int:
    """`seed`, or a ValueError that names it where a function draws without one; `step` is checked too.

    In a traced graph neither is known yet, and the kernel checks them.
    """
    if seed is not None and torch.compiler.is_compiling():
        return seed
    return _scalars.require_seed(function, seed, step)[0]


def fresh_seed() -> int:
    """A seed from torch's default generator, for a module that was given none; works in a compiled graph."""
    like = torch.empty((), dtype=torch.int64)
    return torch.ops.sslkernels.fresh_seed(like) if torch.compiler.is_compiling() else _fresh_seed(like)


def _fresh_seed(like: Tensor) -> int:
    return int(torch.empty_like(like).random_())


# In a traced graph the seed is an integer not known yet: reading it from a tensor would break the graph.
_library = torch.library.Library("sslkernels", "FRAGMENT")
_library.define("fresh_seed(Tensor like) -> SymInt", tags=(torch.Tag.nondeterministic_seeded,))
_library.impl("fresh_seed", _fresh_seed, "CompositeExplicitAutograd")
torch.library.register_fake(
    "sslkernels::fresh_seed", lambda like: torch.library.get_ctx().new_dynamic_size(), lib=_library
)


def own_samples(batch: int, device: torch.device) -> Tensor | None:
    """Sample ids of a module that was given none: ranks of a running process group number theirs apart."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    return torch.arange(batch, device=device) + (torch.distributed.get_rank() << 32)
