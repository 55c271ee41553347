"""The exact bytes of single tokens, which a decoder that joins and cleans whole texts does not give."""

from __future__ import annotations

import re

from tokenizers import Tokenizer

__all__ = ["TokenBytes"]

_SPACE_MARK = "▁"  # how SentencePiece writes a space
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenBytes:
    """Knows byte-level BPE, SentencePiece-style vocabularies with or without byte fallback, and plain text tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._literals = {index: added.content for index, added in tokenizer.get_added_tokens_decoder().items()}
        decoder = tokenizer.decoder.__getstate__().decode() if tokenizer.decoder else ""
        self._is_byte_level = '"ByteLevel"' in decoder
        self._marks_spaces = _SPACE_MARK in decoder
        self._has_byte_fallback = '"ByteFallback"' in decoder

    def __call__(self, token_id: int) -> bytes:
        """Empty for an id that the vocabulary does not have."""
        if token_id in self._literals:
            return self._literals[token_id].encode()
        token = self._tokenizer.id_to_token(token_id)
        if token is None:
            return b""
        if self._is_byte_level:
            return b"".join(_BYTE_OF_CHARACTER.get(character) or character.encode() for character in token)
        if self._has_byte_fallback and (match := _BYTE_TOKEN.fullmatch(token)):
            return bytes.fromhex(match[1])
        return (token.replace(_SPACE_MARK, " ") if self._marks_spaces else token).encode()


def _byte_alphabet() -> dict[str, bytes]:
    """GPT-2's alphabet: printable Latin-1 characters stand for themselves, the other bytes for U+0100 and up."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): bytes([byte]) for byte in printable}
    return alphabet | {chr(256 + index): bytes([byte]) for index, byte in enumerate(others)}


_BYTE_OF_CHARACTER = _byte_alphabet()
