from __future__ import annotations

from collections.abc import Sequence

import pytest
from blendserve.text.detokenizer import (
    Decode,
    IncrementalDetokenizer,
    StopChecker,
    StopMatch,
    final_text,
    find_stop,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXT = st.text(st.sampled_from("ab .é€😀") | st.characters(codec="utf-8", exclude_characters="\ufffd"), max_size=40)
STOP_STRING = st.text(st.sampled_from("ab .é€😀"), min_size=1, max_size=4)


class ByteTokens:
    """A toy vocabulary: token i is a run of bytes; the text is all bytes joined, with U+FFFD for what is no UTF-8."""

    def __init__(self, *tokens: bytes) -> None:
        self.tokens = tokens

    @property
    def ids(self) -> list[int]:
        return list(range(len(self.tokens)))

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.tokens[i] for i in ids).decode("utf-8", "replace")


class CountingDecode:
    def __init__(self, decode: Decode) -> None:
        self.decode = decode
        self.longest = 0

    def __call__(self, ids: Sequence[int]) -> str:
        self.longest = max(self.longest, len(ids))
        return self.decode(ids)


@st.composite
def splits(draw: st.DrawFn, text: st.SearchStrategy[str] = TEXT) -> tuple[str, ByteTokens]:
    """A text with its UTF-8 bytes cut anywhere, a few empty tokens among them."""
    drawn = draw(text)
    content = drawn.encode()
    places = st.integers(0, len(content))
    cuts = sorted(draw(st.lists(places, max_size=30, unique=True)) + draw(st.lists(places, max_size=4)))
    return drawn, ByteTokens(*(content[i:j] for i, j in zip([0, *cuts], [*cuts, len(content)], strict=True)))


@st.composite
def stops_for(draw: st.DrawFn, text: str) -> list[str]:
    """Stop strings, some of them parts of the text."""
    part = st.tuples(st.integers(0, max(0, len(text) - 1)), st.integers(1, 6)).map(lambda p: text[p[0] : p[0] + p[1]])
    return draw(st.lists(STOP_STRING | part.filter(bool) if text else STOP_STRING, min_size=1, max_size=3))


def slow_find_stop(text: str, stop: Sequence[str], after: int = 0) -> tuple[int, str] | None:
    for end in range(after + 1, len(text) + 1):
        ending_here = [string for string in stop if text[:end].endswith(string)]
        if ending_here:
            longest = max(ending_here, key=len)
            return end - len(longest), longest
    return None


def slow_check(decode: Decode, ids: Sequence[int], stop: Sequence[str], min_tokens: int = 0) -> StopMatch | None:
    """Decodes and searches everything after every token."""
    after = len(decode(ids[:min_tokens]).rstrip("\ufffd"))
    for num_tokens in range(min_tokens + 1, len(ids) + 1):
        text = decode(ids[:num_tokens])
        if found := slow_find_stop(text, stop, after):
            return StopMatch(found[1], text[: found[0]], num_tokens)
    return None


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("hello", ["x"], None),
        ("hello", ["l", "h"], (0, "h")),
        ("abcd", ["abcd", "bc"], (1, "bc")),  # "bc" is complete first
        ("abcd", ["bc", "abc", "c"], (0, "abc")),  # all end together: the longest
        ("abab", ["ab"], (0, "ab")),
    ],
)
def test_the_stop_string_that_is_complete_first_wins(text: str, stop: list[str], expected: tuple[int, str] | None):
    assert find_stop(text, stop) == expected


@given(
    st.text("ab", max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=4),
    st.integers(0, 13),
)
def test_find_stop_agrees_with_a_search_character_by_character(text: str, stop: list[str], after: int):
    assert find_stop(text, stop, after) == slow_find_stop(text, stop, after)


def test_a_stop_string_among_the_first_tokens_is_no_match_and_one_that_ends_behind_them_is():
    tokens = ByteTokens(b"one END", b" two E", b"ND END")
    assert StopChecker(tokens.decode, ["END"], min_tokens=1).append([0, 1]) is None
    assert StopChecker(tokens.decode, ["END"], min_tokens=2).append([0, 1, 2]) == StopMatch("END", "one END two ", 3)
    assert StopChecker(tokens.decode, ["END"], min_tokens=3).append([0, 1, 2]) is None


def test_a_character_that_the_first_tokens_begin_is_complete_behind_them():
    tokens = ByteTokens(b"a\xf0\x9f", b"\x98\x80")
    assert StopChecker(tokens.decode, ["😀"], min_tokens=1).append([0, 1]) == StopMatch("😀", "a", 2)


def test_a_stop_string_across_three_tokens_is_found_and_cut():
    tokens = ByteTokens(b"one E", b"N", b"D two", b" three")
    checker = StopChecker(tokens.decode, ["END"])
    assert checker.append([0]) is None
    assert checker.append([1]) is None
    assert checker.append([2]) == StopMatch("END", "one ", 3)


def test_a_stop_string_is_found_before_an_unfinished_character_behind_it():
    tokens = ByteTokens("x€".encode()[:-1], b"\xac")
    assert StopChecker(tokens.decode, ["x"]).append([0]) == StopMatch("x", "", 1)


def test_a_stop_string_of_characters_split_over_tokens_is_found_when_they_are_complete():
    tokens = ByteTokens(*(bytes([byte]) for byte in "a😀b".encode()))
    assert StopChecker(tokens.decode, ["😀"]).append(tokens.ids) == StopMatch("😀", "a", 5)


@given(st.data())
@settings(deadline=None)
def test_any_split_of_any_text_stops_where_the_whole_string_search_does(data: st.DataObject):
    text, tokens = data.draw(splits())
    stop = data.draw(stops_for(text))
    match = StopChecker(tokens.decode, stop).append(tokens.ids)
    found = find_stop(text, stop)
    assert (match and (len(match.text), match.stop)) == found
    assert match == slow_check(tokens.decode, tokens.ids, stop)
    min_tokens = data.draw(st.integers(0, len(tokens.ids)))
    match = StopChecker(tokens.decode, stop, min_tokens).append(tokens.ids)
    assert match == slow_check(tokens.decode, tokens.ids, stop, min_tokens)


@given(st.data())
@settings(deadline=None)
def test_tokens_one_at_a_time_or_together_give_the_same_match(data: st.DataObject):
    text, tokens = data.draw(splits())
    stop = data.draw(stops_for(text))
    checker = StopChecker(tokens.decode, stop)
    one_at_a_time = next((match for i in tokens.ids if (match := checker.append([i]))), None)
    assert one_at_a_time == StopChecker(tokens.decode, stop).append(tokens.ids)


@given(splits())
@settings(deadline=None)
def test_the_pieces_joined_are_the_text_without_replacement_characters(case: tuple[str, ByteTokens]):
    text, tokens = case
    detokenizer = IncrementalDetokenizer(tokens.decode)
    pieces = [detokenizer.append(i) for i in tokens.ids]
    assert "".join(pieces) == text


@given(st.lists(st.binary(max_size=3), max_size=30), st.lists(STOP_STRING, min_size=1, max_size=2))
@settings(deadline=None)
def test_a_match_in_any_bytes_is_one_of_the_whole_text(chunks: list[bytes], stop: list[str]):
    tokens = ByteTokens(*chunks)
    match = StopChecker(tokens.decode, stop).append(tokens.ids)
    if match is not None:
        assert find_stop(tokens.decode(tokens.ids[: match.num_tokens]), stop) == (len(match.text), match.stop)
        assert tokens.decode(tokens.ids).startswith(match.text + match.stop)


@pytest.mark.parametrize("token", [b"a", b"", b"\x80", b"\xe2", "\ufffd".encode()])
def test_the_window_stays_short_whatever_is_repeated(token: bytes):
    decode = CountingDecode(ByteTokens(token).decode)
    detokenizer = IncrementalDetokenizer(decode)
    pieces = [detokenizer.append(0) for _ in range(500)]
    assert decode.longest <= 18
    assert decode.decode([0] * 500).startswith("".join(pieces))


def test_characters_come_out_whole_when_every_token_ends_inside_one():
    text = "😀" * 50
    content = text.encode()
    tokens = ByteTokens(content[:3], *(content[i : i + 4] for i in range(3, len(content), 4)))
    decode = CountingDecode(tokens.decode)
    detokenizer = IncrementalDetokenizer(decode)
    assert [detokenizer.append(i) for i in tokens.ids] == ["", *"😀" * 50]
    assert decode.longest <= 4


def test_without_a_match_the_checker_never_decodes_the_whole_text():
    decode = CountingDecode(ByteTokens(b"a", b"b").decode)
    assert StopChecker(decode, ["bb", "aaab" * 200]).append([0, 1] * 300) is None
    assert decode.longest <= 3


def test_final_text_is_decoded_once_without_the_stop_token_or_cut_at_the_match():
    tokens = ByteTokens(b"a", b"b", b"<end>")
    assert final_text(tokens.decode, [0, 1]) == "ab"
    assert final_text(tokens.decode, [0, 1, 2], stop_token_at_end=True) == "ab"
    assert final_text(tokens.decode, [0, 1], stop_match=StopMatch("b", "a", 2)) == "a"


def byte_level_bpe() -> Tokenizer:
    """As GPT-2, Llama 3 and Qwen: bytes are the alphabet, merges are trained on a few lines."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["a stop is a stop", "Größe, 10 € und 😀 😀", "ab ab abba ab."], trainer)
    return tokenizer


def byte_fallback_bpe() -> Tokenizer:
    """As Llama 2: spaces are written ▁, unknown characters are byte tokens, the decoder strips the first space."""
    words = ["<s>", "▁", "a", "b", ".", "▁a", "▁b", "ab", "▁ab"]
    vocab = {token: i for i, token in enumerate(words + [f"<0x{byte:02X}>" for byte in range(256)])}
    merges = [("▁", "a"), ("▁", "b"), ("a", "b"), ("▁", "ab")]
    tokenizer = Tokenizer(models.BPE(vocab, merges, byte_fallback=True))
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    strip = decoders.Strip(" ", 1, 0)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip])
    return tokenizer


TOKENIZERS = {"byte level": byte_level_bpe(), "byte fallback": byte_fallback_bpe()}


@pytest.mark.parametrize("name", TOKENIZERS)
@given(st.data())
@settings(deadline=None, max_examples=60)
def test_real_tokenizers_give_the_whole_text_and_the_whole_string_matches(name: str, data: st.DataObject):
    tokenizer = TOKENIZERS[name]
    written = data.draw(TEXT)
    ids = tokenizer.encode(written).ids
    specials = data.draw(st.lists(st.integers(0, len(ids)), max_size=4))
    for place in sorted(specials, reverse=True):
        ids.insert(place, 0)  # a special token, skipped by the decoder
    detokenizer = IncrementalDetokenizer(tokenizer.decode)
    text = tokenizer.decode(ids)
    assert "".join(detokenizer.append(i) for i in ids) == text
    stop = data.draw(stops_for(text))
    assert StopChecker(tokenizer.decode, stop).append(ids) == slow_check(tokenizer.decode, ids, stop)
