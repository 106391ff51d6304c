"""sample_tokens against noise and argmax over 1024 rows of 30,522 logits; the argmax alone is no draw."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.conftest import Race
from sslkernels.masking import sample_tokens

ROWS, VOCABULARY = 1024, 30522
PROBLEM = f"r={ROWS} v={VOCABULARY} fp32"


def data() -> Tensor:
    return torch.randn(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(0))


def test_sample_tokens(race: Race, threads: int) -> None:
    """The peers are given the noise's memory. exponential_ is -log(u): one logarithm more makes it Gumbel."""
    logits = data()
    noise = torch.empty_like(logits)

    def gumbel() -> Tensor:
        return noise.exponential_().log_().neg_().add_(logits).argmax(1)

    def exponential() -> Tensor:
        return torch.softmax(logits, 1, out=weights).div_(noise.exponential_()).argmax(1)

    weights = torch.empty_like(logits)
    race(
        f"sample_tokens {PROBLEM} threads={threads}",
        lambda: sample_tokens(logits, seed=1),
        {
            "in-place eager Gumbel": gumbel,
            "in-place exponential race": exponential,
            "multinomial": lambda: torch.multinomial(torch.softmax(logits, 1, out=weights), 1),
            "argmax alone": lambda: logits.argmax(1),
            "amax alone": lambda: logits.amax(1),
        },
        seconds=20,
        floor={"in-place eager Gumbel": 10},
    )


def test_few_rows_of_a_large_vocabulary(race: Race, threads: int) -> None:
    """Threads share the columns of a row."""
    logits = torch.randn(1, 1_000_000, generator=torch.Generator().manual_seed(0))
    noise = torch.empty_like(logits)
    race(
        f"sample_tokens r=1 v=1000000 fp32 threads={threads}",
        lambda: sample_tokens(logits, seed=1),
        {"in-place eager Gumbel": lambda: noise.exponential_().log_().neg_().add_(logits).argmax(1)},
        floor={"in-place eager Gumbel": 10},
    )


def gpu_peers(operator: str, arguments: tuple[Any, ...]) -> dict[str, Callable[[], Any]]:
    """The same on any device, for benchmarks/gpu.py."""
    if operator != "sample_tokens":
        return {}
    logits = arguments[0]
    noise = torch.empty_like(logits)
    return {
        "in-place eager Gumbel": lambda: noise.exponential_().log_().neg_().add_(logits).argmax(1),
        "multinomial": lambda: torch.multinomial(torch.softmax(logits, 1), 1),
        "argmax alone": lambda: logits.argmax(1),
    }
