"""The collator beside the one it replaces: same batches, and none of its reproducibility failures."""

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from sslkernels.integrations.transformers import DataCollatorForLanguageModeling  # noqa: E402
from sslkernels.integrations.words import word_groups, word_start_table  # noqa: E402

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [f"w{chr(97 + i)}{chr(97 + j)}" for i in range(10) for j in range(10)]
PAD, CLS, SEP, MASK = 0, 2, 3, 4


def wrap(model: Any, **keywords: Any) -> Any:
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, unk_token="[UNK]", **names, **keywords
    )


def word_level(**keywords: Any) -> Any:
    vocabulary = {token: at for at, token in enumerate(SPECIAL + WORDS)}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    model.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return wrap(model, **keywords)


def pieces(pre_tokenizer: Any, vocabulary: list[str]) -> Any:
    """Characters of the text as pieces, merged into whatever the vocabulary holds."""
    table = {token: at for at, token in enumerate(SPECIAL + vocabulary)}
    model = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(table, unk_token="[UNK]", continuing_subword_prefix="")
    )
    model.pre_tokenizer = pre_tokenizer
    return wrap(model)


def examples(tokenizer: Any, count: int = 12, seed: int = 0, low: int = 3, high: int = 30) -> list[dict]:
    chosen = np.random.default_rng(seed)
    texts = [" ".join(chosen.choice(WORDS, chosen.integers(low, high))) for _ in range(count)]
    return [dict(tokenizer(text, return_special_tokens_mask=True)) for text in texts]


def masked(batch: Any) -> list[tuple[tuple[int, ...], ...]]:
    """Inputs and labels of each row without what was padded, to be compared across batches."""
    rows = []
    for at in range(len(batch["input_ids"])):
        used = batch["attention_mask"][at].bool()
        rows.append((tuple(batch["input_ids"][at][used].tolist()), tuple(batch["labels"][at][used].tolist())))
    return rows


# -- the same batches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("multiple", [None, 16])
@pytest.mark.parametrize("kind", ["pt", "np"])
@pytest.mark.parametrize("mlm", [True, False])
def test_keys_shapes_and_dtypes(side: str, multiple: int | None, kind: str, mlm: bool) -> None:
    tokenizer = word_level(padding_side=side)
    keywords = {"mlm": mlm, "pad_to_multiple_of": multiple, "return_tensors": kind, "seed": 1}
    theirs = transformers.DataCollatorForLanguageModeling(tokenizer, **keywords)
    ours = DataCollatorForLanguageModeling(tokenizer, **keywords)
    plain = [example["input_ids"] for example in examples(tokenizer)]
    for given in (
        examples(tokenizer),
        plain,
        [torch.tensor(ids) for ids in plain] if kind == "pt" else plain,
    ):
        expected, found = theirs(copy.deepcopy(given)), ours(given)
        assert type(found) is type(expected)
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert type(found[key]) is type(value)
            assert (found[key].shape, found[key].dtype) == (value.shape, value.dtype)
            if key not in ("input_ids", "labels") or not mlm:
                assert (found[key] == value).all()


def test_what_is_masked() -> None:
    tokenizer = word_level()
    given = examples(tokenizer, count=400)
    batch = DataCollatorForLanguageModeling(tokenizer, seed=2)(given)
    original = tokenizer.pad(given, return_tensors="pt")["input_ids"]
    chosen = batch["labels"] != -100
    assert torch.equal(batch["labels"][chosen], original[chosen])
    assert torch.equal(batch["input_ids"][~chosen], original[~chosen])
    assert not (chosen & torch.isin(original, torch.arange(5))).any()
    changed = batch["input_ids"][chosen]
    assert abs(chosen.sum() / (original > 4).sum() - 0.15) < 0.02
    assert abs((changed == MASK).float().mean() - 0.8) < 0.04
    assert (changed[changed != MASK] > 4).all()  # a random id is never special


def test_padding_that_the_collator_adds() -> None:
    """transformers #11155: padded positions were selected."""
    tokenizer = word_level()
    given = [{"input_ids": list(range(5, 5 + n)), "special_tokens_mask": [0] * n} for n in (3, 12)]
    batch = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.999, seed=1)(given)
    assert (batch["labels"][0, 3:] == -100).all()
    assert (batch["input_ids"][0, 3:] == PAD).all()


def test_whole_words_keep_what_the_batch_has() -> None:
    """transformers #12998, #12999, #42144: other keys, padding to a multiple, no warning, 80/10/10."""
    tokenizer = word_level()
    given = [
        dict(
            tokenizer(
                text,
                text,
                return_special_tokens_mask=True,
                return_offsets_mapping=True,
                return_token_type_ids=True,
            )
        )
        for text in ("waa wbb wcc", "wdd wee", "waa " * 50) * 60
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collator = DataCollatorForLanguageModeling(
            tokenizer, whole_word_mask=True, pad_to_multiple_of=8, mlm_probability=0.5, seed=1
        )
    batch = collator([{**example, "index": at} for at, example in enumerate(given)])
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "labels"}
    assert batch["input_ids"].shape[1] % 8 == 0
    changed = batch["input_ids"][batch["labels"] != -100]
    assert abs((changed == MASK).float().mean() - 0.8) < 0.03
    assert "offset_mapping" in given[0]  # what was passed in is left as it was
    with pytest.raises(ValueError, match="offset_mapping"):
        collator(examples(tokenizer))


def test_constructor_refuses_what_the_real_one_refuses() -> None:
    tokenizer = word_level()
    for keywords in (
        {"mlm_probability": 1.5},
        {"mask_replace_prob": 0.8, "random_replace_prob": 0.3},
        {"mask_replace_prob": -0.1},
        {"mlm": False, "whole_word_mask": True},
    ):
        for kind in (transformers.DataCollatorForLanguageModeling, DataCollatorForLanguageModeling):
            with pytest.raises(ValueError):
                kind(tokenizer, **keywords)


# -- words ---------------------------------------------------------------------------------------------------


def groups_of(tokenizer: Any, *texts: str, specials: bool = False) -> list[int]:
    found = tokenizer(
        *texts,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        add_special_tokens=specials,
        return_token_type_ids=True,
    )
    spans = np.array(found["offset_mapping"])
    table = word_start_table(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))
    types = np.array(found["token_type_ids"])
    breaks = np.concatenate([[False], types[1:] != types[:-1]])
    special = np.array(found["special_tokens_mask"]).astype(bool)
    marked = table[np.array(found["input_ids"])]
    return word_groups(spans[:, 0], spans[:, 1], marked, special, breaks).tolist()


def test_words_whose_offsets_touch() -> None:
    """transformers #39485 rests on gaps between offsets; tokenizers #663: sentencepiece offsets touch."""
    metaspace = pieces(tokenizers.pre_tokenizers.Metaspace(), ["▁the", "▁lazy", "▁fo", "x"])
    assert groups_of(metaspace, "the lazy fox") == [0, 1, 2, 2]
    assert groups_of(metaspace, "fox", "fox") == [0, 0, 1, 1]
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert groups_of(pieces(level, ["Ġthe", "Ġlazy", "Ġfo", "x"]), "the lazy fox") == [0, 1, 2, 2]


def test_bytes_of_one_character_are_one_word() -> None:
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    characters = [*tokenizers.pre_tokenizers.ByteLevel.alphabet()]
    groups = groups_of(pieces(level, characters), "a \U0001f98a b")
    assert groups[0] == groups[1]  # the space and the letter
    assert sorted(set(groups)) == list(range(max(groups) + 1))
    assert [groups.count(group) for group in range(3)] == [2, 5, 2]


def test_two_texts_never_share_a_word() -> None:
    plain = pieces(tokenizers.pre_tokenizers.WhitespaceSplit(), ["fox", "a", "dog"])
    assert groups_of(plain, "fox", "fox") == [0, 1]
    assert groups_of(plain, "a dog", "fox dog") == [0, 1, 2, 3]


def test_words_have_gaps_or_special_tokens_between() -> None:
    assert groups_of(word_level(), "waa wbb", specials=True) == [-1, 1, 2, -1]
    empty = np.empty(0, dtype=np.int64)
    assert (
        word_groups(empty, empty, empty.astype(bool), empty.astype(bool), empty.astype(bool)).tolist() == []
    )


def test_a_word_is_masked_whole_or_not_at_all() -> None:
    tokenizer = pieces(tokenizers.pre_tokenizers.Metaspace(), ["▁the", "▁lazy", "▁fo", "x"])
    given = [dict(tokenizer("the lazy fox", return_offsets_mapping=True)) for _ in range(400)]
    for at, example in enumerate(given):
        example["index"] = at
    batch = DataCollatorForLanguageModeling(tokenizer, whole_word_mask=True, mlm_probability=0.5, seed=3)(
        given
    )
    chosen = batch["labels"] != -100
    assert torch.equal(chosen[:, 2], chosen[:, 3])
    for left, right in ((0, 1), (1, 2), (0, 2)):
        assert 0.15 < (chosen[:, left] & chosen[:, right]).float().mean() < 0.35


# -- what a mask depends on ----------------------------------------------------------------------------------


def test_a_sample_is_masked_the_same_in_any_batch() -> None:
    """Whatever the batch, its order, its padding and the side of it."""
    expected: dict | None = None
    for side in ("right", "left"):
        tokenizer = word_level(padding_side=side)
        given = examples(tokenizer, count=20)
        for at, example in enumerate(given[:10]):
            example["index"] = at * 2**40
        for indices in ([*range(20)], [*reversed(range(20))], [3], [17, 2]):
            for multiple in (None, 64):
                collator = DataCollatorForLanguageModeling(tokenizer, seed=9, pad_to_multiple_of=multiple)
                collator.set_epoch(4)
                batch = collator([given[at] for at in indices])
                assert "index" not in batch
                rows = dict(zip(indices, masked(batch), strict=True))
                expected = expected or rows
                assert all(rows[at] == expected[at] for at in indices)


def test_padding_in_the_data_set() -> None:
    tokenizer = word_level()
    short = dict(tokenizer("waa wbb wcc wdd wee waf wbg", return_special_tokens_mask=True))
    long = tokenizer.pad(dict(short), padding="max_length", max_length=40)
    collator = DataCollatorForLanguageModeling(tokenizer, seed=9, mlm_probability=0.5)
    collator.set_epoch(0)
    assert masked(collator([short])) == masked(collator([dict(long)]))
    without = {key: value for key, value in long.items() if key == "input_ids"}
    found = collator([without])
    assert found["labels"][0, :9].tolist() == collator([short])["labels"][0].tolist()


class Texts(torch.utils.data.Dataset):
    def __init__(self, tokenizer: Any) -> None:
        self.examples = examples(tokenizer, count=24)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, at: int) -> dict:
        return {**self.examples[at], "index": at}


def passes(workers: int, epochs: list[int | None], **keywords: Any) -> list[list]:
    """The masked samples of each epoch; None: set_epoch is not called."""
    tokenizer = word_level()
    collator = DataCollatorForLanguageModeling(tokenizer, **keywords)
    loader = DataLoader(
        Texts(tokenizer),
        batch_size=6,
        num_workers=workers,
        collate_fn=collator,
        persistent_workers=workers == 2,
    )
    found = []
    for epoch in epochs:
        if epoch is not None:
            collator.set_epoch(epoch)
        found.append([row for batch in loader for row in masked(batch)])
    return found


def test_independent_of_workers_and_new_every_epoch() -> None:
    """A seeded collator in workers: the same masks every epoch, and others for another number of workers."""
    alone = passes(0, [0, 1, 2], seed=5)
    assert alone[0] != alone[1] != alone[2]
    assert passes(1, [0, 1, 2], seed=5) == alone
    assert passes(2, [0, 1, 2], seed=5) == alone  # persistent: set_epoch reaches them
    assert passes(0, [2, 1], seed=5) == [alone[2], alone[1]]  # resumed in any order
    assert passes(0, [0], seed=6)[0] != alone[0]


def test_every_pass_is_new_until_set_epoch() -> None:
    for workers in (0, 1, 2):
        torch.manual_seed(3)
        first = passes(workers, [None, None], seed=5)
        assert first[0] != first[1]
        torch.manual_seed(3)
        assert passes(workers, [None, None], seed=5) == first


def test_without_a_seed_it_is_torchs_initial_one() -> None:
    torch.manual_seed(77)
    state = torch.get_rng_state()
    first = passes(0, [1])
    assert passes(1, [1]) == first
    torch.manual_seed(77)
    collator = DataCollatorForLanguageModeling(word_level())
    collator.set_epoch(1)
    collator(examples(word_level()))
    assert torch.equal(torch.get_rng_state(), state)  # read, not advanced
    torch.manual_seed(78)
    assert passes(0, [1]) != first
    assert passes(0, [1], seed=78) == passes(0, [1])


def test_pickles_and_copies() -> None:
    tokenizer = word_level()
    collator = DataCollatorForLanguageModeling(tokenizer, seed=5, whole_word_mask=True)
    collator.set_epoch(3)
    given = [dict(tokenizer(" ".join(WORDS[:40]), return_offsets_mapping=True))]
    expected = masked(collator(given))
    twins = [pickle.loads(pickle.dumps(collator)), copy.deepcopy(collator)]
    for twin in twins:
        assert masked(twin(given)) == expected
        twin.set_epoch(4)  # its own, not the original's
    assert masked(collator(given)) == expected


@pytest.mark.parametrize(
    ("epoch", "kind"), [(-1, ValueError), (1.5, TypeError), (True, TypeError), (2**62, ValueError)]
)
def test_bad_epochs(epoch: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="epoch"):
        DataCollatorForLanguageModeling(word_level()).set_epoch(epoch)


def test_an_index_that_is_no_integer_is_a_feature() -> None:
    tokenizer = word_level()
    given = [{**example, "index": 1.5} for example in examples(tokenizer)]
    assert DataCollatorForLanguageModeling(tokenizer, seed=1)(given)["index"].tolist() == [1.5] * 12
    for index in (np.int64(3), torch.tensor(3), np.array(3)):
        collator = DataCollatorForLanguageModeling(tokenizer, seed=1)
        collator.set_epoch(0)
        one = examples(tokenizer, count=1)[0]
        assert masked(collator([{**one, "index": index}])) == masked(collator([{**one, "index": 3}]))
