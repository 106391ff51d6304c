"""The checks of the native kernel, in the same words, for eager calls of the reference and of Triton."""

from torch import Tensor

from sslkernels._random import check_stream

INFINITE = float("inf")


def check(
    logits: Tensor,
    allowed: Tensor | None,
    temperature: float,
    row_temperature: Tensor | None,
    sample_ids: Tensor | None,
    seed: int,
    step: int,
) -> None:
    """ValueError that names the argument; rows in order."""
    check_stream(seed, step)
    named = [("temperature", temperature)]
    if row_temperature is not None:
        named = [(f"temperature[{at}]", value) for at, value in enumerate(row_temperature.tolist())]
    for name, number in named:
        if not 0 <= number < INFINITE:
            raise ValueError(f"{name} must lie in [0, inf), got {number}")
    x = logits if allowed is None else logits.masked_fill(~allowed, -INFINITE)
    wrong = x.isnan() | (x == INFINITE)
    refused = (wrong.any(1) | ~(x > -INFINITE).any(1)).nonzero()
    if len(refused) == 0:
        return
    row = int(refused[0])
    if not wrong[row].any():
        raise ValueError(f"logits[{row}] has nothing allowed: every entry is -inf or forbidden by `allowed`")
    at = int(wrong[row].nonzero()[0])
    raise ValueError(f"logits[{row}, {at}] is {float(x[row, at])} where allowed, must be finite or -inf")
