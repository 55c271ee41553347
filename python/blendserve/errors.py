"""Errors by cause. Every message names the value and the remedy."""

from __future__ import annotations

__all__ = ["BlendserveError", "ModelError", "RequestError", "UserError"]


class BlendserveError(Exception):
    """Base of every error this package raises on purpose."""


class UserError(BlendserveError, ValueError):
    """The caller passed something it must change."""


class ModelError(UserError):
    """A model folder cannot be used: a file is missing, broken, or of an architecture that is not supported."""


class RequestError(UserError):
    """One request cannot be answered; the others can. `code` is a short machine-readable cause, `param` the field."""

    def __init__(self, message: str, *, code: str = "invalid_request", param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param
