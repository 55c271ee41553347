"""What a request body says besides its prompt. Most rows of a job say the same, so equal settings are read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from blendserve.io.body_fields import CHAT_URL, COMPLETIONS_URL, Url, check_field_names
from blendserve.io.fields import MAX_INT32, JsonObject
from blendserve.io.sampling_fields import read_sampling_params
from blendserve.sampling_params import SamplingParams

__all__ = ["BodySettings", "read_settings"]

_PROMPT_FIELD = {CHAT_URL: "messages", COMPLETIONS_URL: "prompt"}
_NUM_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class BodySettings:
    """The fields of `BatchRequest` of the same names; rows share them."""

    model: str | None
    chat_template_kwargs: Mapping[str, Any]
    echo: bool
    params: SamplingParams
    expected_output_tokens: int | None


def read_settings(body: JsonObject, url: Url) -> BodySettings:
    """Raises `RequestError` for the first field that can't be used; the prompt's own is not looked at."""
    settings = dict(body.fields)
    settings.pop(_PROMPT_FIELD[url], None)
    return _settings_of(body.path, orjson.dumps(settings), url)


@lru_cache(_NUM_REMEMBERED)
def _settings_of(path: str, settings: bytes, url: Url) -> BodySettings:
    """Keyed by JSON, in which true is not 1."""
    body = JsonObject(path, orjson.loads(settings))
    check_field_names(body, url)
    return BodySettings(
        model=body.string("model"),
        chat_template_kwargs=body.mapping("chat_template_kwargs") or {},
        echo=body.boolean("echo") or False,
        params=read_sampling_params(body, url),
        expected_output_tokens=body.integer("expected_output_tokens", 1, MAX_INT32),
    )
