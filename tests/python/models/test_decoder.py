from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from blendserve.errors import UserError
from blendserve.models import ModelConfig, load_model
from blendserve.models.decoder import Decoder
from blendserve.models.paged_check import paged_logits_error
from dense_attention import DenseAttention
from tiny_families import build_family
from tiny_models import VOCAB_SIZE, build_llama
from transformers import AutoModelForCausalLM, LlamaForCausalLM

LENGTHS = (1, 3, 40, 150)
VARIANTS: dict[str, dict[str, Any]] = {
    "1 KV head": {"kv_heads": 1},
    "2 KV heads, tied": {"kv_heads": 2, "tie": True},
    "4 KV heads, biased": {"kv_heads": 4, "bias": True},
    "8 KV heads, 3 layers": {"kv_heads": 8, "num_layers": 3},
    "head size apart from hidden size": {"num_heads": 4, "head_dim": 24},
    "llama3 rope": {"rope": "llama3", "rope_theta": 500_000.0},
    "llama3 rope, transformers 4": {"rope": "llama3", "config_style": "v4"},
    "linear rope, transformers 4": {"rope": "linear", "config_style": "v4"},
    "default rope, transformers 4": {"rope_theta": 20_000.0, "config_style": "v4"},
    "sharded": {"sharded": True},
}


def load(model_dir: Path, dtype: torch.dtype = torch.float32) -> Decoder:
    return load_model(model_dir, ModelConfig.from_dir(model_dir), dtype=dtype, device=torch.device("cpu"))


def random_prompts(lengths: tuple[int, ...] = LENGTHS) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, VOCAB_SIZE, (length,), generator=generator) for length in lengths]


def run_packed(
    model: Decoder, attention: DenseAttention, chunks: list[torch.Tensor], first_positions: list[int]
) -> list[torch.Tensor]:
    """One step; the logits of every row, per chunk."""
    attention.plan([(sequence, len(chunk)) for sequence, chunk in enumerate(chunks)])
    positions = torch.cat(
        [torch.arange(first, first + len(chunk)) for chunk, first in zip(chunks, first_positions, strict=True)]
    )
    logits = model.forward(torch.cat(chunks), positions, attention, torch.arange(len(positions)))
    return list(logits.split([len(chunk) for chunk in chunks]))


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_logits_and_greedy_tokens_equal_transformers(tmp_path: Path, variant: dict[str, Any]) -> None:
    model_dir = build_llama(tmp_path, **variant)
    model = load(model_dir)
    reference = LlamaForCausalLM.from_pretrained(model_dir, attn_implementation="eager").eval()
    prompts = random_prompts()
    attention = DenseAttention(model.config.num_layers)

    logits = run_packed(model, attention, prompts, [0] * len(prompts))
    sequences = list(prompts)
    for _ in range(6):
        next_tokens = [rows[-1].argmax().reshape(1) for rows in logits]
        first_positions = [len(sequence) for sequence in sequences]
        sequences = [torch.cat(pair) for pair in zip(sequences, next_tokens, strict=True)]
        logits = run_packed(model, attention, next_tokens, first_positions)

    prompt_logits = run_packed(model, DenseAttention(model.config.num_layers), prompts, [0] * len(prompts))
    for prompt, sequence, whole, last in zip(prompts, sequences, prompt_logits, logits, strict=True):
        with torch.inference_mode():
            expected = reference(sequence[None]).logits[0]
        torch.testing.assert_close(whole, expected[: len(prompt)], atol=1e-4, rtol=0)
        torch.testing.assert_close(last[0], expected[-1], atol=1e-4, rtol=0)
        assert sequence[len(prompt) :].tolist() == expected[len(prompt) - 1 : -1].argmax(-1).tolist()


def test_greedy_answers_are_varied(tmp_path: Path) -> None:
    model = load(build_llama(tmp_path, tie=True))
    attention = DenseAttention(model.config.num_layers)
    tokens = random_prompts((5,))[0]
    answer = []
    for first in range(20):
        chunk = tokens if first == 0 else tokens[-1:]
        logits = run_packed(model, attention, [chunk], [0 if first == 0 else len(tokens) - 1])
        tokens = torch.cat((tokens, logits[0][-1].argmax().reshape(1)))
        answer.append(int(tokens[-1]))
    assert len(set(answer)) > 5


def test_a_prompt_in_chunks_gives_the_logits_of_the_whole_prompt(tmp_path: Path) -> None:
    model = load(build_llama(tmp_path, rope="llama3"))
    (prompt,) = random_prompts((90,))
    (whole,) = run_packed(model, DenseAttention(2), [prompt], [0])
    attention, parts = DenseAttention(2), []
    for start, end in ((0, 1), (1, 33), (33, 90)):
        parts += run_packed(model, attention, [prompt[start:end]], [start])
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-4, rtol=0)


def test_only_the_rows_asked_for_get_logits_in_their_order(tmp_path: Path) -> None:
    model = load(build_llama(tmp_path))
    (prompt,) = random_prompts((12,))
    attention = DenseAttention(2)
    (all_rows,) = run_packed(model, attention, [prompt], [0])
    for rows in ([11, 4], []):
        attention = DenseAttention(2)
        attention.plan([(0, 12)])
        logits = model.forward(prompt, torch.arange(12), attention, torch.tensor(rows, dtype=torch.int64))
        assert logits.shape == (len(rows), VOCAB_SIZE)
        torch.testing.assert_close(logits, all_rows[rows], atol=1e-5, rtol=0)


def test_bfloat16_gives_float32_logits_near_those_of_transformers(tmp_path: Path) -> None:
    model_dir = build_llama(tmp_path, num_heads=4, head_dim=32)
    model = load(model_dir, torch.bfloat16)
    exact = load(model_dir)
    (prompt,) = random_prompts((64,))
    (logits,) = run_packed(model, DenseAttention(2), [prompt], [0])
    (expected,) = run_packed(exact, DenseAttention(2), [prompt], [0])
    reference = LlamaForCausalLM.from_pretrained(model_dir, attn_implementation="eager", dtype=torch.bfloat16)
    with torch.inference_mode():
        rounded = reference(prompt[None]).logits[0].float()
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().mean() < 1.2 * (rounded - expected).abs().mean()


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "qwen2", "qwen3"])
def test_bfloat16_rounds_a_family_no_more_than_transformers_does(tmp_path: Path, name: str) -> None:
    model_dir = build_family(tmp_path, name)
    exact, rounded = (
        AutoModelForCausalLM.from_pretrained(model_dir, attn_implementation="eager", dtype=dtype).eval()
        for dtype in (torch.float32, torch.bfloat16)
    )
    errors = []

    @torch.inference_mode()
    def expected(tokens: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = exact(tokens[None]).logits[0]
        errors.append((rounded(tokens[None]).logits[0].float() - logits).norm() / logits.norm())
        return logits

    error = paged_logits_error(load(model_dir, torch.bfloat16), expected, torch.device("cpu"))
    assert 0 < error < 1.2 * max(errors)


def test_float16_on_a_cpu_is_refused_with_what_runs_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dtype float16 does not run on cpu; use one of: float32, bfloat16"):
        load(build_llama(tmp_path), torch.float16)
