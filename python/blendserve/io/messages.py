"""The messages of a chat request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blendserve.io.fields import JsonObject, not_supported, refused, unknown_field

__all__ = ["read_messages"]

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_UNSUPPORTED_ROLES = frozenset({"tool", "function"})
_UNSUPPORTED_FIELDS = frozenset(
    {"tool_calls", "tool_call_id", "function_call", "audio", "refusal", "reasoning_content"}
)
_FIELDS = ("role", "content", "name")


def read_messages(body: JsonObject) -> tuple[Mapping[str, Any], ...]:
    """Returns role, content and, where given, name of each message; content is one string."""
    messages = body.required("messages", "a non-empty list of messages")
    path = body.path_of("messages")
    if not isinstance(messages, list) or not messages:
        raise refused(path, messages, "a non-empty list of messages")
    return tuple(_read_message(JsonObject.check(f"{path}[{i}]", message)) for i, message in enumerate(messages))


def _read_message(message: JsonObject) -> Mapping[str, Any]:
    role = _read_role(message)
    for name, value in message.fields.items():
        if value is None or name in _FIELDS:
            continue
        if name not in _UNSUPPORTED_FIELDS:
            raise unknown_field(message.path, name, _FIELDS)
        if value != []:
            raise not_supported(message.path_of(name), value, "leave it out")
    content = _read_content(message)
    author = message.string("name")
    return {"role": role, "content": content} if author is None else {"role": role, "content": content, "name": author}


def _read_role(message: JsonObject) -> str:
    rule = '"system", "developer", "user" or "assistant"'
    role = message.required("role", rule)
    if isinstance(role, str):
        if role in _ROLES:
            return _ROLES[role]
        if role in _UNSUPPORTED_ROLES:
            raise not_supported(message.path_of("role"), role, f"use {rule}")
    raise refused(message.path_of("role"), role, rule)


def _read_content(message: JsonObject) -> str:
    rule = "a string or a non-empty list of text parts"
    content = message.required("content", rule)
    if isinstance(content, str):
        return content
    path = message.path_of("content")
    if not isinstance(content, list) or not content:
        raise refused(path, content, rule)
    return "".join(_read_part(JsonObject.check(f"{path}[{i}]", part)) for i, part in enumerate(content))


def _read_part(part: JsonObject) -> str:
    kind = part.required("type", '"text"')
    if not isinstance(kind, str):
        raise refused(part.path_of("type"), kind, '"text"')
    if kind != "text":
        raise not_supported(part.path_of("type"), kind, 'use {"type": "text", "text": ...}')
    for name, value in part.fields.items():
        if value is not None and name not in ("type", "text"):
            raise unknown_field(part.path, name, ("type", "text"))
    text = part.required("text", "a string")
    if not isinstance(text, str):
        raise refused(part.path_of("text"), text, "a string")
    return text
