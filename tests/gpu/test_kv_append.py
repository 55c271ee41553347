from __future__ import annotations

import pytest
import torch
from blendserve.attention.cuda_library import KvAppendParams, load_cuda_library
from blendserve.errors import UserError
from paged_problem import DEVICE

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("head_dim", [64, 80, 128])
@pytest.mark.parametrize("block_size", [1, 8, 16])
@pytest.mark.parametrize("num_tokens", [1, 33, 3000])
def test_every_token_reaches_its_slot_and_nothing_else_changes(head_dim: int, block_size: int, num_tokens: int) -> None:
    num_kv_heads = 3
    num_blocks = num_tokens // block_size + 2
    slots = torch.randperm(num_blocks * block_size, device=DEVICE)[:num_tokens]
    qkv = torch.randn(num_tokens, 2 * num_kv_heads * head_dim + 8, dtype=torch.bfloat16, device=DEVICE)
    k, v = (
        qkv[:, begin : begin + num_kv_heads * head_dim].unflatten(1, (num_kv_heads, head_dim))
        for begin in (0, num_kv_heads * head_dim + 8)
    )
    kv = torch.randn(num_blocks, 2, num_kv_heads, block_size, head_dim, dtype=torch.bfloat16, device=DEVICE)
    expected = kv.clone()
    expected[slots // block_size, 0, :, slots % block_size] = k
    expected[slots // block_size, 1, :, slots % block_size] = v

    params = KvAppendParams(
        k=k.data_ptr(),
        v=v.data_ptr(),
        kv=kv.data_ptr(),
        slot_mapping=slots.data_ptr(),
        k_stride=k.stride(0),
        v_stride=v.stride(0),
        num_tokens=num_tokens,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        block_size=block_size,
    )
    load_cuda_library().kv_append(params, torch.cuda.current_stream().cuda_stream)
    assert torch.equal(kv, expected)


def test_a_head_size_that_is_no_multiple_of_8_is_refused() -> None:
    with pytest.raises(UserError, match="kv_append: head_dim is 20"):
        load_cuda_library().kv_append(KvAppendParams(num_tokens=1, num_kv_heads=1, head_dim=20, block_size=1), 0)
