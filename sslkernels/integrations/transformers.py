"""DataCollatorForLanguageModeling: the drop-in whose masks are a function of seed, epoch and sample alone."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from transformers.data.data_collator import (
    _numpy_collate_batch,
    _torch_collate_batch,
    pad_without_fast_tokenizer_warning,
)

from sslkernels.integrations.words import word_groups, word_start_table
from sslkernels.masking.tokens.host import corrupt_tokens

_UNSET = -1
_LOW_63 = (1 << 63) - 1
_PASSES = 1 << 62  # steps from here on are of passes before set_epoch; epochs lie below


def _digest(*numbers: int) -> int:
    data = b"".join((number & (1 << 64) - 1).to_bytes(8, "little") for number in numbers)
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


@dataclass
class DataCollatorForLanguageModeling(transformers.DataCollatorForLanguageModeling):
    """Drop-in for transformers.DataCollatorForLanguageModeling: same arguments, keys, dtypes and padding.

    Differences, all on purpose:

    - With `seed`, and after `set_epoch(n)`, which reaches persistent workers, masks are a function of (seed,
      epoch, sample) alone: not of the batch, its padding or order, nor the number of workers. A sample is
      named by its integer feature `index`, which is taken out of the batch, or else by a 64-bit hash of its
      unpadded ids. Until set_epoch is called every pass has new masks: from the workers' base seed, and by
      counting calls. Without `seed` it is torch's initial seed, which is read and not advanced.
    - With whole words the selected are masked, replaced and kept in the same shares (80/10/10), one action a
      word. Words are the tokenizer's: a token with its mark of a word's start begins a word even where
      offsets touch, tokens whose offsets overlap share one, two texts never do.
    - Random ids are never special tokens. Padding is never masked, whoever added it.

    An id outside the tokenizer's vocabulary raises ValueError.
    """

    whole_word_mask: bool = False

    def __post_init__(self) -> None:
        whole = self.whole_word_mask
        if self.mlm:  # the parent would give up random replacement for whole words, and warn of it
            self.whole_word_mask = False
        super().__post_init__()
        self.whole_word_mask = whole
        self._calls = 0
        self._starts_cache: np.ndarray | None = None
        self._initial_seed = torch.initial_seed() & _LOW_63
        # Shared memory: what set_epoch writes in the main process is read by workers that run already.
        self._shared = torch.tensor([_UNSET, 0], dtype=torch.int64).share_memory_()

    # -- seeds and epochs ----------------------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """From now on masks are those of this epoch, in running workers too."""
        if isinstance(epoch, bool) or not hasattr(epoch, "__index__"):
            raise TypeError(f"epoch must be an int, got {type(epoch).__name__}")
        if not 0 <= epoch < _PASSES:
            raise ValueError(f"epoch must lie in [0, 2^62), got {epoch}")
        self._shared[1] = self._current_seed()
        self._shared[0] = int(epoch)

    def _current_seed(self) -> int:
        if self.seed is not None:
            return int(self.seed) & _LOW_63
        # A worker's initial seed is its own: there the one of the process that made the collator counts.
        if torch.utils.data.get_worker_info() is not None:
            return self._initial_seed
        self._initial_seed = torch.initial_seed() & _LOW_63
        return self._initial_seed

    def _seed_and_step(self) -> tuple[int, int]:
        epoch, seed = self._shared.tolist()
        if epoch != _UNSET:
            return seed, epoch
        self._calls += 1
        worker = torch.utils.data.get_worker_info()
        base = 0 if worker is None else worker.seed - worker.id
        return self._current_seed(), _PASSES | (_digest(base, self._calls) >> 2)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "generator": None, "_starts_cache": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._shared = self._shared if self._shared.is_shared() else self._shared.clone().share_memory_()

    # -- collating -----------------------------------------------------------------------------------------

    def torch_call(self, examples: list[Any]) -> Any:
        return self._collate(examples, "pt")

    def numpy_call(self, examples: list[Any]) -> Any:
        return self._collate(examples, "np")

    def _collate(self, examples: list[Any], kind: str) -> Any:
        names: list[int | None] = [None] * len(examples)
        offsets: list[Any] | None = None
        batch: Any
        if isinstance(examples[0], Mapping):
            examples = [dict(example) for example in examples]
            names = [_take_index(example) for example in examples]
            found = [example.pop("offset_mapping", None) for example in examples]
            offsets = None if any(one is None for one in found) else found
            batch = pad_without_fast_tokenizer_warning(
                self.tokenizer, examples, return_tensors=kind, pad_to_multiple_of=self.pad_to_multiple_of
            )
        else:
            stack = _torch_collate_batch if kind == "pt" else _numpy_collate_batch
            ids = stack(examples, self.tokenizer, pad_to_multiple_of=self.pad_to_multiple_of)
            batch = {"input_ids": ids}
        special = batch.pop("special_tokens_mask", None)
        if self.mlm:
            corrupted, labels = self._mask(batch, special, names, offsets)
            batch["input_ids"], batch["labels"] = (
                (torch.from_numpy(corrupted), torch.from_numpy(labels))
                if kind == "pt"
                else (corrupted, labels)
            )
            return batch
        labels = batch["input_ids"].clone() if kind == "pt" else np.copy(batch["input_ids"])
        if self.tokenizer.pad_token_id is not None:
            labels[labels == self.tokenizer.pad_token_id] = -100
        batch["labels"] = labels
        return batch

    def _mask(
        self,
        batch: Mapping[str, Any],
        special: Any,
        names: Sequence[int | None],
        offsets: list[Any] | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Corrupted ids and labels (B, L); each row's unpadded part is masked as it would be alone."""
        ids = np.asarray(batch["input_ids"]).astype(np.int64)
        real = self._unpadded(ids, batch.get("attention_mask"))
        ptr = np.concatenate([[0], real.sum(1).cumsum()]).astype(np.int64)
        flat = ids[real]
        special_ids = list(self.tokenizer.all_special_ids)
        hidden = np.isin(flat, special_ids) if special is None else np.asarray(special).astype(bool)[real]
        groups = None
        if self.whole_word_mask:
            groups = self._words(flat, hidden, real, ptr, offsets, batch.get("token_type_ids"))
        seed, step = self._seed_and_step()
        result = corrupt_tokens(
            flat,
            ptr=ptr,
            rate=self.mlm_probability,
            mix=self._mix(),
            mask_id=self.tokenizer.mask_token_id,
            vocab_size=len(self.tokenizer),
            special_ids=special_ids,
            maskable=~hidden,
            groups=groups,
            seed=seed,
            step=step,
            sample_ids=_sample_ids(flat, ptr, names),
        )
        labels = np.full(ids.shape, -100, dtype=np.int64)
        ids[real], labels[real] = result.ids, result.labels
        return ids, labels

    def _mix(self) -> tuple[float, float, float]:
        kept = max(0.0, 1.0 - self.mask_replace_prob - self.random_replace_prob)
        return (self.mask_replace_prob, self.random_replace_prob, kept)

    def _unpadded(self, ids: np.ndarray, attention_mask: Any) -> np.ndarray:
        """(B, L) bool: from the first token of a row that is no padding to the last."""
        used = np.ones(ids.shape, dtype=bool)
        if self.tokenizer.pad_token_id is not None:
            used = ids != self.tokenizer.pad_token_id
        if attention_mask is not None:
            used &= np.asarray(attention_mask).astype(bool)
        begun = np.logical_or.accumulate(used, axis=1)
        return begun & np.logical_or.accumulate(used[:, ::-1], axis=1)[:, ::-1]

    def _words(
        self,
        flat: np.ndarray,
        special: np.ndarray,
        real: np.ndarray,
        ptr: np.ndarray,
        offsets: list[Any] | None,
        types: Any,
    ) -> np.ndarray:
        if offsets is None:
            raise ValueError(
                "whole_word_mask=True needs offset_mapping in every example: "
                "tokenizer(..., return_offsets_mapping=True)"
            )
        spans = np.concatenate([self._spans(one, row) for one, row in zip(offsets, real, strict=True)])
        breaks = np.zeros(len(flat) + 1, dtype=bool)
        breaks[ptr[:-1]] = True
        breaks = breaks[:-1]
        if types is not None:
            own = np.asarray(types)[real]
            breaks[1:] |= own[1:] != own[:-1]
        return word_groups(spans[:, 0], spans[:, 1], self._marks(flat), special, breaks)

    def _spans(self, offsets: Any, row: np.ndarray) -> np.ndarray:
        """(length, 2): the offsets of a row's unpadded tokens, given without the padding added here."""
        given = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
        shift = len(row) - len(given) if self.tokenizer.padding_side == "left" else 0
        return given[np.flatnonzero(row) - shift]

    def _marks(self, flat: np.ndarray) -> np.ndarray:
        if self._starts_cache is None or len(self._starts_cache) < len(self.tokenizer):
            names = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
            self._starts_cache = word_start_table(names)
        return self._starts_cache[np.clip(flat, 0, len(self._starts_cache) - 1)]


def _take_index(example: dict[str, Any]) -> int | None:
    """The integer feature `index`, taken out; anything else of that name stays a feature."""
    value = example.get("index")
    if isinstance(value, np.ndarray | torch.Tensor):
        value = value.item() if value.ndim == 0 else None
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        return None
    del example["index"]
    return int(value)


def _sample_ids(flat: np.ndarray, ptr: np.ndarray, names: Sequence[int | None]) -> np.ndarray:
    """int64 (B,): a sample's name, or a hash of its unpadded ids."""
    found = np.empty(len(names), dtype=np.uint64)
    for at, name in enumerate(names):
        if name is None:
            data = flat[ptr[at] : ptr[at + 1]].astype("<i8").tobytes()
            name = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
        found[at] = name & (1 << 64) - 1
    return found.view(np.int64)
