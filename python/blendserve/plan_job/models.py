"""The model that is planned for: what it costs to run, and who tokenizes for it; and the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blendserve.errors import UserError
from blendserve.models import resolve_model
from blendserve.models.default_model import DEFAULT_MODEL_NAME
from blendserve.specs import DeviceSpec, ModelSpec, read_device, with_tp

__all__ = ["PlannedModel", "named_device"]


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """`tokenizer_name` is what the user calls the folder whose tokenizer and chat template are used."""

    name: str
    spec: ModelSpec
    tokenizer_name: str

    @classmethod
    def resolve(cls, model: str | None, tokenizer: str | None) -> PlannedModel:
        """`model` is a folder or the name of a spec, `tokenizer` a folder or the default model's name.

        Without a tokenizer a folder uses its own, and a spec, which has none, the default model's. Raises `UserError`
        for a model that is neither; the tokenizer is looked for when it is used.
        """
        name = DEFAULT_MODEL_NAME if model is None else model
        folder = Path(name).expanduser()
        if folder.exists():
            return cls(name, ModelSpec.from_hf(resolve_model(name)), tokenizer or name)
        try:
            spec = ModelSpec.named(name)
        except ValueError as error:
            raise UserError(f"--model {name} is no folder; {error}") from None
        return cls(name, spec, tokenizer or DEFAULT_MODEL_NAME)


def named_device(name: str, tp: int | None) -> DeviceSpec:
    """A known device, or that of a JSON file; `tp` None is what the file says, else 1.

    Raises `UserError` that lists the known devices, or says what is wrong with the file.
    """
    if name.endswith(".json"):
        device = read_device(name)
        return device if tp is None else with_tp(device, tp)
    try:
        return DeviceSpec.named(name, tp=tp or 1)
    except ValueError as error:
        raise UserError(f"--hardware {name}: {error}") from None
