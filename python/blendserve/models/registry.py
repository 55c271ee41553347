"""From what the user calls a model to its folder, its settings and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from blendserve.errors import ModelError, UserError
from blendserve.models.config import ModelConfig
from blendserve.models.converted import convert_user_file
from blendserve.models.default_model import DEFAULT_MODEL_NAME, default_model_dir
from blendserve.models.families import FAMILIES
from blendserve.models.model import Model
from blendserve.models.shape import ModelShape, read_config_json

if TYPE_CHECKING:
    import torch

    from blendserve.config import WeightDtype

__all__ = ["load_model", "read_config", "resolve_model"]


def resolve_model(name_or_dir: str | None) -> Path:
    """The folder of a model; None and the default model's name give the default model, a .gguf file is converted once.

    Raises `UserError` when there is no such folder or file, or the default model's package is not installed.
    """
    if name_or_dir is None or name_or_dir == DEFAULT_MODEL_NAME:
        return default_model_dir()
    model_dir = Path(name_or_dir).expanduser()
    if model_dir.is_dir():
        return model_dir
    if model_dir.suffix == ".gguf" and model_dir.is_file():
        return convert_user_file(model_dir)
    if model_dir.exists():
        raise ModelError(f"model {name_or_dir!r} is a file; a folder in the Hugging Face format or a .gguf is expected")
    raise UserError(
        f"there is no model folder {name_or_dir!r}: models are not downloaded; give an existing folder in the Hugging"
        f" Face format, a .gguf file, or {DEFAULT_MODEL_NAME!r}"
    )


def read_config(model_dir: Path) -> ModelShape:
    """A `ModelConfig` for the families of `decoder`, else what transformers says of the model.

    Raises `ModelError` for a folder without a usable config.json or a model that is not supported.
    """
    names = read_config_json(model_dir).require("architectures")
    if isinstance(names, list) and names and not FAMILIES.keys() & set(map(str, names)):
        from blendserve.models.transformers_config import read_transformers_config

        return read_transformers_config(model_dir)
    return ModelConfig.from_dir(model_dir)


def load_model(
    model_dir: Path,
    config: ModelShape,
    *,
    dtype: torch.dtype,
    device: torch.device,
    attention: str = "torch_ref",
    weight_dtype: WeightDtype = "auto",
) -> Model:
    """Reads the weights in `dtype` onto `device`, for the forward pass that goes with the attention backend.

    Raises `UserError` for a dtype or weight_dtype that does not run there, `ModelError` for a broken folder.
    """
    import torch

    from blendserve.models.weights import Checkpoint

    supported = [torch.float32, torch.bfloat16] + ([torch.float16] if device.type == "cuda" else [])
    if dtype not in supported:
        names = ", ".join(str(each).removeprefix("torch.") for each in supported)
        raise UserError(f"dtype {str(dtype).removeprefix('torch.')} does not run on {device.type}; use one of: {names}")
    checkpoint = Checkpoint(model_dir)
    if isinstance(config, ModelConfig) and attention == "native_cpu":
        from blendserve.models.packed_decoder import PackedDecoder

        return PackedDecoder(config, checkpoint, dtype, weight_dtype)
    if weight_dtype != "auto":
        raise UserError(
            f"weight_dtype is {weight_dtype!r}, but only native_cpu runs packed weights, and only those of"
            f" {', '.join(FAMILIES)}; leave it at auto"
        )
    if isinstance(config, ModelConfig):
        from blendserve.models.decoder import Decoder

        return Decoder(config, checkpoint, dtype, device)
    from blendserve.models.transformers_decoder import TransformersDecoder

    return TransformersDecoder(config, model_dir, dtype, device)
