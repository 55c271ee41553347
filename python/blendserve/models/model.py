"""What every model in memory can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from blendserve.models.shape import ModelShape

if TYPE_CHECKING:
    import torch

    from blendserve.attention import AttentionBackend

__all__ = ["Model"]


class Model(ABC):
    """A forward pass changes nothing but the attention backend's KV cache."""

    config: ModelShape

    @abstractmethod
    def forward(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        attention: AttentionBackend,
        logit_rows: torch.Tensor,
    ) -> torch.Tensor:
        """Logits [M, vocab_size] float32 of the rows `logit_rows` [M] of the packed `token_ids` [T], all int64.

        `attention` has been planned for this step.
        """

    def most_likely(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        attention: AttentionBackend,
        logit_rows: torch.Tensor,
    ) -> torch.Tensor:
        """In place of `forward`: the ids [M] of the largest logits, lowest id first among equals."""
        return self.forward(token_ids, positions, attention, logit_rows).argmax(dim=-1)

    def reference(self) -> Model:
        """The same model on a slow and obvious path, which runs with torch_ref attention; itself if it is one."""
        return self
