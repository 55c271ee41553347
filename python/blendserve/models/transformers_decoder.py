"""Any decoder of transformers, its attention replaced by ours: slower than `decoder`, for families not known there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
import transformers

from blendserve.attention.base import AttentionBackend
from blendserve.errors import ModelError
from blendserve.models.finite import require_finite
from blendserve.models.layer_attention import LayerAttention, with_attention
from blendserve.models.model import Model
from blendserve.models.paged_check import paged_logits_error
from blendserve.models.shape import ModelShape
from blendserve.models.transformers_config import has_windows, loading_errors

__all__ = ["TransformersDecoder"]

_IMPLEMENTATION = "blendserve"  # the name of our attention in the registry of transformers
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.01}  # what rounding may do to logits

# Gets the attention module, q, k and v, [T, heads, head_dim] each, and the module's settings; returns what is attended.
_Attend = Callable[[Any, torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]], torch.Tensor]

# Of the forward pass under way; not an argument of it, because some models do not hand arguments on to their layers.
_attend: ContextVar[_Attend] = ContextVar("attend")


def _packed_attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **settings: Any
) -> tuple[torch.Tensor, None]:
    """As transformers calls attention, with tensors [1, heads, T, head_dim]; the backend needs no mask."""
    q, k, v = (each[0].transpose(0, 1).contiguous() for each in (query, key, value))
    return _attend.get()(module, q, k, v, settings)[None], None


transformers.AttentionInterface.register(_IMPLEMENTATION, _packed_attention)


class TransformersDecoder(Model):
    """A decoder whose layers need no more than our attention does.

    One that does is refused: by name where it says so, else because its logits for a short text are not those that
    transformers computes by itself.
    """

    def __init__(self, shape: ModelShape, model_dir: Path, dtype: torch.dtype, device: torch.device) -> None:
        self._model = _load(model_dir, dtype).to(device)
        self._selects_rows = "logits_to_keep" in inspect.signature(self._model.forward).parameters
        self.device = device
        with loading_errors(model_dir):
            self.config = with_attention(shape, self._ask_layers())
        if has_windows(self._model.config) and not any(self.config.windows):
            raise ModelError(f"{shape.architecture} has windows that it does not tell attention; it is not supported")
        error = paged_logits_error(self, self._eager_logits, device)
        if not error <= _TOLERANCE[dtype]:
            raise ModelError(
                f"{shape.architecture} answers otherwise with paged attention than alone (logits differ by {error:.2g}"
                " of their size): attention biases (ALiBi), sinks and recurrent states are not supported"
            )

    @torch.inference_mode()
    def forward(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        attention: AttentionBackend,
        logit_rows: torch.Tensor,
    ) -> torch.Tensor:
        def attend(module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, _: dict[str, Any]) -> torch.Tensor:
            return attention.forward(module.layer_idx, q, k, v)

        return self._run(token_ids, positions, attend, logit_rows).float()

    def _run(
        self, token_ids: torch.Tensor, positions: torch.Tensor, attend: _Attend, logit_rows: torch.Tensor
    ) -> torch.Tensor:
        selected = {"logits_to_keep": logit_rows} if self._selects_rows else {}
        before = _attend.set(attend)
        try:
            logits: torch.Tensor = self._model(
                input_ids=token_ids[None], position_ids=positions[None], use_cache=False, **selected
            ).logits[0]
        finally:
            _attend.reset(before)
        return logits if self._selects_rows else logits[logit_rows]

    @torch.inference_mode()
    def _ask_layers(self) -> dict[int, LayerAttention]:
        """What each layer asks of attention when two tokens pass through it."""
        asked = {}

        def note(
            module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, settings: dict[str, Any]
        ) -> torch.Tensor:
            asked[module.layer_idx] = LayerAttention.of(q, k, v, settings)
            return q.new_zeros(len(q), q.shape[1], v.shape[2])

        tokens = torch.zeros(2, dtype=torch.int64, device=self.device)
        self._model.set_attn_implementation(_IMPLEMENTATION)
        self._run(tokens, torch.arange(2, device=self.device), note, tokens)
        return asked

    @torch.inference_mode()
    def _eager_logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """As transformers computes them by itself, for one sequence."""
        self._model.set_attn_implementation("eager")
        logits: torch.Tensor = self._model(input_ids=tokens[None], use_cache=False).logits[0]
        self._model.set_attn_implementation(_IMPLEMENTATION)
        return logits.float()


def _load(model_dir: Path, dtype: torch.dtype) -> Any:
    auto: Any = transformers.AutoModelForCausalLM
    with loading_errors(model_dir), _without_progress_bar():
        model, loaded = auto.from_pretrained(
            model_dir,
            dtype=dtype,
            attn_implementation="eager",
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    if loaded["missing_keys"]:
        raise ModelError(f"{model_dir} has no tensor {sorted(loaded['missing_keys'])[0]!r}")
    for name, parameter in model.named_parameters():
        require_finite(parameter, parameter, name, model_dir)
    return model.eval()


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """It would draw over ours."""
    logging: Any = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
