from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from blendserve.attention import AttentionSpec
from blendserve.attention.base import StepTensors
from blendserve.attention.portion import Division, Portion, divide, windows_of_step


def make_step(*chunks: tuple[int, int]) -> StepTensors:
    """Of (tokens before this step, new tokens), in blocks of 16."""
    qo_lens = np.array([new for _, new in chunks], np.int32)
    kv_lens = np.array([before + new for before, new in chunks], np.int32)
    block_indptr = np.concatenate(([0], np.cumsum(-(-kv_lens // 16)))).astype(np.int32)
    return StepTensors(
        qo_indptr=np.concatenate(([0], np.cumsum(qo_lens))).astype(np.int32),
        kv_lens=kv_lens,
        block_indptr=block_indptr,
        block_table=np.arange(block_indptr[-1], dtype=np.int32),
        slot_mapping=np.arange(qo_lens.sum()),
        positions=np.arange(qo_lens.sum(), dtype=np.int32),
    )


# Two decodes, a whole prompt, a chunk behind a prefix, the last token of a prompt.
MIXED = make_step((40, 1), (7, 1), (0, 20), (32, 30), (15, 1))


def parts(division: Division) -> tuple[int, list[int], list[int], list[int]]:
    return division.num_decodes, division.prompts.tolist(), division.chunks.tolist(), division.rest.tolist()


def division(step: StepTensors = MIXED, window: int = 0, **changes: Any) -> tuple[int, list[int], list[int], list[int]]:
    settings: dict[str, Any] = {"has_cap": False, "has_decode": True, "takes_prefill": None}
    return parts(divide(step, window, **{**settings, **changes}))


def test_decodes_prompts_and_all_else_go_to_kernels_of_their_own() -> None:
    assert division() == (2, [2], [], [3, 4])


def test_a_head_that_decode_lacks_is_decoded_by_the_kernel_for_any_shape() -> None:
    assert division(has_decode=False) == (0, [2], [], [0, 1, 3, 4])


@pytest.mark.parametrize("changes", [{"window": 16}, {"has_cap": True}])
def test_windows_and_caps_take_the_kernel_for_any_shape(changes: dict[str, Any]) -> None:
    assert division(takes_prefill=lambda _: True, **changes) == (0, [], [], [0, 1, 2, 3, 4])


def test_a_kernel_for_prefill_is_asked_for_all_behind_the_decodes() -> None:
    asked: list[Portion] = []

    def refuse(portion: Portion) -> bool:
        asked.append(portion)
        return False

    assert division(takes_prefill=refuse) == division()
    assert asked[0].qo_lens.tolist() == [20, 30, 1]
    assert division(takes_prefill=lambda _: True) == (2, [], [2, 3, 4], [])
    assert division(takes_prefill=lambda _: True, has_decode=False) == (0, [], [2, 3, 4], [0, 1])


def test_a_kernel_for_prefill_is_not_asked_for_decodes_alone() -> None:
    assert division(make_step((5, 1), (9, 1)), takes_prefill=lambda _: True) == (2, [], [], [])


def test_a_first_token_alone_is_no_prompt_for_torch() -> None:
    assert division(make_step((0, 5), (0, 1))) == (0, [0], [], [1])


def test_a_portion_has_the_places_of_its_sequences_in_the_step() -> None:
    portion = Portion.of(MIXED, np.array([1, 3]), 9)
    assert portion.first_tokens.tolist() == [1, 22]
    assert portion.qo_lens.tolist() == [1, 30]
    assert portion.kv_lens.tolist() == [8, 62]
    assert portion.first_blocks.tolist() == [3, 6]
    assert portion.window == 9
    arrays = (portion.first_tokens, portion.qo_lens, portion.kv_lens, portion.first_blocks, portion.block_table)
    assert all(array.dtype == np.int32 and array.flags.c_contiguous for array in arrays)


def test_a_window_that_no_sequence_outgrows_counts_as_none() -> None:
    spec = AttentionSpec(
        num_layers=4,
        num_heads=2,
        num_kv_heads=1,
        head_dim=64,
        num_blocks=8,
        block_size=16,
        dtype=torch.bfloat16,
        device=torch.device("cpu"),
        windows=(0, 61, 62, 100),
    )
    assert windows_of_step(spec, MIXED) == [0, 61, 0, 0]
    assert windows_of_step(spec, make_step()) == [0, 0, 0, 0]
