"""From token ids to text: at the end, once; or token by token where a stop string may end the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Decode", "IncrementalDetokenizer", "StopChecker", "StopMatch", "final_text", "find_stop"]

Decode = Callable[[Sequence[int]], str]

_REPLACEMENT = "\ufffd"  # what a decoder puts where bytes are no character, or not yet
_MAX_PENDING_TOKENS = 8  # a character takes 4 tokens at most (a byte each); the rest is for silent tokens among them


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


def find_stop(text: str, stop: Sequence[str], after: int = 0) -> tuple[int, str] | None:
    """Where the text is cut and the stop string found there: the one complete first, reading from the left, of those
    that end behind the first `after` characters.

    Of two that end together the longer wins, which begins earlier. So the answer is the same however the text is cut
    into tokens.
    """
    begins = [(text.find(string, max(0, after - len(string) + 1)), string) for string in stop]
    found = [(begin + len(string), -len(string), string) for begin, string in begins if begin >= 0]
    if not found:
        return None
    end, negative_len, string = min(found)
    return end + negative_len, string


class IncrementalDetokenizer:
    """The text of a growing token sequence, piece by piece, at a constant cost per token.

    A token's text depends on its neighbours, so a window of the last tokens is decoded: some as context, whose text was
    returned, then the pending ones. The context may begin inside a character; what that decodes to counts as returned.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._num_context = 0  # tokens
        self._num_returned = 0  # characters of the window's text

    def append(self, token_id: int) -> str:
        """The further text that is certain now; an unfinished character at its end is held back.

        Bytes that are no character are returned as U+FFFD once text follows them, or after a few tokens.
        """
        self._window.append(token_id)
        overdue = len(self._window) - self._num_context > _MAX_PENDING_TOKENS
        text = self._decode(self._window)
        certain = _certain_len(text, overdue)
        new_text = text[self._num_returned : certain]
        self._num_returned = max(self._num_returned, certain)
        if new_text or overdue:
            self._slide(overdue)
        elif 0 < certain == len(text):
            self._window.pop()  # a silent token
        return new_text

    def _slide(self, overdue: bool) -> None:
        """The pending tokens become the context, unless they are silent without the old one.

        Decoders that strip a leading space strip it from a window too; in a context with text that does no harm.
        """
        pending = self._window[self._num_context :]
        certain = _certain_len(self._decode(pending), overdue)
        if certain > 0:
            self._window, self._num_context, self._num_returned = pending, len(pending), certain
        elif overdue:
            del self._window[self._num_context :]


def _certain_len(text: str, overdue: bool) -> int:
    """How many characters no further token can change: all but replacement characters at the end, unless overdue."""
    return len(text) if overdue else len(text.rstrip(_REPLACEMENT))


class StopChecker:
    """Finds the stop strings (at least one) of one request in its text as tokens come, also across token borders.

    The window's text only detects: on a hit the whole text is decoded and searched, so that a match is what
    `find_stop` finds in `decode` of all tokens up to then. What the first `min_tokens` tokens complete is no match.
    """

    def __init__(self, decode: Decode, stop: Sequence[str], min_tokens: int = 0) -> None:
        self._decode = decode
        self._stop = tuple(stop)
        self._min_tokens = min_tokens
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
            may_end = len(self._token_ids) > self._min_tokens
            if may_end and find_stop(recent, self._stop) and (match := self._match()):
                return match
            self._tail = recent[max(0, len(recent) - self._overlap) :]
        return None

    def _match(self) -> StopMatch | None:
        text = self._decode(self._token_ids)
        certain = _certain_len(self._decode(self._token_ids[: self._min_tokens]), overdue=False)
        found = find_stop(text, self._stop, after=certain)
        return StopMatch(found[1], text[: found[0]], len(self._token_ids)) if found else None
