"""sample_tokens: an exact categorical draw a row, without a noise tensor."""

from typing import Any

import torch
from torch import Tensor

from sslkernels._op import Op
from sslkernels._random import require_seed
from sslkernels._scalars import as_float
from sslkernels._shapes import KINDS
from sslkernels.masking.sampling import reference
from sslkernels.masking.sampling.checks import check

_sample = Op(
    "sample_tokens(Tensor logits, Tensor? allowed, float temperature, Tensor? row_temperature, "
    "Tensor? sample_ids, SymInt seed, SymInt step) -> Tensor",
    shapes="logits: R V; allowed: V | R V bool?; row_temperature: R real?; sample_ids: R int64?",
    reference=reference.sample_tokens,
    fake=reference.fake,
    check=check,
    triton=True,
)


def sample_tokens(
    logits: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    allowed: Tensor | None = None,
    seed: int | None = None,
    step: int = 0,
    sample_ids: Tensor | None = None,
) -> Tensor:
    """Draw one column a row, column j with probability softmax(logits / temperature)[j]; int64 (R,).

    logits       fp32, fp64, fp16 or bf16 (R, V); an entry of -inf is never drawn
    temperature  in [0, inf): float, or a float tensor (R,), one a row. 0 takes the largest logit, the first
                 of equal ones. Logits are divided by it in 32 bits (64 for fp64), whatever their dtype.
    allowed      bool (V,), or (R, V): only columns where it is true are drawn; what logits hold elsewhere
                 does not matter
    sample_ids   int64 (R,) number the rows (default 0..R-1): a row's draw depends on (seed, step, sample id)
                 and the row alone

    Raises ValueError that names the argument: shapes and dtypes; a temperature out of range; no seed, unless
    temperature is the number 0; a row with nothing allowed, or with NaN or +inf where allowed. On a GPU such
    a row gives -1, unless SSLKERNELS_CHECK=1. Not differentiable: the result is an integer.

    Exact up to rounding: a column's probability is right to about 1e-6 of itself in 32 bits, however small it
    is; only below 2^-53 of the row it may be off by as much. Weights are floats, so that two backends may
    part where a draw falls on the edge between two columns, once in some 10^5 rows.

    One pass over the logits, one exponential an entry, two numbers for each 256 columns beside the result.
    Inversion of the distribution function: Devroye, "Non-Uniform Random Variate Generation" (1986), III.2.
    """
    traced = torch.compiler.is_compiling()
    row_temperature, draws = None, True
    if isinstance(temperature, Tensor):
        _check_rows(temperature, logits)
        row_temperature, temperature = temperature.double(), 1.0
    elif traced and not isinstance(temperature, bool):
        # A float stays dynamic only as the operand of a tensor: otherwise every new value would compile anew.
        draws = temperature != 0
        row_temperature = (
            torch.zeros(logits.shape[0], dtype=torch.float64, device=logits.device) + temperature
        )
        temperature = 1.0
    else:
        temperature = as_float("temperature", temperature)
        draws = temperature != 0
    if draws or seed is not None:
        seed = require_seed("sample_tokens", seed, step)
    tokens: Tensor = _sample(
        logits, allowed, temperature, row_temperature, sample_ids, 0 if seed is None else seed, step
    )
    return tokens


def _check_rows(temperature: Tensor, logits: Any) -> None:
    if temperature.dtype not in (KINDS["real"] or ()):
        found = str(temperature.dtype).removeprefix("torch.")
        raise ValueError(f"temperature must be a float or a float tensor, got {found}")
    if isinstance(logits, Tensor) and logits.dim() == 2 and temperature.shape != logits.shape[:1]:
        raise ValueError(
            f"temperature must have shape (R={logits.shape[0]},), got {tuple(temperature.shape)}"
        )
