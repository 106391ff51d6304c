"""What an eager call of the reference, and a Triton launch that may look at values, check."""

from torch import Tensor


def check_labels(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None, ignore_index: int
) -> None:
    """ValueError for the first label that is neither a class nor ignore_index."""
    wrong = ((labels < 0) | (labels >= weight.shape[0])) & (labels != ignore_index)
    if wrong.any():
        at = int(wrong.nonzero()[0])
        allowed = f"[0, {weight.shape[0]}) and not ignore_index {ignore_index}"
        raise ValueError(f"labels[{at}] is {int(labels[at])}, outside {allowed}")
