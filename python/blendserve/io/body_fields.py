"""Which fields a request body may have: supported, accepted without effect, or refused by name."""

from __future__ import annotations

from typing import Any, Literal

from blendserve.errors import RequestError
from blendserve.io.fields import JsonObject, not_supported, shown, unknown_field

__all__ = ["CHAT_URL", "COMPLETIONS_URL", "SUPPORTED", "Url", "check_field_names"]

Url = Literal["/v1/chat/completions", "/v1/completions"]
CHAT_URL: Url = "/v1/chat/completions"
COMPLETIONS_URL: Url = "/v1/completions"

_CHAT_FIELDS = frozenset({"messages", "top_logprobs", "chat_template_kwargs"})
_COMPLETION_FIELDS = frozenset({"prompt", "echo"})
_SHARED_FIELDS = frozenset(
    {
        "model",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "logit_bias",
        "seed",
        "max_tokens",
        "max_completion_tokens",
        "min_tokens",
        "stop",
        "stop_token_ids",
        "n",
        "logprobs",
        "ignore_eos",
        "max_repeated_tokens",
        "expected_output_tokens",
    }
)
SUPPORTED: dict[Url, frozenset[str]] = {
    CHAT_URL: _SHARED_FIELDS | _CHAT_FIELDS,
    COMPLETIONS_URL: _SHARED_FIELDS | _COMPLETION_FIELDS,
}

# They change who is billed, what is stored or how the answer travels, never the answer.
_WITHOUT_EFFECT = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "stream_options",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
    }
)

# Fields of the published API and of vLLM that would change the answer, each with the values that ask for nothing.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "add_generation_prompt": (True,),
    "allowed_token_ids": (),
    "audio": (),
    "bad_words": ([],),
    "best_of": (1,),
    "cache_salt": (),
    "chat_template": (),
    "continue_final_message": (False,),
    "documents": ([],),
    "early_stopping": (False,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "guided_choice": (),
    "guided_decoding_backend": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_whitespace_pattern": (),
    "include_reasoning": (),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "logits_processors": ([],),
    "mm_processor_kwargs": ({},),
    "modalities": (["text"],),
    "prediction": (),
    "priority": (0,),
    "prompt_embeds": (),
    "prompt_logprobs": (),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "stream": (False,),
    "structured_outputs": (),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "truncate_prompt_tokens": (),
    "typical_p": (1,),
    "use_beam_search": (False,),
    "verbosity": (),
    "web_search_options": (),
}
# A chat template writes the special tokens itself, a plain prompt gets them from the tokenizer.
_HARMLESS: dict[Url, dict[str, tuple[Any, ...]]] = {
    CHAT_URL: {**_UNSUPPORTED, "add_special_tokens": (False,), "echo": (False,)},
    COMPLETIONS_URL: {**_UNSUPPORTED, "add_special_tokens": (True,)},
}
# What else gives the answer that an unsupported field asks for.
_REMEDIES = {
    "best_of": "set n to the number of answers, ask for logprobs and take the best of them",
    "prompt_logprobs": f'set echo to true and give logprobs, on a row of "{COMPLETIONS_URL}"',
}


def check_field_names(body: JsonObject, url: Url) -> None:
    """Raises `RequestError` for the first field that asks for what would be ignored; null asks for nothing."""
    supported, harmless = SUPPORTED[url], _HARMLESS[url]
    for name, value in body.fields.items():
        if value is None or name in supported or name in _WITHOUT_EFFECT:
            continue
        path = body.path_of(name)
        if name in harmless:
            if not any(_same(value, allowed) for allowed in harmless[name]):
                raise not_supported(path, value, _REMEDIES.get(name) or _remedy(harmless[name]))
        elif name in _CHAT_FIELDS or name in _COMPLETION_FIELDS:
            other = CHAT_URL if name in _CHAT_FIELDS else COMPLETIONS_URL
            raise RequestError(f"{path} is a field of {other}, but this row's url is {url}; remove it", param=path)
        else:
            raise unknown_field(body.path, name, supported)


def _same(value: Any, allowed: Any) -> bool:
    """Equal as JSON values: true is not 1."""
    return isinstance(value, bool) is isinstance(allowed, bool) and bool(value == allowed)


def _remedy(harmless: tuple[Any, ...]) -> str:
    if not harmless or isinstance(harmless[0], (list, dict)):
        return "leave it out"
    return f"leave it out or set it to {' or '.join(shown(value) for value in harmless)}"
