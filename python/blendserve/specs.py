"""Models and devices as the performance model sees them."""

from __future__ import annotations

import os
from pathlib import Path

from blendserve import _core
from blendserve._core import DeviceSpec
from blendserve.errors import ModelError
from blendserve.models.architecture import read_architecture

__all__ = ["DeviceSpec", "ModelSpec"]


class ModelSpec(_core.ModelSpec):
    """What the performance model needs to know of a model: by name, from a model folder, or from figures."""

    @classmethod
    def named(
        cls, name: str, *, weight_bytes: int = 2, kv_bytes: int | None = None, cascade_attention: bool = False
    ) -> ModelSpec:
        """A well-known model with the parameters its authors publish; an unknown name is a ValueError that lists them.

        Elements of the weights take `weight_bytes`: 4 (fp32), 2 (fp16, bf16) or 1 (fp8, int8); those of the KV cache
        `kv_bytes` (None: as many).
        """
        return cls(
            _core.ModelSpec.named(name),
            weight_bytes=weight_bytes,
            kv_bytes=weight_bytes if kv_bytes is None else kv_bytes,
            cascade_attention=cascade_attention,
        )

    @classmethod
    def from_hf(
        cls,
        path: str | os.PathLike[str],
        *,
        weight_bytes: int = 2,
        kv_bytes: int | None = None,
        cascade_attention: bool = False,
    ) -> ModelSpec:
        """A model folder, or its config.json, in the Hugging Face format; the parameters are counted from its sizes.

        The name is the folder's; element sizes are as in `named`, whatever the folder stores. Raises `ModelError` for a
        config.json that is missing or broken, and names a key that it lacks.
        """
        config = Path(path)
        if config.is_dir():
            config = config / "config.json"
        architecture = read_architecture(config)
        try:
            spec = architecture.spec(config.resolve().parent.name)
        except ValueError as error:
            raise ModelError(f"{config}: {error}") from error
        return cls(
            spec,
            weight_bytes=weight_bytes,
            kv_bytes=weight_bytes if kv_bytes is None else kv_bytes,
            cascade_attention=cascade_attention,
        )
