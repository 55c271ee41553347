from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from blendserve.errors import ModelError, RequestError
from blendserve.text.tokenizer import Tokenizer
from tiny_models import BOS_ID, TURN_END_ID, build_tokenizer, edit_json, write_tokenizer
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, normalizers
from tokenizers.models import BPE
from transformers import AutoTokenizer

TEXTS = ["The quick brown fox", "", "  two  spaces\n\n\tand 123 , naïve 日本語 🦊", "<s>already there", "x" * 3000]
USER = [{"role": "user", "content": "Hello there"}]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tokenizer(tmp_path_factory.mktemp("byte_level"))


@pytest.fixture(scope="module")
def tokenizer(model_dir: Path) -> Tokenizer:
    return load(model_dir)


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A vocabulary as Llama 2 has it: spaces are ▁, what is not in it falls back to bytes 3..258."""
    words = ["▁", "h", "i", "▁h", "▁hi", "<sep▁>"]
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    vocab |= {word: 259 + index for index, word in enumerate(words)}
    rust = RustTokenizer(
        BPE(vocab=vocab, merges=[("▁", "h"), ("▁h", "i")], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    rust.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    rust.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    rust.add_special_tokens(["<unk>", "<s>", "</s>"])
    rust.add_tokens(["<sep▁>"])
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    return load(write_tokenizer(tmp_path_factory.mktemp("sentencepiece"), rust, settings))


def load(model_dir: Path) -> Tokenizer:
    tokenizer = Tokenizer.load(model_dir)
    assert tokenizer is not None
    return tokenizer


def test_ids_and_texts_equal_transformers(tokenizer: Tokenizer, model_dir: Path) -> None:
    reference = AutoTokenizer.from_pretrained(model_dir)
    for text in TEXTS:
        assert tokenizer.encode(text) == reference(text).input_ids
        assert tokenizer.encode(text, add_special_tokens=False) == reference(text, add_special_tokens=False).input_ids
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == reference.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
    assert tokenizer.encode_batch(TEXTS) == [tokenizer.encode(text) for text in TEXTS]
    assert tokenizer.encode_batch([]) == []
    assert tokenizer.vocab_size == len(reference)


def test_a_plain_prompt_starts_with_one_bos_token(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("Hello")[0] == BOS_ID
    assert tokenizer.encode("Hello").count(BOS_ID) == 1
    assert BOS_ID not in tokenizer.encode("Hello", add_special_tokens=False)
    assert tokenizer.encode("") == [BOS_ID]


def test_decode_gives_back_the_text_and_skips_special_tokens(tokenizer: Tokenizer) -> None:
    text = "A space before , and it 's kept 日本"
    assert tokenizer.decode([*tokenizer.encode(text), TURN_END_ID]) == text
    assert tokenizer.decode([]) == ""


def test_a_chat_has_one_bos_token_and_asks_for_the_answer(tokenizer: Tokenizer) -> None:
    expected = tokenizer.encode("<s>[user]Hello there<|end|>[assistant]", add_special_tokens=False)
    assert expected.count(BOS_ID) == 1
    assert tokenizer.encode_chat(USER, {}) == expected


@pytest.mark.parametrize(
    ("messages", "kwargs", "rendered"),
    [
        (USER, {"mood": "calm"}, "<s>[user]Hello there<|end|>[assistant](calm)"),
        (USER, {"add_generation_prompt": False}, "<s>[user]Hello there<|end|>"),
        (
            [*USER, {"role": "assistant", "content": "Well"}],
            {"continue_final_message": True},
            "<s>[user]Hello there<|end|>[assistant]Well",
        ),
    ],
)
def test_template_kwargs_reach_the_template(
    tokenizer: Tokenizer, messages: list[dict[str, str]], kwargs: dict[str, Any], rendered: str
) -> None:
    assert tokenizer.encode_chat(messages, kwargs) == tokenizer.encode(rendered, add_special_tokens=False)


def test_a_template_in_its_own_file_is_used(tmp_path: Path) -> None:
    build_tokenizer(tmp_path, chat_template=None)
    (tmp_path / "chat_template.jinja").write_text("{% for m in messages %}<{{ m.content }}>{% endfor %}")
    tokenizer = load(tmp_path)
    assert tokenizer.encode_chat(USER, {}) == tokenizer.encode("<Hello there>", add_special_tokens=False)


def test_a_model_without_a_template_refuses_chats(tmp_path: Path) -> None:
    tokenizer = load(build_tokenizer(tmp_path, chat_template=None))
    with pytest.raises(RequestError, match="no chat template; send the prompt as text to /v1/completions") as caught:
        tokenizer.encode_chat(USER, {})
    assert (caught.value.code, caught.value.param) == ("no_chat_template", "messages")


@pytest.mark.parametrize(
    ("messages", "kwargs", "reason"),
    [
        ([{"role": "wizard", "content": "hm"}], {}, "unknown role wizard"),
        ([], {}, "empty conversation"),
        ([{"role": "user", "content": "a"}], {"continue_final_message": True, "add_generation_prompt": True}, "not"),
    ],
)
def test_a_template_that_raises_is_an_error_of_the_request(
    tokenizer: Tokenizer, messages: list[dict[str, str]], kwargs: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RequestError, match=f"chat template refuses the messages: .*{reason}") as caught:
        tokenizer.encode_chat(messages, kwargs)
    assert caught.value.code == "chat_template_error"


@pytest.mark.parametrize("name", ["messages", "tokenize", "chat_template", "tools"])
def test_template_kwargs_cannot_replace_the_renderers_own_arguments(tokenizer: Tokenizer, name: str) -> None:
    with pytest.raises(RequestError, match=f"chat_template_kwargs must not set {name}") as caught:
        tokenizer.encode_chat(USER, {name: "x"})
    assert caught.value.param == f"chat_template_kwargs.{name}"


def test_a_lone_surrogate_is_an_error_of_the_request(tokenizer: Tokenizer) -> None:
    with pytest.raises(RequestError, match=r"the prompt is not valid Unicode: character 2 .* U\+D83D") as caught:
        tokenizer.encode("ab\ud83d")
    assert caught.value.code == "invalid_unicode"
    with pytest.raises(RequestError, match="prompt 1 is not valid Unicode"):
        tokenizer.encode_batch(["fine", "\udc00"])
    with pytest.raises(RequestError, match="the chat is not valid Unicode"):
        tokenizer.encode_chat([{"role": "user", "content": "\udc00"}], {})


def test_byte_level_tokens_give_the_bytes_of_the_text(tokenizer: Tokenizer) -> None:
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    assert tokenizer.token_text(tokenizer.encode(" the", add_special_tokens=False)[0])[0] == " "
    assert tokenizer.token_text(TURN_END_ID) == "<|end|>"


def test_part_of_a_character_shows_as_a_replacement_character(tokenizer: Tokenizer) -> None:
    first, *rest = tokenizer.encode("🦊", add_special_tokens=False)
    assert rest
    assert tokenizer.token_bytes(first) == b"\xf0"
    assert tokenizer.token_text(first) == "\N{REPLACEMENT CHARACTER}"


def test_sentencepiece_tokens_give_spaces_and_fallback_bytes(sentencepiece: Tokenizer) -> None:
    ids = sentencepiece.encode("hi hé\n", add_special_tokens=False)
    assert [sentencepiece.token_bytes(token) for token in ids] == [b" hi", b" h", b"\xc3", b"\xa9", b"\n"]
    assert [sentencepiece.token_text(token) for token in ids] == [" hi", " h", "\ufffd", "\ufffd", "\n"]
    assert sentencepiece.decode(ids) == "hi hé\n"
    assert sentencepiece.token_text(264) == "<sep▁>"


def test_an_id_beyond_the_vocabulary_is_empty(tokenizer: Tokenizer) -> None:
    beyond = tokenizer.vocab_size
    assert tokenizer.token_bytes(beyond) == b""
    assert tokenizer.token_text(beyond) == ""
    assert tokenizer.decode([beyond]) == ""


def test_truncation_and_padding_of_the_file_do_not_apply(tmp_path: Path) -> None:
    build_tokenizer(tmp_path)
    rust = RustTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    rust.enable_truncation(4)
    rust.enable_padding(length=64)
    rust.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load(tmp_path)
    assert tokenizer.decode(tokenizer.encode("one two three")) == "one two three"
    assert tokenizer.encode_batch(["a", "b c d e f g"])[0] == tokenizer.encode("a") != []
    assert len(tokenizer.encode("a")) == 2


def test_loading_is_quiet_and_touches_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("network access")

    attempts: list[str] = []
    monkeypatch.setattr(socket.socket, "connect", lambda *_: attempts.append("connect") or refuse())
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: attempts.append("lookup") or refuse())
    build_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "transformers_version": "4.46.0"}))
    load(tmp_path).encode("word " * 5000)
    assert attempts == []
    assert capfd.readouterr() == ("", "")


def test_a_folder_without_tokenizer_files_has_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert Tokenizer.load(tmp_path) is None


def test_a_broken_tokenizer_file_is_named(tmp_path: Path) -> None:
    build_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=f"the tokenizer of {tmp_path} cannot be loaded: "):
        Tokenizer.load(tmp_path)


def test_split_special_tokens_of_the_settings_is_kept(tmp_path: Path) -> None:
    build_tokenizer(tmp_path)
    edit_json(tmp_path / "tokenizer_config.json", lambda settings: settings.update(split_special_tokens=True))
    text = "a<|end|>"
    assert load(tmp_path).encode(text) == AutoTokenizer.from_pretrained(tmp_path)(text).input_ids
    assert TURN_END_ID not in load(tmp_path).encode(text)
