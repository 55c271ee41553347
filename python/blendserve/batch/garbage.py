"""Python's garbage collection while a job holds millions of objects, none of them in a cycle."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["rare_collections"]

# Of the three generations. Two windows of rows live at a time; the larger the first threshold, the more of them are
# freed before a collection walks over them. At Python's defaults that takes a sixth of a job's time on the host.
_THRESHOLDS = (2_000_000, 20, 100)


@contextmanager
def rare_collections() -> Iterator[None]:
    """What is in no cycle is freed as ever, as soon as nobody refers to it; what is, later than usual."""
    before = gc.get_threshold()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
