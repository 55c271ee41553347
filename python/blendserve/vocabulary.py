"""Whether a model knows the token ids that it is given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blendserve.errors import RequestError

__all__ = ["check_vocabulary"]


def check_vocabulary(name: str, ids: NDArray[np.int32], vocab_size: int) -> None:
    """Raises `RequestError` that calls `ids` [p] `name` if one is not in the model's vocabulary."""
    if ids.view(np.uint32).max(initial=0) < vocab_size:  # in which one below 0 is large
        return
    out_of_range = ids[(ids < 0) | (ids >= vocab_size)]
    raise RequestError(
        f"token id {out_of_range[0]} in {name} is out of range; this model's vocabulary has ids 0 to {vocab_size - 1}",
        code="token_id_out_of_range",
        param=name,
    )
