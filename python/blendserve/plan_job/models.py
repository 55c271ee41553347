"""The model that is planned for: what it costs to run, and who tokenizes for it; and the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import blendserve as bs
from blendserve.errors import UserError
from blendserve.models import resolve_model
from blendserve.models.default_model import DEFAULT_MODEL_NAME

__all__ = ["PlannedModel", "named_device"]


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """tokenizer_dir: the folder whose tokenizer and chat template are used; `tokenizer_name` is what to call it."""

    name: str
    spec: bs.ModelSpec
    tokenizer_name: str
    tokenizer_dir: Path

    @classmethod
    def resolve(cls, model: str | None, tokenizer: str | None) -> PlannedModel:
        """`model` is a folder, the name of a spec, or None for the default model; a spec needs a `tokenizer` folder.

        Raises `UserError` for what is neither. A spec by name is tokenized for by the default model unless told.
        """
        name = DEFAULT_MODEL_NAME if model is None else model
        model_dir = resolve_model(name) if name == DEFAULT_MODEL_NAME or Path(name).expanduser().exists() else None
        spec = _named(name) if model_dir is None else bs.ModelSpec.from_hf(model_dir)
        if tokenizer is None and model_dir is not None:
            return cls(name, spec, name, model_dir)
        tokenizer_name = DEFAULT_MODEL_NAME if tokenizer is None else tokenizer
        return cls(name, spec, tokenizer_name, resolve_model(tokenizer_name))


def _named(name: str) -> bs.ModelSpec:
    try:
        return bs.ModelSpec.named(name)
    except ValueError as error:
        raise UserError(f"--model {name} is no folder, and no known model: {error}") from None


def named_device(name: str, tp: int) -> bs.DeviceSpec:
    """Raises `UserError` that lists the known devices."""
    try:
        return bs.DeviceSpec.named(name, tp=tp)
    except ValueError as error:
        raise UserError(f"--hardware {name} --tp {tp}: {error}") from None
