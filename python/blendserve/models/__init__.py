"""Models: their folders, settings, weights and forward pass. Importing this package does not import torch."""

from __future__ import annotations

from blendserve.models.config import ModelConfig
from blendserve.models.registry import load_model, resolve_model

__all__ = ["ModelConfig", "load_model", "resolve_model"]
