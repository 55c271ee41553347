"""Reuse of parts never changes an id: every tokenizer here is held against its own `encode_batch`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from blendserve.text.batch_encoder import BatchEncoder
from blendserve.text.exact_cuts import ExactCuts
from blendserve.text.part_cache import PartCache
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import build_tokenizer
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

TRAINING = ["the quick brown fox jumps over the lazy dog. it is a dog, is it? a fox it is. " * 20]
MARKS = ["<s>", "</s>", "<|a|>", "<|b|>", "<|a|><|b|>", "<|ab", "word", "<l>", "<r>", "<w>", "<n>", "<‖x▁y‖>"]
BITS = [*MARKS, " ", "  ", "\n", "the", " fox", "It is.", "é", "日本", "<", "|>", "_", "▁", "\u2028", "A"]
TEXTS = st.lists(st.lists(st.sampled_from(BITS), max_size=12).map("".join), max_size=6)

FLAGGED = [
    AddedToken("<s>", special=True, normalized=False),
    AddedToken("</s>", special=True, normalized=False),
    AddedToken("<|a|>", normalized=False),
    AddedToken("<|b|>", normalized=False),
    AddedToken("<|a|><|b|>", normalized=False),
    AddedToken("<|ab", normalized=False),
    AddedToken("word", normalized=False),
    AddedToken("<l>", lstrip=True, normalized=False),
    AddedToken("<r>", rstrip=True, normalized=False),
    AddedToken("<w>", single_word=True, normalized=False),
    AddedToken("<n>", normalized=True),
    AddedToken("<‖x▁y‖>", special=True, normalized=False),
]


def trained_bpe(pre_tokenizer: object, *, normalizer: object = None, unk: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>" if unk else None, byte_fallback=False))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"] if unk else [], show_progress=False)
    tokenizer.train_from_iterator(TRAINING, trainer)
    tokenizer.add_tokens(FLAGGED)
    return tokenizer


def byte_level() -> Tokenizer:
    tokenizer = trained_bpe(pre_tokenizers.ByteLevel(add_prefix_space=True))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    )
    return tokenizer


def llama_style() -> Tokenizer:
    """A ▁ before every piece, put there by the normalizer; no pre-tokenizer in the original, one word here."""
    prepend = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer = trained_bpe(pre_tokenizers.Split("▁", "merged_with_next"), normalizer=prepend, unk=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def mistral_style() -> Tokenizer:
    """A ▁ before the first word of the whole text only."""
    return trained_bpe(pre_tokenizers.Metaspace(prepend_scheme="first"), unk=True)


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TRAINING, trainer)
    tokenizer.add_tokens(FLAGGED)
    return tokenizer


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False)
    tokenizer.train_from_iterator(TRAINING, trainer)
    tokenizer.add_tokens(FLAGGED)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    return tokenizer


BUILDERS: dict[str, Callable[[], Tokenizer]] = {
    builder.__name__: builder for builder in (byte_level, llama_style, mistral_style, unigram, word_piece)
}


def expected(tokenizer: Tokenizer, texts: list[str], *, add_special_tokens: bool) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=add_special_tokens)]


def encoded(encoder: BatchEncoder, texts: list[str], *, add_special_tokens: bool) -> list[list[int]]:
    return [ids.tolist() for ids in encoder.encode(texts, add_special_tokens=add_special_tokens)]


@pytest.fixture(scope="module", params=list(BUILDERS))
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return BUILDERS[request.param]()


@settings(max_examples=80, deadline=None)
@given(batches=st.lists(TEXTS, max_size=3), special=st.booleans())
def test_every_tokenizer_gives_the_ids_of_encode_batch(
    tokenizer: Tokenizer, batches: list[list[str]], special: bool
) -> None:
    encoder = BatchEncoder(tokenizer, cache_chars=40)
    for texts in batches:
        assert encoded(encoder, texts, add_special_tokens=special) == expected(
            tokenizer, texts, add_special_tokens=special
        )


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(
        st.lists(
            st.one_of(st.sampled_from(["<|im_start|>", "<|im_end|>", "<|endoftext|>", "\n", " "]), st.text(max_size=8)),
            max_size=10,
        ).map("".join),
        max_size=6,
    )
)
def test_the_default_model_gives_the_ids_of_encode_batch(default_model_dir: Path, texts: list[str]) -> None:
    tokenizer = Tokenizer.from_file(str(default_model_dir / "tokenizer.json"))
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    encoder = BatchEncoder(tokenizer)
    for special in (True, False):
        assert encoded(encoder, texts, add_special_tokens=special) == expected(
            tokenizer, texts, add_special_tokens=special
        )


def test_only_tokens_without_reach_are_cut_at() -> None:
    cuts = ExactCuts.of(byte_level())
    assert cuts is not None
    assert cuts.parts("a<|a|>b <l>c<r> d<w>e<n>f word<|a|><|b|>g<|abh<s>") == [
        "a",
        "<|a|>b <l>c<r> d<w>e<n>f word",
        "<|a|><|b|>g<|abh",
        "<s>",
    ]
    assert cuts.parts("") == [""]
    assert cuts.parts("<s>a") == ["<s>a"]


def test_a_tokenizer_without_such_tokens_has_no_cuts() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.add_tokens([AddedToken("<n>", normalized=True), AddedToken("<r>", rstrip=True, normalized=False)])
    assert ExactCuts.of(tokenizer) is None


def test_a_tokenizer_that_splits_special_tokens_or_drops_merges_has_no_cuts() -> None:
    tokenizer = byte_level()
    assert ExactCuts.of(tokenizer) is not None
    tokenizer.encode_special_tokens = True
    assert ExactCuts.of(tokenizer) is None
    dropping = trained_bpe(pre_tokenizers.ByteLevel())
    state = json.loads(dropping.to_str())
    state["model"]["dropout"] = 0.5
    assert ExactCuts.of(Tokenizer.from_str(json.dumps(state))) is None


class CountingTokenizer:
    """A tokenizer that notes what it is asked to encode."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._tokenizer, name)

    def encode_batch_fast(self, texts: list[str], **options: object) -> object:
        self.asked += texts
        return self._tokenizer.encode_batch_fast(texts, **options)


def test_a_part_that_repeats_is_encoded_once(tmp_path: Path) -> None:
    build_tokenizer(tmp_path)
    counting = CountingTokenizer(Tokenizer.from_file(str(tmp_path / "tokenizer.json")))
    encoder = BatchEncoder(counting)  # type: ignore[arg-type]  # the one method that matters is its own
    encoder.encode([f"<s>[system]Be brief.<|end|>[user]{i}" for i in range(3)], add_special_tokens=False)
    encoder.encode(["<s>[system]Be brief.<|end|>[user]1"], add_special_tokens=True)
    assert counting.asked == ["<s>[system]Be brief.", *(f"<|end|>[user]{i}" for i in range(3))]


def test_each_text_has_an_array_of_its_own(tmp_path: Path) -> None:
    build_tokenizer(tmp_path)
    encoder = BatchEncoder(Tokenizer.from_file(str(tmp_path / "tokenizer.json")))
    first, second = encoder.encode(["same", "same"], add_special_tokens=False)
    first[:] = 0
    assert second.tolist() != first.tolist()
    assert encoder.encode(["same"], add_special_tokens=False)[0].tolist() == second.tolist()


def test_the_cache_forgets_what_was_not_asked_for_lately() -> None:
    cache = PartCache(8)
    ids = {name: np.array([index], dtype=np.int32) for index, name in enumerate(("aa", "bb", "cc", "dd"))}
    for name in ("aa", "bb", "cc"):
        cache.put(name, ids[name])  # cc begins a new generation
    assert cache.get("aa") is ids["aa"]
    cache.put("dd", ids["dd"])  # and another one: bb is forgotten
    assert [cache.get(name) is not None for name in ("aa", "bb", "cc", "dd")] == [True, False, True, True]
    cache.put("too long", ids["aa"])
    assert cache.get("too long") is None
    assert len(cache) <= 4
