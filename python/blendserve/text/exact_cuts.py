"""Where a text may be cut so that its parts, encoded one by one, give the token ids of the whole."""

from __future__ import annotations

import re
from itertools import pairwise

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE

__all__ = ["ExactCuts"]


class ExactCuts:
    """Cuts a text before each of its added tokens (`<|im_start|>` and the like) that makes the cut exact.

    A tokenizer first looks for the added tokens that are not normalized, in the raw text and leftmost-longest, and then
    normalizes, splits and encodes what lies between them piece by piece: nothing but an added token's own flags reaches
    across it. The cut is before the token, not behind it, because a piece at the very start of a text may be treated
    otherwise (a metaspace before the first word only): in a part of its own it still follows its token.
    """

    def __init__(self, raw_tokens: list[AddedToken], cut_tokens: frozenset[str]) -> None:
        contents = sorted(
            (token.content for token in raw_tokens), key=len, reverse=True
        )  # longest first, as it matches
        self._raw_token = re.compile("|".join(map(re.escape, contents)))
        self._cut_tokens = cut_tokens

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> ExactCuts | None:
        """None for a tokenizer without exact cuts: none of its tokens allows one, or what it does is not known well."""
        if tokenizer.encode_special_tokens or _is_random(tokenizer):
            return None
        raw_tokens = [token for token in tokenizer.get_added_tokens_decoder().values() if not token.normalized]
        cut_tokens = frozenset(token.content for token in raw_tokens if _allows_cut(token))
        return cls(raw_tokens, cut_tokens) if cut_tokens else None

    def parts(self, text: str) -> list[str]:
        """The parts in order; together they are `text`. One that begins with no added token can only be the first."""
        starts = [match.start() for match in self._raw_token.finditer(text) if match[0] in self._cut_tokens]
        borders = [0, *(start for start in starts if start > 0), len(text)]
        return [text[begin:end] for begin, end in pairwise(borders)]


def _allows_cut(token: AddedToken) -> bool:
    """Neither it nor the flags of a neighbour reach across: those look for white space and letters at their sides."""
    if not token.content or token.lstrip or token.rstrip or token.single_word:
        return False
    return all(re.fullmatch(r"[^\w\s]", edge) is not None for edge in (token.content[0], token.content[-1]))


def _is_random(tokenizer: Tokenizer) -> bool:
    return isinstance(tokenizer.model, BPE) and bool(tokenizer.model.dropout)
