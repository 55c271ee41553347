"""Amounts of time, and factors of them, as people read them."""

from __future__ import annotations

from dataclasses import dataclass

from blendserve._core import TimeCorrection

__all__ = ["TimeUnit", "correction_text", "duration"]


@dataclass(frozen=True, slots=True)
class TimeUnit:
    symbol: str
    seconds: float

    @classmethod
    def of(cls, seconds: float) -> TimeUnit:
        """The one in which an axis that ends at `seconds` has readable numbers."""
        if seconds < 1e-4:
            return cls("µs", 1e-6)
        if seconds < 1:
            return cls("ms", 1e-3)
        if seconds < 120:
            return cls("s", 1)
        return cls("min", 60) if seconds < 7200 else cls("h", 3600)


def duration(seconds: float) -> str:
    if 0 < seconds < 1e-2:
        unit = TimeUnit.of(seconds)
        return f"{seconds / unit.seconds:.3g} {unit.symbol}"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def correction_text(correction: TimeCorrection) -> str:
    return f"arithmetic x {correction.compute:.3g}, reads x {correction.memory:.3g}"
