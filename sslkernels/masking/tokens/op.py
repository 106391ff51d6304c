"""corrupt_tokens: the one operator behind MLM, whole-word, RTS, C-RTS, SLM, ELECTRA and node-tied masking."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from sslkernels._op import Op
from sslkernels._random import check_stream, require_seed
from sslkernels._scalars import as_int
from sslkernels.masking.results import Corruption
from sslkernels.masking.tokens import arguments, reference
from sslkernels.masking.tokens.checks import check

_LARGEST_ID = {torch.int32: 0x7FFFFFFF, torch.int64: 2**63 - 1}

_corrupt = Op(
    "corrupt_tokens(Tensor ids, Tensor? ptr, Tensor? sample_ids, SymInt limit, Tensor? row_limit, "
    "SymInt mask_limit, SymInt random_limit, SymInt mask_id, SymInt vocab_size, int[] special_ids, "
    "Tensor? maskable, Tensor? groups, Tensor? cluster_of, Tensor? cluster_tokens, Tensor? cluster_ptr, "
    "Tensor? cluster_limits, str labels, bool exclude_original, SymInt min_selected, "
    "Tensor? row_min_selected, SymInt ignore_index, SymInt capacity, SymInt seed, SymInt step) -> "
    "(Tensor found, Tensor scored, Tensor selected, Tensor? positions, Tensor? counts)",
    # Without ptr a row of ids is a sample of W tokens; with it a row is one token of W stacked columns.
    shapes="ids: N W int; ptr: B+1 int64?; sample_ids: S int64?; row_limit: R int64?; maskable: N W bool?; "
    "groups: N G int?; cluster_of: V int32?; cluster_tokens: V int32?; cluster_ptr: C+1 int32?; "
    "cluster_limits: C C int64?; row_min_selected: M int64?",
    reference=reference.corrupt_tokens,
    fake=reference.fake,
    check=check,
    triton=True,
)

_row_uniform = Op(
    "row_uniform(Tensor sample_ids, SymInt seed, SymInt step) -> Tensor",
    shapes="sample_ids: B int64",
    reference=reference.row_uniform,
    fake=lambda sample_ids, seed, step: torch.empty_like(sample_ids, dtype=torch.float32),
    check=lambda sample_ids, seed, step: check_stream(seed, step),
    triton=True,
)


def corrupt_tokens(
    ids: Tensor,
    *,
    ptr: Tensor | None = None,
    rate: float | Tensor = 0.15,
    mix: Sequence[float] = (0.8, 0.1, 0.1),
    mask_id: int | None = None,
    vocab_size: int | None = None,
    special_ids: Iterable[int] = (),
    maskable: Tensor | None = None,
    groups: Tensor | None = None,
    clusters: Any = None,
    labels: str = "original",
    exclude_original: bool = False,
    min_selected: int | Tensor = 0,
    ignore_index: int = -100,
    capacity: int | None = None,
    seed: int | None = None,
    step: int = 0,
    sample_ids: Tensor | None = None,
) -> Corruption:
    """Choose tokens at random and mask, replace or keep them; never modifies its input.

    ids           int32 or int64 (B, L); or packed, with ptr int64 (B+1,): (T,), or (T, F) for stacked
                  tokens. Positions count inside the sample: a segment is masked as it would be alone.
                  Stacked: a row is eligible if any of its columns is; it is selected as one, and its eligible
                  columns change; counts, positions and min_selected count rows.
    rate          share of the eligible units that is selected, each by its own draw: float, or float (B,)
    mix           shares of the selected: replaced by mask_id, replaced by a random id, kept
    maskable      bool, like ids: what is eligible; without it, what is not in special_ids
    groups        integers, (B, L) or (T,), labels only: eligible tokens of a sample with the same group >= 0
                  are one unit, selected together and with one action (a random id is drawn for each token);
                  a token of a negative group is eligible but never selected
    vocab_size    random ids are uniform over [0, vocab_size) without special_ids, and with exclude_original
                  without the token itself (which stays where there is no other); ids outside it raise,
                  special ones excepted
    clusters      TokenClusters: a random id comes from a cluster drawn for the token's own cluster
    labels        "original": the input id where selected; "selected": 1 where selected, else 0 where
                  eligible; "changed": 1 where the id really changed, else 0 where eligible; elsewhere
                  ignore_index
    min_selected  int, or int (B,): a sample that selected fewer units is topped up to this many, uniformly,
                  as far as its eligible units go
    capacity      list the first so many selected positions of each sample

    Raises ValueError or TypeError that names the argument: shapes, dtypes and shares; ids outside the
    vocabulary; a malformed ptr; no id left to draw. One pass over the ids: of int64, 8 bytes a token are read
    and 17 written.

    Sources: BERT (Devlin et al., 2019), section 3.1; ELECTRA (Clark et al., 2020), section 2; RTS, C-RTS and
    SLM (Di Liello et al., Findings of EMNLP 2022).
    """
    arguments.check_shapes(ids, ptr, maskable, groups, Tensor)
    largest_id = _LARGEST_ID.get(ids.dtype)
    if largest_id is None:
        raise ValueError(f"ids must be int32 or int64, got {str(ids.dtype).removeprefix('torch.')}")
    traced = torch.compiler.is_compiling()
    plan = (arguments.plan if traced else arguments.plan_once)(
        mix,
        mask_id,
        vocab_size,
        special_ids,
        labels,
        ignore_index,
        capacity,
        arguments.vocabulary_of(clusters),
        largest_id,
    )
    if seed is None and not arguments.draws(rate, min_selected, mix):
        seed = 0
    seed = require_seed("corrupt_tokens", seed, step)
    batch = ids.shape[0] if ptr is None else ptr.shape[0] - 1
    if traced and not isinstance(rate, Tensor):
        # A float stays dynamic only as the operand of a tensor: otherwise every new rate would compile anew.
        rate = torch.zeros(batch, dtype=torch.float64, device=ids.device) + rate
    limit, fewest = arguments.limits(rate, min_selected, Tensor)
    row_limit = _per_sample("rate", rate, batch, floating=True)
    row_least = _per_sample("min_selected", min_selected, batch, floating=False)
    _per_sample("sample_ids", sample_ids, batch, floating=False)
    tables = (None,) * 4
    if clusters is not None and mix[1] > 0:
        tables = clusters.tables(plan.special_ids, ids.device)
    flat = ids.dim() == 1
    found, scored, selected, positions, counts = _corrupt(
        ids.unsqueeze(1) if flat else ids,
        ptr,
        sample_ids,
        limit,
        row_limit,
        plan.mask_limit,
        plan.random_limit,
        plan.mask_id,
        plan.vocab_size,
        plan.special_ids,
        maskable.unsqueeze(1) if maskable is not None and flat else maskable,
        groups.unsqueeze(1) if groups is not None and ptr is not None else groups,
        *tables,
        labels,
        exclude_original,
        fewest,
        row_least,
        plan.ignore_index,
        plan.capacity,
        seed,
        step,
    )
    if flat:
        found, scored, selected = found.squeeze(1), scored.squeeze(1), selected.squeeze(1)
    return Corruption(found, scored, selected, positions, counts)


def row_uniform(
    batch: int, *, seed: int | None = None, step: int = 0, sample_ids: Tensor | None = None
) -> Tensor:
    """(B,) float32 in [0, 1): one number a row, a function of (seed, step, sample id), for mask_rate(u).

    Lies on the device of sample_ids, else on the CPU. ValueError names a seed that is missing, or sample_ids
    of another length than `batch`. Numbers are multiples of 2^-24.
    """
    seed = require_seed("row_uniform", seed, step)
    as_int("batch", batch, 0)
    if sample_ids is None:
        sample_ids = torch.arange(batch)
    else:
        _per_sample("sample_ids", sample_ids, batch, floating=False)
    return _row_uniform(sample_ids, seed, step)


def _per_sample(name: str, value: Any, batch: int, *, floating: bool) -> Tensor | None:
    """A tensor of one number a sample as int64 (a probability as its limit), None for a plain number."""
    if not isinstance(value, Tensor):
        return None
    if value.dtype == torch.bool or value.is_complex() or value.is_floating_point() != floating:
        kind = "a float" if floating else "an int"
        raise ValueError(f"{name} must be {kind} tensor, got {str(value.dtype).removeprefix('torch.')}")
    if value.shape != (batch,):
        raise ValueError(f"{name} must have shape (B={batch},), got {tuple(value.shape)}")
    return (value.double() * 4294967296.0 + 0.5).floor().long() if floating else value.long()
