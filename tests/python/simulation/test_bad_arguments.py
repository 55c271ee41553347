"""Arguments that cannot be used are named, with the remedy."""

from __future__ import annotations

from typing import Any

import blendserve as bs
import pytest
from workloads import DEVICE, MODEL, trace_of


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedules": "sjf"}, "schedule is 'sjf'; it must be one of blend, paper, dfs, random, fcfs"),
        ({"schedules": []}, "no schedule is given; choose of blend, paper, dfs, random, fcfs"),
        ({"execution": "both"}, "execution is 'both'; it must be one of overlapped, sequential"),
        ({"lengths": "guessed"}, "lengths is 'guessed'; it must be one of sampled, hinted, known"),
        ({"dp": 0}, "dp is 0; it must be at least 1"),
        ({"dp": 3}, "dp is 3, more than the 2 requests; every replica needs one: lower dp"),
        ({"max_batch_tokens": 0}, "max_batch_tokens is 0; it must be at least 1"),
        ({"sample_rate": 0}, "sample_rate is 0; it must be above 0 and at most 1"),
        ({"kv_memory": "much"}, 'size "much" is not understood'),
        ({"kv_memory": "1MiB"}, "kv_memory 1MiB is less than one block of 16 tokens, 2,097,152 bytes"),
        ({"kv_memory": "4MiB"}, "none of the 2 requests fits the KV cache of 32 tokens"),
        ({"model": bs.ModelSpec.named("llama-3.1-70b")}, "llama-3.1-70b"),
    ],
)
def test_the_message_names_argument_value_and_remedy(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(bs.UserError) as caught:
        bs.simulate(trace_of([100, 200], [10, 20]), **{"model": MODEL, "device": DEVICE, **arguments})
    assert message in str(caught.value)


def test_a_trace_without_requests_or_with_an_empty_prompt_is_refused() -> None:
    trace = trace_of([100, 200], [10, 20])
    with pytest.raises(bs.UserError, match="the trace has no requests"):
        bs.simulate(trace.take([]), model=MODEL, device=DEVICE)  # type: ignore[arg-type]
    with pytest.raises(bs.UserError, match="request 1 of the trace has an empty prompt"):
        bs.simulate(trace_of([3, 0], [1, 1]), model=MODEL, device=DEVICE)
