"""What transformers says of a model that is of none of our families."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from blendserve.errors import ModelError
from blendserve.models.families import FAMILIES
from blendserve.models.shape import ModelShape, read_config_json, token_fields

__all__ = ["has_windows", "loading_errors", "read_transformers_config"]

_LAYER_TYPES = {"full_attention", "sliding_attention"}
# With these, angles follow the longest sequence of a step, and one request's answer would depend on the others.
_ROPES_OF_THE_STEP = {"dynamic", "longrope"}


def read_transformers_config(model_dir: Path) -> ModelShape:
    """Without the windows, the scale and the cap of attention, which only the layers know (`TransformersDecoder`).

    Raises `ModelError` for a model that transformers does not know as a decoder, or whose layers do more than attend.
    """
    fields = read_config_json(model_dir)
    architecture = str(fields.values["architectures"][0])
    if not hasattr(transformers.PreTrainedModel, "set_attn_implementation"):
        raise ModelError(f"{architecture} needs transformers 4.56 or newer, not {transformers.__version__}")
    with loading_errors(model_dir):
        whole: Any = transformers.AutoConfig.from_pretrained(model_dir, trust_remote_code=False)
        config = whole.get_text_config(decoder=True)
        model = _without_weights(whole)
        if type(model).__name__ != architecture:
            raise ModelError(
                f"{fields.source}: architecture {architecture} is not supported, only {', '.join(FAMILIES)} and the"
                f" decoders of transformers, where `model_type` {whole.model_type!r} is {type(model).__name__}"
            )
        _refuse_unsupported(architecture, config)
        num_heads, num_layers = config.num_attention_heads, config.num_hidden_layers
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // num_heads
        return ModelShape(
            architecture=architecture,
            vocab_size=config.vocab_size,
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=getattr(config, "num_key_value_heads", None) or num_heads,
            head_dim=head_dim,
            num_parameters=model.num_parameters(),
            max_position_embeddings=config.max_position_embeddings,
            attention_scale=head_dim**-0.5,
            windows=(0,) * num_layers,
            **token_fields(fields, model_dir),
        )


def _without_weights(config: Any) -> Any:
    auto: Any = transformers.AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(config)


@contextmanager
def loading_errors(model_dir: Path) -> Iterator[None]:
    """What transformers raises for a model it cannot make, as a `ModelError`."""
    try:
        yield
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, AttributeError, ImportError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(
            f"{model_dir}: transformers {transformers.__version__} does not make a decoder of it: {reason}"
        ) from error


def has_windows(config: Any) -> bool:
    """Whether its layers, or some of them, attend to a window, as far as the config tells."""
    config = config.get_text_config(decoder=True)
    types = getattr(config, "layer_types", None)
    if types is not None:
        return "sliding_attention" in types
    return bool(getattr(config, "sliding_window", None)) and getattr(config, "use_sliding_window", True)


def _refuse_unsupported(architecture: str, config: Any) -> None:
    unknown = set(getattr(config, "layer_types", None) or ()) - _LAYER_TYPES
    if unknown:
        raise ModelError(
            f"{architecture} has layers of type {', '.join(sorted(unknown))}, which are not supported; choose a model"
            " whose layers all are full or sliding-window attention"
        )
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    types = {rope.get("rope_type")} | {each.get("rope_type") for each in rope.values() if isinstance(each, dict)}
    if types & _ROPES_OF_THE_STEP:
        raise ModelError(
            f"{architecture} has the rope_type {(types & _ROPES_OF_THE_STEP).pop()!r}, which is not supported; without"
            " it in config.json the model runs within its original context"
        )
