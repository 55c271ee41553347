"""The prompt of a plain completion: text or token ids."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendserve.errors import RequestError
from blendserve.io.fields import JsonObject, refused, token_ids

__all__ = ["read_prompt"]

_RULE = "a non-empty string or a non-empty list of token ids"


def read_prompt(body: JsonObject) -> str | NDArray[np.int32]:
    """A list of exactly one prompt is that prompt; a list of several is refused. Token ids may be an array already."""
    prompt = body.required("prompt", _RULE)
    if isinstance(prompt, np.ndarray):
        return prompt
    path = body.path_of("prompt")
    if isinstance(prompt, list) and not {str, list}.isdisjoint(map(type, prompt)):
        if len(prompt) > 1:
            raise RequestError(f"{path} holds {len(prompt)} prompts; give each a line of its own", param=path)
        return _read_one(f"{path}[0]", prompt[0])
    return _read_one(path, prompt)


def _read_one(path: str, prompt: Any) -> str | NDArray[np.int32]:
    if isinstance(prompt, str) and prompt:
        return prompt
    if not isinstance(prompt, list) or not prompt:
        raise refused(path, prompt, _RULE)
    return token_ids(path, prompt)
