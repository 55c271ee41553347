"""What the device of this machine can do, measured on the shapes of a model, for the performance model."""

from __future__ import annotations

from blendserve.profiling.profile import profile_device

__all__ = ["profile_device"]
