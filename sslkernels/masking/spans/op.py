"""span_mask, geometric_span_groups and span_corruption: spans of wav2vec 2.0, SpanBERT and T5."""

from typing import Any

import torch
from torch import Tensor

from sslkernels._op import Op
from sslkernels._random import require_seed
from sslkernels._scalars import as_bool, as_int
from sslkernels.masking.spans import checks, reference

_RNG = "SymInt seed, SymInt step"


def _span_mask_fake(lengths: Tensor, sample_ids: Tensor | None, max_length: int, *_: Any) -> Tensor:
    return lengths.new_empty((lengths.shape[0], max_length), dtype=torch.bool)


def _groups_fake(lengths: Tensor, sample_ids: Tensor | None, max_length: int, *_: Any) -> Tensor:
    return lengths.new_empty((lengths.shape[0], max_length), dtype=torch.int32)


def _corruption_fake(ids: Tensor, lengths: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    context, batch = torch.library.get_ctx(), ids.shape[0]
    inputs, targets = context.new_dynamic_size(), context.new_dynamic_size()
    return (
        ids.new_empty((batch, inputs)),
        lengths.new_empty(batch, dtype=torch.int64),
        ids.new_empty((batch, targets)),
        lengths.new_empty(batch, dtype=torch.int64),
    )


_span_mask = Op(
    "span_mask(Tensor lengths, Tensor? sample_ids, SymInt max_length, float rate, SymInt span, "
    f"SymInt min_spans, {_RNG}) -> Tensor mask",
    shapes="lengths: B int; sample_ids: B int64?",
    reference=reference.span_mask,
    fake=_span_mask_fake,
    check=checks.span_mask,
    triton=True,
)

_geometric_span_groups = Op(
    "geometric_span_groups(Tensor lengths, Tensor? sample_ids, SymInt max_length, float budget, "
    f"int[] limits, {_RNG}) -> Tensor groups",
    shapes="lengths: B int; sample_ids: B int64?",
    reference=reference.geometric_span_groups,
    fake=_groups_fake,
    check=checks.geometric_span_groups,
    triton=True,
)

_span_corruption = Op(
    "span_corruption(Tensor ids, Tensor lengths, Tensor? sample_ids, float noise_density, float mean_span, "
    f"SymInt sentinel_start, SymInt? eos_id, SymInt pad_id, {_RNG}) -> "
    "(Tensor inputs, Tensor input_lengths, Tensor targets, Tensor target_lengths)",
    shapes="ids: B L int; lengths: B int; sample_ids: B int64?",
    reference=reference.span_corruption,
    fake=_corruption_fake,
    check=checks.span_corruption,
    triton=True,
)


def _as_lengths(value: Any, beside: Any) -> Any:
    """A list of ints as a tensor on the device of `beside`; anything else is left to the shape line."""
    if not isinstance(value, list | tuple):
        return value
    lengths = [as_int(f"lengths[{row}]", length) for row, length in enumerate(value)]
    return torch.tensor(lengths, dtype=torch.int64, device=getattr(beside, "device", None))


def _int64(value: Any) -> Any:
    """Sample ids may come in 32 bits; anything else is left to the shape line."""
    return value.long() if isinstance(value, Tensor) and value.dtype == torch.int32 else value


def _seed(function: str, draws: bool, seed: int | None, step: int) -> int:
    return 0 if seed is None and not draws else require_seed(function, seed, step)


def span_mask(
    lengths: Tensor,
    max_length: int,
    *,
    rate: float = 0.65,
    span: int = 10,
    min_spans: int = 0,
    return_rate: bool = False,
    seed: int | None = None,
    step: int = 0,
    sample_ids: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Spans of one length at random starts, which may overlap: bool (B, max_length), True where masked.

    lengths     int32 or int64 (B,), or a list, each in [0, max_length]: nothing is masked behind them
    rate        a row has floor(rate * length / span + eps) spans, eps uniform in [0, 1) and drawn a row, but
                at least min_spans and at most length - span + 1, the number of starts, drawn without
                replacement. Spans overlap, so that less is masked; a rate above 1 is allowed
    span        length of a span; a row shorter than it has none, whatever min_spans says
    return_rate also return float32 (B,): the share of each row that is masked, 0 in an empty row

    A row depends on (seed, step, sample id) and its length alone. A compiled graph holds the rate as a
    constant: each new one compiles anew. Raises ValueError naming the argument: lengths outside
    [0, max_length], a rate that is negative or not finite, span < 1, min_spans < 0.
    Cost: one byte written a position, one draw a span. wav2vec 2.0 (Baevski et al., NeurIPS 2020), 3.1.
    """
    rate = checks.finite_rate(rate)
    least = as_int("min_spans", min_spans, 0)
    known = _as_lengths(lengths, sample_ids)
    mask: Tensor = _span_mask(
        known,
        _int64(sample_ids),
        as_int("max_length", max_length, 0, checks.LONGEST),
        rate,
        as_int("span", span, 1),
        least,
        _seed("span_mask", rate > 0 or least > 0, seed, step),
        step,
    )
    if not as_bool("return_rate", return_rate):
        return mask
    return mask, mask.sum(1) / known.clamp(min=1)


def geometric_span_groups(
    lengths: Tensor,
    max_length: int,
    *,
    p: float = 0.2,
    max_span: int = 10,
    budget: float = 0.15,
    seed: int | None = None,
    step: int = 0,
    sample_ids: Tensor | None = None,
) -> Tensor:
    """Spans of geometric lengths that do not overlap: int32 (B, max_length), a span's number inside, else -1.

    lengths   int32 or int64 (B,), each in [0, max_length]
    p         in (0, 1]: a span is l long with a probability that goes as (1 - p)^l, for l in 1..max_span
    max_span  in [1, 65535]
    budget    in [0, 1]: exactly ceil(budget * length - 1e-6) positions of a row lie in spans, one of which is
              cut to fit

    Numbers are 0, 1, ... from left to right: corrupt_tokens(groups=..., rate=1.0) selects all spans and gives
    each one action. Lengths are drawn until they fill the budget; the span that was cut changes places with
    one drawn uniformly; then every arrangement of the spans, in order, among the other positions is as likely
    as another. Spans may touch. A row depends on (seed, step, sample id) and its length alone.

    Raises ValueError naming the argument. Cost: four bytes written a position, two draws a span. SpanBERT
    (Joshi et al., TACL 2020), section 3.1.
    """
    p = checks.positive("p", p, 1)
    longest = as_int("max_span", max_span, 1, checks.LARGEST_SPAN)
    budget = checks.between("budget", budget, 0, 1)
    make_limits = checks.length_limits if torch.compiler.is_compiling() else checks.length_limits_once
    groups: Tensor = _geometric_span_groups(
        _as_lengths(lengths, sample_ids),
        _int64(sample_ids),
        as_int("max_length", max_length, 0, checks.LONGEST),
        budget,
        make_limits(p, longest),
        _seed("geometric_span_groups", budget > 0, seed, step),
        step,
    )
    return groups


def span_corruption(
    ids: Tensor,
    lengths: Tensor,
    *,
    noise_density: float = 0.15,
    mean_span: float = 3.0,
    sentinel_start: int,
    eos_id: int | None = None,
    pad_id: int = 0,
    seed: int | None = None,
    step: int = 0,
    sample_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Noise spans, each replaced by a sentinel, and the spans themselves as the target; ids are not modified.

    ids             int32 or int64 (B, L); lengths int32 or int64 (B,), each in [0, L]
    noise_density   in [0, 1]: a row of n tokens has clip(round(noise_density * n), 1, n - 1) noise tokens
    mean_span       in clip(round(noise / mean_span), 1, min(noise, n - noise)) spans; halves round to even
    sentinel_start  the i-th span of a row is sentinel_start - i in both outputs; it must fit in ids' dtype
    eos_id          ends both outputs and counts in their lengths
    pad_id          fills what lies behind them

    Returns inputs (B, widest) like ids, input_lengths int64 (B,), targets, target_lengths. A row starts with
    a kept stretch and ends in noise; the sizes of the noise spans are a uniform composition of the noise,
    those of the kept stretches one of the rest. No sentinel closes a target. A row shorter than 2 passes
    through, without a sentinel and with an empty target. Each target's spans, put in the place of their
    sentinels, give the ids back. A row depends on (seed, step, sample id) and its length alone.

    Raises ValueError naming the argument: lengths outside [0, L], more spans than sentinel_start + 1, an id
    that does not fit. Cost: the ids read and both outputs written once, two draws a span; on a GPU the widths
    wait for the lengths. T5 (Raffel et al., JMLR 21, 2020), section 3.1.4.
    """
    outputs: tuple[Tensor, Tensor, Tensor, Tensor] = _span_corruption(
        ids,
        _as_lengths(lengths, ids),
        _int64(sample_ids),
        checks.between("noise_density", noise_density, 0, 1),
        checks.positive("mean_span", mean_span),
        as_int("sentinel_start", sentinel_start, 0),
        None if eos_id is None else as_int("eos_id", eos_id),
        as_int("pad_id", pad_id),
        require_seed("span_corruption", seed, step),
        step,
    )
    return outputs
