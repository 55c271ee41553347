"""A file of token ids as what the planner is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from blendserve.plan_job.read_tokens import read_tokens


def test_rows_with_token_ids_beyond_the_vocabulary_are_bad_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    path = str(tmp_path / "rows.npz")
    tokens = np.array([1, 10, 2, 3, 9, 12, 11], dtype=np.int32)
    np.savez(path, tokens=tokens, offsets=[0, 2, 4, 4, 5, 7], output_lengths=[1.0, 2.0, -1.0, 4.0, 5.0])
    prompts = read_tokens(path, mean_output=None, vocab_size=10)
    assert (prompts.tokens.tolist(), prompts.offsets.tolist()) == ([2, 3, 9], [0, 2, 2, 3])
    assert prompts.request_rows.tolist() == [1, 2, 3]
    assert prompts.output_lengths.tolist() == [2.0, -1.0, 4.0]
    assert [error.message.partition(";")[0] for error in prompts.bad_rows] == [
        "row 1: token id 10 in prompt is out of range",
        "row 5: token id 12 in prompt is out of range",
    ]
    assert (prompts.num_rows, prompts.length_sources) == (5, {"hint": 2, "default": 1})
    assert read_tokens(path, mean_output=None).bad_rows == ()
