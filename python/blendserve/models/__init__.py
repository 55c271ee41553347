"""Models: their folders, settings, weights and forward pass. Importing this package does not import torch."""

from __future__ import annotations

from blendserve.models.config import ModelConfig
from blendserve.models.model import Model
from blendserve.models.registry import load_model, read_config, resolve_model
from blendserve.models.shape import ModelShape

__all__ = ["Model", "ModelConfig", "ModelShape", "load_model", "read_config", "resolve_model"]
