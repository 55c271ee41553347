"""From what the user calls a model to its folder and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from blendserve.errors import ModelError, UserError
from blendserve.models.config import ModelConfig
from blendserve.models.default_model import DEFAULT_MODEL_NAME, default_model_dir

if TYPE_CHECKING:
    import torch

    from blendserve.models.decoder import Decoder

__all__ = ["load_model", "resolve_model"]


def resolve_model(name_or_dir: str | None) -> Path:
    """The folder of a model; None and the default model's name give the default model.

    Raises `UserError` when there is no such folder, or the default model's package is not installed.
    """
    if name_or_dir is None or name_or_dir == DEFAULT_MODEL_NAME:
        return default_model_dir()
    model_dir = Path(name_or_dir).expanduser()
    if model_dir.is_dir():
        return model_dir
    if model_dir.exists():
        raise ModelError(f"model {name_or_dir!r} is a file; a folder in the Hugging Face format is expected")
    raise UserError(
        f"there is no model folder {name_or_dir!r}: models are not downloaded; give an existing folder in the Hugging"
        f" Face format, or {DEFAULT_MODEL_NAME!r}"
    )


def load_model(model_dir: Path, config: ModelConfig, *, dtype: torch.dtype, device: torch.device) -> Decoder:
    """Reads the weights in `dtype` onto `device`.

    Raises `UserError` for a dtype the device cannot run, `ModelError` for a broken folder.
    """
    import torch

    from blendserve.models.decoder import Decoder
    from blendserve.models.weights import Checkpoint

    supported = [torch.float32, torch.bfloat16] + ([torch.float16] if device.type == "cuda" else [])
    if dtype not in supported:
        names = ", ".join(str(each).removeprefix("torch.") for each in supported)
        raise UserError(f"dtype {str(dtype).removeprefix('torch.')} does not run on {device.type}; use one of: {names}")
    return Decoder(config, Checkpoint(model_dir), dtype, device)
