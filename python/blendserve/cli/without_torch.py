"""Tokenizers without torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["without_torch"]


@contextmanager
def without_torch() -> Iterator[None]:
    """transformers imports torch where it finds it, which takes seconds; its tokenizers do without, and it says so."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # how Python is told that a module is not there
    try:
        yield
    finally:
        del sys.modules["torch"]
