"""Decoders in the shape of a model, their weights drawn at random: the same arithmetic, nothing to read."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from blendserve import _core
from blendserve.config import WeightDtype
from blendserve.models.config import ModelConfig
from blendserve.models.packed_decoder import PackedDecoder
from blendserve.models.weights import Checkpoint

__all__ = ["random_head", "random_layers", "tiny_decoder"]

_VOCAB_SIZE = 64  # where the head is not what is measured


class _RandomCheckpoint(Checkpoint):
    """Has every tensor that it is asked for."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)

    def read_into(self, destination: torch.Tensor, name: str) -> None:  # noqa: ARG002
        destination.normal_(std=0.02, generator=self._generator)


def random_layers(config: ModelConfig, num_layers: int, dtype: torch.dtype, weight_dtype: WeightDtype) -> PackedDecoder:
    """The first layers of a model, without their windows."""
    shape = dataclasses.replace(
        config,
        num_layers=num_layers,
        windows=(0,) * num_layers,
        vocab_size=_VOCAB_SIZE,
        tie_word_embeddings=True,
    )
    return PackedDecoder(shape, _RandomCheckpoint(), dtype, weight_dtype)


def tiny_decoder(config: ModelConfig) -> PackedDecoder:
    """A model of the family that takes next to no time."""
    shape = dataclasses.replace(config, hidden_size=64, intermediate_size=64, num_heads=1, num_kv_heads=1)
    return random_layers(shape, 1, torch.float32, "auto")


def random_head(config: ModelConfig, vocab_size: int, dtype: torch.dtype) -> _core.LmHead:
    weight = torch.empty(vocab_size, config.hidden_size, dtype=dtype).normal_(std=0.02)
    matrix = _core.PackedMatrix(weight, str(dtype).removeprefix("torch."))
    return _core.LmHead(
        norm=np.ones(config.hidden_size, np.float32),
        linear=_core.PackedLinear(matrix, None),
        rms_norm_eps=config.rms_norm_eps,
        softcap=config.final_softcap,
    )
