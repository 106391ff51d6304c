"""corrupt_tokens as modules without parameters, one a pretraining scheme."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from sslkernels import _random
from sslkernels.masking.results import Corruption
from sslkernels.masking.tokens.clusters import TokenClusters
from sslkernels.masking.tokens.op import corrupt_tokens


class _Scheme(torch.nn.Module):
    """What the schemes share: the arguments of corrupt_tokens, and where the randomness comes from.

    With a `seed` a call is a function of (seed, step, sample ids), and `step` must be given; without one each
    call draws a fresh seed from torch's default generator, so that torch.manual_seed repeats a run.
    """

    mix: Sequence[float] = (0.0, 1.0, 0.0)
    labels = "original"

    def __init__(
        self,
        vocab_size: int | None,
        mask_id: int | None = None,
        special_ids: Iterable[int] = (),
        rate: float | Tensor = 0.15,
        seed: int | None = None,
        *,
        clusters: TokenClusters | None = None,
        exclude_original: bool = False,
        min_selected: int | Tensor = 0,
        ignore_index: int = -100,
        capacity: int | None = None,
    ) -> None:
        super().__init__()
        self.vocab_size, self.mask_id, self.special_ids = vocab_size, mask_id, tuple(special_ids)
        self.rate, self.seed, self.clusters = rate, seed, clusters
        self.exclude_original, self.min_selected = exclude_original, min_selected
        self.ignore_index, self.capacity = ignore_index, capacity

    def forward(
        self,
        ids: Tensor,
        *,
        ptr: Tensor | None = None,
        maskable: Tensor | None = None,
        groups: Tensor | None = None,
        step: int | None = None,
        sample_ids: Tensor | None = None,
    ) -> Corruption:
        """Corrupt a batch: the arguments and the result of corrupt_tokens."""
        if self.seed is not None and step is None:
            raise ValueError("step must be given to a module with a seed, or every call has the same masks")
        if sample_ids is None:
            batch = ids.shape[0] if ptr is None else ptr.shape[0] - 1
            sample_ids = _random.own_samples(batch, ids.device)
        return corrupt_tokens(
            ids,
            ptr=ptr,
            rate=self.rate,
            mix=self.mix,
            mask_id=self.mask_id,
            vocab_size=self.vocab_size,
            special_ids=self.special_ids,
            maskable=maskable,
            groups=groups,
            clusters=self.clusters,
            labels=self.labels,
            exclude_original=self.exclude_original,
            min_selected=self.min_selected,
            ignore_index=self.ignore_index,
            capacity=self.capacity,
            seed=_random.fresh_seed() if self.seed is None else self.seed,
            step=0 if step is None else step,
            sample_ids=sample_ids,
        )

    def extra_repr(self) -> str:
        return f"vocab_size={self.vocab_size}, rate={self.rate}, mix={tuple(self.mix)}, seed={self.seed}"


class MaskedLM(_Scheme):
    """Masked language modelling: of the selected, 80 % become mask_id, 10 % a random id, 10 % stay.

    Labels are the original ids. mix: other shares (sum 1). Source: BERT (Devlin et al., 2019), section 3.1;
    the counterpart in transformers is DataCollatorForLanguageModeling, whose random ids may be special.
    """

    def __init__(
        self, *args: Any, mix: Sequence[float] = (0.8, 0.1, 0.1), labels: str = "original", **keywords: Any
    ) -> None:
        super().__init__(*args, **keywords)
        self.mix, self.labels = tuple(mix), labels


class RandomTokenSubstitution(_Scheme):
    """RTS: the selected become random ids; labels say which tokens were selected (1) and which not (0).

    Source: Di Liello et al., Findings of EMNLP 2022.
    """

    labels = "selected"


class ClusterRandomTokenSubstitution(_Scheme):
    """C-RTS: as RTS, but a random id comes from a cluster that the detector confuses with the token's own.

    clusters: a TokenClusters; its `update` takes what the detector got right and wrong. Source: Di Liello et
    al., Findings of EMNLP 2022.
    """

    labels = "selected"

    def __init__(self, vocab_size: int | None, *args: Any, clusters: TokenClusters, **keywords: Any) -> None:
        super().__init__(vocab_size, *args, clusters=clusters, **keywords)


class SwappedLM(_Scheme):
    """SLM: the selected become random ids; labels are the original ids, and no mask token is needed.

    Source: Di Liello et al., Findings of EMNLP 2022.
    """
