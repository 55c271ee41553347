"""FlashInfer's prefill; needs a library that is built with it (`make cuda FLASHINFER=on`)."""

import pytest
import torch
from blendserve.attention import create_backend
from test_native_cuda import assert_steps_attend_to_all_that_came_before, make_spec, make_step

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_prompts_and_chunks_attend_to_all_that_came_before(head_dim: int, dtype: torch.dtype) -> None:
    backend = create_backend("flashinfer", make_spec(head_dim=head_dim, dtype=dtype))
    assert_steps_attend_to_all_that_came_before(backend)


def test_layers_with_windows_take_our_own_kernel() -> None:
    backend = create_backend("flashinfer", make_spec(windows=(0, 60)))
    assert_steps_attend_to_all_that_came_before(backend)


def test_long_chunks_whose_positions_are_split_give_what_native_cuda_gives() -> None:
    spec = make_spec(num_blocks=100)
    step = make_step([(0, 240, 80)])
    torch.manual_seed(0)
    q = torch.randn(80, spec.num_heads, spec.head_dim, dtype=spec.dtype, device=spec.device)
    k, v = torch.randn(2, 80, spec.num_kv_heads, spec.head_dim, dtype=spec.dtype, device=spec.device)
    outputs = []
    for name in ("native_cuda", "flashinfer"):
        backend = create_backend(name, spec)
        backend.kv_cache.copy_(torch.linspace(-1, 1, backend.kv_cache.numel()).view_as(backend.kv_cache))
        backend.plan(step)
        outputs.append(backend.forward(0, q.clone(), k.clone(), v))
    assert (outputs[1] - outputs[0]).norm() < 1e-2 * outputs[0].norm()
