"""Tensors of a safetensors checkpoint, read straight into place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from blendserve.errors import ModelError
from blendserve.models.finite import require_finite
from blendserve.models.json_fields import JsonFields

__all__ = ["Checkpoint"]

_FLOAT_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class Checkpoint:
    """A model folder's tensors by name, in one file or in shards. The files are memory-mapped: nothing is held twice.

    Every error is a `ModelError` that names the file and the tensor.
    """

    def __init__(self, model_dir: Path) -> None:
        index_path = model_dir / "model.safetensors.index.json"
        single_path = model_dir / "model.safetensors"
        if index_path.is_file():
            self._source = index_path
            self._files = _files_of_index(index_path)
        elif single_path.is_file():
            self._source = single_path
            self._files = dict.fromkeys(_open(single_path).keys(), single_path)
        else:
            raise _no_checkpoint(model_dir)
        self._open_files: dict[Path, Any] = {}

    def read_into(self, destination: torch.Tensor, name: str) -> None:
        """Copies tensor `name` into `destination`, in the destination's dtype and device; the shapes must agree."""
        path = self._files.get(name)
        if path is None:
            raise ModelError(f"{self._source} has no tensor {name!r}")
        if path not in self._open_files:
            self._open_files[path] = _open(path)
        try:
            tensor = self._open_files[path].get_tensor(name)
        except SafetensorError as error:
            raise ModelError(f"{path} has no readable tensor {name!r}: {error}") from error
        if tensor.shape != destination.shape:
            raise ModelError(
                f"{path}: tensor {name!r} has shape {list(tensor.shape)}, but config.json asks for"
                f" {list(destination.shape)}"
            )
        if tensor.dtype not in _FLOAT_DTYPES:
            raise ModelError(
                f"{path}: tensor {name!r} has dtype {tensor.dtype}; unquantized floating point weights are expected"
            )
        destination.copy_(tensor)
        require_finite(destination, tensor, name, path)


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing: the folder's model.safetensors.index.json names it") from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    except SafetensorError as error:
        raise ModelError(f"{path} is not a whole safetensors file ({error}); fetch it again") from error


def _files_of_index(index_path: Path) -> dict[str, Path]:
    weight_map = JsonFields.read(index_path).child("weight_map").values
    files = {}
    for name, file_name in weight_map.items():
        if not isinstance(file_name, str) or Path(file_name).name != file_name:
            raise ModelError(f"{index_path}: `weight_map` gives tensor {name!r} no file name but {file_name!r}")
        files[name] = index_path.parent / file_name
    return files


def _no_checkpoint(model_dir: Path) -> ModelError:
    pickles = sorted(path.name for path in model_dir.glob("*.bin"))
    if pickles:
        return ModelError(
            f"{model_dir} has only pickled weights ({pickles[0]}), which are not loaded; convert the folder with"
            " transformers: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
        )
    return ModelError(f"{model_dir} has no weights: model.safetensors or model.safetensors.index.json is expected")
