"""The model that is planned for: what it costs to run, and who tokenizes for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blendserve.errors import UserError
from blendserve.models import resolve_model
from blendserve.models.default_model import DEFAULT_MODEL_NAME
from blendserve.specs import ModelSpec

__all__ = ["PlannedModel"]


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """`tokenizer_name` is what the user calls the folder whose tokenizer and chat template are used."""

    name: str
    spec: ModelSpec
    tokenizer_name: str

    @classmethod
    def resolve(
        cls, model: str | None, tokenizer: str | None, weight_bytes: int = 2, kv_bytes: int | None = None
    ) -> PlannedModel:
        """`model` is a folder or the name of a spec, `tokenizer` a folder or the default model's name; the bytes are
        those of `ModelSpec.named`.

        Without a tokenizer a folder uses its own, and a spec, which has none, the default model's. Raises `UserError`
        for a model that is neither; the tokenizer is looked for when it is used.
        """
        name = DEFAULT_MODEL_NAME if model is None else model
        folder = Path(name).expanduser()
        if folder.exists():
            spec = ModelSpec.from_hf(resolve_model(name), weight_bytes=weight_bytes, kv_bytes=kv_bytes)
            return cls(name, spec, tokenizer or name)
        try:
            spec = ModelSpec.named(name, weight_bytes=weight_bytes, kv_bytes=kv_bytes)
        except ValueError as error:
            raise UserError(f"--model {name} is no folder; {error}") from None
        return cls(name, spec, tokenizer or DEFAULT_MODEL_NAME)
