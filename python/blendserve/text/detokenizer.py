"""From token ids to text: at the end, once; or token by token where a stop string may end the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Decode", "IncrementalDetokenizer", "StopChecker", "StopMatch", "final_text", "find_stop"]

Decode = Callable[[Sequence[int]], str]

_REPLACEMENT = "\ufffd"  # what a decoder puts where bytes are no character, or not yet
_MAX_PENDING_TOKENS = 8  # a character has at most 4 bytes, one token each at worst; the rest is for silent tokens


@dataclass(frozen=True, slots=True)
class StopMatch:
    """`stop` was found once `num_tokens` tokens had come; `text` is all that stands before it."""

    stop: str
    text: str
    num_tokens: int


def final_text(
    decode: Decode, token_ids: Sequence[int], *, stop_token_at_end: bool = False, stop_match: StopMatch | None = None
) -> str:
    """The text of a finished request, without what ended it: a stop string, or the last token."""
    if stop_match is not None:
        return stop_match.text
    return decode(token_ids[:-1] if stop_token_at_end else token_ids)


def find_stop(text: str, stop: Sequence[str]) -> tuple[int, str] | None:
    """Where the text is cut and the stop string found there: the one complete first, reading from the left.

    Of two that end together the longer wins, which begins earlier. So the answer is the same however the text is cut
    into tokens.
    """
    found = [(text.find(string) + len(string), -len(string), string) for string in stop if string in text]
    if not found:
        return None
    end, negative_len, string = min(found)
    return end + negative_len, string


class IncrementalDetokenizer:
    """The text of a growing token sequence, piece by piece, at a constant cost per token.

    A token's text depends on its neighbours, so a window is decoded: some settled tokens as context, then the pending
    ones, whose text may still change because it ends in the middle of a character.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._num_context = 0  # settled tokens at the start of the window
        self._context_len = 0  # characters of their text
        self._num_returned = 0  # characters of the window's text returned so far, the context's included

    def append(self, token_id: int) -> str:
        """The further text that is certain now; an unfinished character at its end is held back.

        Bytes that are no character are returned as U+FFFD once text follows them, or after a few tokens.
        """
        self._window.append(token_id)
        text = self._decode(self._window)
        certain = len(text.rstrip(_REPLACEMENT))
        too_long = len(self._window) - self._num_context > _MAX_PENDING_TOKENS
        if too_long:
            certain = len(text)
        new_text = text[self._num_returned : certain]
        self._num_returned = max(self._num_returned, certain)
        if certain == len(text):
            self._settle(too_long)
        return new_text

    def _settle(self, too_long: bool) -> None:
        """The pending tokens become the context, if they have text of their own; else they are of no use as one.

        Decoders that strip a leading space do so in a window too, hence a context is never silent, except at the
        start of the sequence where nothing else has come.
        """
        pending = self._window[self._num_context :]
        pending_len = len(self._decode(pending))
        if pending_len > 0:
            self._window, self._num_context, self._context_len = pending, len(pending), pending_len
        elif self._num_context > 0 or too_long:
            del self._window[self._num_context :]
        self._num_returned = self._context_len


class StopChecker:
    """Finds the stop strings (at least one) of one request in its text as tokens come, also across token borders.

    The window's text only detects: on a hit the whole text is decoded and searched, so that a match is what
    `find_stop` finds in `decode` of all tokens up to then.
    """

    def __init__(self, decode: Decode, stop: Sequence[str]) -> None:
        self._decode = decode
        self._stop = tuple(stop)
        self._overlap = max(len(string) for string in self._stop) - 1
        self._detokenizer = IncrementalDetokenizer(decode)
        self._token_ids: list[int] = []
        self._tail = ""  # the last characters of the text, too few to hold the longest stop string

    def append(self, token_ids: Sequence[int]) -> StopMatch | None:
        """The match that the first of these tokens completes, if any; the tokens after it are not part of the answer.

        A stop token at the end of the answer is not text and stays out. Not to be called after a match.
        """
        for token_id in token_ids:
            self._token_ids.append(token_id)
            recent = self._tail + self._detokenizer.append(token_id)
            if find_stop(recent, self._stop) and (match := self._match()):
                return match
            self._tail = recent[max(0, len(recent) - self._overlap) :]
        return None

    def _match(self) -> StopMatch | None:
        text = self._decode(self._token_ids)
        found = find_stop(text, self._stop)
        return StopMatch(found[1], text[: found[0]], len(self._token_ids)) if found else None
