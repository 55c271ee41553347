"""What config.json and generation_config.json say about a model, as transformers 4 and 5 write them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from blendserve.errors import ModelError
from blendserve.models.json_fields import JsonFields

__all__ = ["SUPPORTED_ARCHITECTURES", "ModelConfig", "RopeConfig", "RopeType"]

SUPPORTED_ARCHITECTURES = ("LlamaForCausalLM",)

RopeType = Literal["default", "linear", "llama3"]

_DEFAULT_ROPE_THETA = 10_000.0


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary position embedding. `factor` belongs to linear and llama3, what follows it to llama3 alone."""

    theta: float = _DEFAULT_ROPE_THETA
    rope_type: RopeType = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 1.0
    original_max_position_embeddings: int = 0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """`dtype` is the one the folder names (None if it names none); `eos_token_ids` may be empty."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope: RopeConfig
    tie_word_embeddings: bool
    attention_bias: bool
    mlp_bias: bool
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    dtype: str | None

    @property
    def num_parameters(self) -> int:
        """All parameters, input embedding included, counted once if tied."""
        attended = self.num_heads * self.head_dim
        kv = self.num_kv_heads * self.head_dim
        attention = 2 * self.hidden_size * (attended + kv)
        mlp = 3 * self.hidden_size * self.intermediate_size
        biases = self.attention_bias * (attended + 2 * kv + self.hidden_size)
        biases += self.mlp_bias * (2 * self.intermediate_size + self.hidden_size)
        layer = attention + mlp + biases + 2 * self.hidden_size
        embeddings = (1 if self.tie_word_embeddings else 2) * self.vocab_size * self.hidden_size
        return embeddings + self.num_layers * layer + self.hidden_size

    @classmethod
    def from_dir(cls, model_dir: Path) -> ModelConfig:
        """Raises `ModelError` for a folder without a usable config.json or a model that is not supported."""
        path = model_dir / "config.json"
        if not path.is_file():
            raise ModelError(f"{model_dir} has no config.json: a folder in the Hugging Face format is expected")
        fields = JsonFields.read(path)
        architecture = _architecture(fields)
        _refuse_unsupported(fields)

        num_heads = fields.positive_int("num_attention_heads")
        num_kv_heads = fields.positive_int("num_key_value_heads") if "num_key_value_heads" in fields else num_heads
        if num_heads % num_kv_heads:
            raise ModelError(
                f"{path}: `num_attention_heads` ({num_heads}) is not a multiple of `num_key_value_heads`"
                f" ({num_kv_heads})"
            )
        hidden_size = fields.positive_int("hidden_size")
        head_dim = fields.positive_int("head_dim") if "head_dim" in fields else hidden_size // num_heads
        if head_dim < 2 or head_dim % 2:
            raise ModelError(f"{path}: `head_dim` must be even for rotary embeddings, not {head_dim}")

        generation_path = model_dir / "generation_config.json"
        generation = JsonFields.read(generation_path) if generation_path.is_file() else JsonFields("", {})
        bos_token_ids = fields.token_ids("bos_token_id") or generation.token_ids("bos_token_id")
        return cls(
            architecture=architecture,
            vocab_size=fields.positive_int("vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=fields.positive_int("intermediate_size"),
            num_layers=fields.positive_int("num_hidden_layers"),
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            max_position_embeddings=fields.positive_int("max_position_embeddings"),
            rms_norm_eps=fields.positive_number("rms_norm_eps"),
            rope=_rope(fields),
            tie_word_embeddings=fields.flag("tie_word_embeddings", default=False),
            attention_bias=fields.flag("attention_bias", default=False),
            mlp_bias=fields.flag("mlp_bias", default=False),
            bos_token_id=bos_token_ids[0] if bos_token_ids else None,
            eos_token_ids=generation.token_ids("eos_token_id") or fields.token_ids("eos_token_id"),
            dtype=next((fields.text(key) for key in ("dtype", "torch_dtype") if key in fields), None),
        )


def _architecture(fields: JsonFields) -> str:
    names = fields.require("architectures")
    if not isinstance(names, list) or not names:
        raise fields.mistyped("architectures", "a list of names")
    for name in names:
        if name in SUPPORTED_ARCHITECTURES:
            return str(name)
    raise ModelError(
        f"{fields.source}: architecture {', '.join(map(str, names))} is not supported;"
        f" supported: {', '.join(SUPPORTED_ARCHITECTURES)}"
    )


def _refuse_unsupported(fields: JsonFields) -> None:
    if "quantization_config" in fields:
        method = fields.child("quantization_config").values.get("quant_method", "unknown")
        raise ModelError(
            f"{fields.source}: `quantization_config` (quant_method {method!r}) is not supported;"
            " use the model's unquantized weights"
        )
    if "hidden_act" in fields and fields.values["hidden_act"] != "silu":
        raise ModelError(f"{fields.source}: `hidden_act` {fields.values['hidden_act']!r} is not supported; only 'silu'")


def _rope(fields: JsonFields) -> RopeConfig:
    """transformers 5 writes one `rope_parameters` object, transformers 4 `rope_theta` beside `rope_scaling`."""
    key = next((key for key in ("rope_parameters", "rope_scaling") if key in fields), None)
    settings = fields.child(key) if key else JsonFields(fields.source, {})
    if "partial_rotary_factor" in settings and settings.positive_number("partial_rotary_factor") != 1.0:
        raise settings.mistyped("partial_rotary_factor", "1.0")

    theta_fields = next((place for place in (settings, fields) if "rope_theta" in place), None)
    theta = theta_fields.positive_number("rope_theta") if theta_fields else _DEFAULT_ROPE_THETA
    rope_type = next((settings.values[name] for name in ("rope_type", "type") if name in settings), "default")
    match rope_type:
        case "default":
            return RopeConfig(theta=theta)
        case "linear":
            return RopeConfig(theta=theta, rope_type="linear", factor=settings.positive_number("factor"))
        case "llama3":
            return RopeConfig(
                theta=theta,
                rope_type="llama3",
                factor=settings.positive_number("factor"),
                low_freq_factor=settings.positive_number("low_freq_factor"),
                high_freq_factor=settings.positive_number("high_freq_factor"),
                original_max_position_embeddings=settings.positive_int("original_max_position_embeddings"),
            )
    raise ModelError(
        f"{settings.source}: rope_type {rope_type!r} is not supported; supported: {', '.join(get_args(RopeType))}"
    )
