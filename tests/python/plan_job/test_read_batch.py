"""An OpenAI Batch file as what the planner is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_rows import chat_row, completion_row
from blendserve.errors import UserError
from blendserve.plan_job.growing_array import GrowingArray
from blendserve.plan_job.output_lengths import UNLIMITED
from blendserve.plan_job.prompts import JobPrompts
from blendserve.plan_job.read_batch import ReadProgress, read_batch
from blendserve.text.tokenizer import Tokenizer
from tiny_models import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    tokenizer = Tokenizer.load(build_tokenizer(tmp_path_factory.mktemp("tokenizer")))
    assert tokenizer is not None
    return tokenizer


def read(folder: Path, tokenizer: Tokenizer | None, *lines: bytes, **options: Any) -> JobPrompts:
    path = folder / "requests.jsonl"
    path.write_bytes(b"".join(lines))
    return read_batch(path, "IN", tokenizer, **{"mean_output": None, "on_progress": lambda _: None, **options})


def requests_of(prompts: JobPrompts) -> list[list[int]]:
    return [row.tolist() for row in np.split(prompts.tokens, prompts.offsets[1:-1])]


def test_chats_texts_and_token_ids_have_the_ids_that_run_gives_them(tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts = [f"number {i % 700}" for i in range(1100)]
    lines = [completion_row(f"t{i}", prompt=text) for i, text in enumerate(texts)]
    prompts = read(tmp_path, tokenizer, chat_row("c"), completion_row("i", prompt=[7, 8]), *lines)
    chat = tokenizer.encode_chat([{"role": "user", "content": "Hi"}], {})
    assert requests_of(prompts) == [chat, [7, 8], *(tokenizer.encode(text) for text in texts)]
    assert prompts.tokens.dtype == np.int32


def test_choices_are_requests_beside_each_other(tmp_path: Path) -> None:
    prompts = read(tmp_path, None, completion_row("a", prompt=[1, 2], n=3), completion_row("b", prompt=[3]))
    assert requests_of(prompts) == [[1, 2], [1, 2], [1, 2], [3]]
    assert prompts.request_rows.tolist() == [0, 0, 0, 1]
    assert prompts.num_rows == 2


def test_prompts_that_fill_the_context_are_bad_rows_but_for_those_that_are_only_scored(tmp_path: Path) -> None:
    full = [1, 2, 3]
    scored = completion_row("scored", prompt=full, max_tokens=0, echo=True, logprobs=0)
    prompts = read(
        tmp_path, None, completion_row("full", prompt=full), scored, completion_row("short", prompt=[4]), context_len=3
    )
    assert requests_of(prompts) == [full, [4]]
    assert [(error.line, error.code) for error in prompts.bad_rows] == [(1, "context_length_exceeded")]
    assert prompts.bad_rows[0].message.startswith("line 1: the prompt has 3 tokens, and the model's context of 3 must ")


def test_token_ids_beyond_the_vocabulary_make_bad_rows(tmp_path: Path) -> None:
    lines = [completion_row("low", prompt=[0, 9]), completion_row("high", prompt=[1, 10])]
    prompts = read(tmp_path, None, *lines, vocab_size=10)
    assert requests_of(prompts) == [[0, 9]]
    assert [(error.line, error.code) for error in prompts.bad_rows] == [(2, "token_id_out_of_range")]


def test_bad_rows_are_left_out_and_named(tmp_path: Path) -> None:
    good = completion_row("a", prompt=[1])
    prompts = read(
        tmp_path, None, b"\n", good, b"hello\n", completion_row("text"), good, completion_row("b", prompt=[2])
    )
    assert requests_of(prompts) == [[1], [2]]
    assert prompts.request_rows.tolist() == [0, 4]
    assert prompts.num_rows == 5
    assert prompts.row_lines is not None
    assert prompts.row_lines.tolist() == [2, 3, 4, 5, 6]
    assert [(error.line, error.code) for error in prompts.bad_rows] == [
        (3, "invalid_json"),
        (4, "invalid_request"),
        (5, "duplicate_custom_id"),
    ]


@pytest.mark.parametrize(
    ("fields", "mean_output", "length", "limit", "source"),
    [
        ({"expected_output_tokens": 40, "max_tokens": 100}, None, 40, 100, "hint"),
        ({"expected_output_tokens": 40, "max_tokens": 30}, None, 30, 30, "hint"),
        ({"expected_output_tokens": 40, "max_tokens": 90, "ignore_eos": True}, 7.0, 40, 90, "hint"),
        ({"max_tokens": 90, "ignore_eos": True}, 7.0, 90, 90, "forced"),
        ({"max_tokens": 90, "ignore_eos": True, "stop": "x"}, None, -1, 90, "default"),
        ({"max_tokens": 90, "ignore_eos": True, "stop_token_ids": [2]}, None, -1, 90, "default"),
        ({"max_tokens": 90, "min_tokens": 90, "stop": "x"}, None, 90, 90, "forced"),
        ({"max_tokens": 90, "min_tokens": 89}, None, -1, 90, "default"),
        ({"max_tokens": 1}, 7.0, 1, 1, "forced"),
        ({"ignore_eos": True}, None, -1, UNLIMITED, "default"),
        ({"max_tokens": 90}, 7.0, -1, 90, "mean_output"),
        ({"max_tokens": 90}, None, -1, 90, "default"),
        ({}, None, -1, UNLIMITED, "default"),
    ],
)
def test_where_an_output_length_comes_from(
    tmp_path: Path, tokenizer: Tokenizer, fields: Any, mean_output: float | None, length: float, limit: int, source: str
) -> None:
    prompts = read(tmp_path, tokenizer, chat_row("a", **fields), mean_output=mean_output)
    assert prompts.output_lengths.tolist() == [length]
    assert prompts.max_output_lengths.tolist() == [limit]
    assert prompts.length_sources == {source: 1}
    assert prompts.lengths_source == source


def test_a_prompt_alone_counts_as_an_answer_of_one_token(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"prompt": [1], "echo": True, "max_tokens": 0}
    prompts = read(
        tmp_path, None, completion_row("a", **fields), completion_row("b", expected_output_tokens=9, **fields)
    )
    assert (prompts.output_lengths.tolist(), prompts.max_output_lengths.tolist()) == ([1, 1], [1, 1])
    assert prompts.length_sources == {"forced": 2}


def test_several_sources_are_counted_by_request(tmp_path: Path) -> None:
    lines = [completion_row("a", prompt=[1], n=2), completion_row("b", prompt=[1], expected_output_tokens=3)]
    prompts = read(tmp_path, None, *lines)
    assert prompts.length_sources == {"default": 2, "hint": 1}
    assert prompts.lengths_source == "mixed"


def test_progress_tells_how_far_the_file_was_read(tmp_path: Path) -> None:
    seen: list[ReadProgress] = []
    lines = [completion_row(str(i), prompt=[1, 2]) for i in range(600)]
    read(tmp_path, None, *lines, on_progress=seen.append)
    assert [(progress.num_rows, progress.num_tokens) for progress in seen] == [(1, 2), (257, 514), (513, 1026)]
    assert {progress.total_bytes for progress in seen} == {sum(map(len, lines))}
    assert all(0 < progress.bytes_done <= progress.total_bytes for progress in seen)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="input IN has no requests: it is empty or all its lines are blank"):
        read(tmp_path, None, b"\n  \n")


def test_an_array_grows() -> None:
    growing = GrowingArray(np.int32)
    growing.append(1)
    for _ in range(3):
        growing.extend(np.arange(1000, dtype=np.int32))
    assert len(growing) == 3001
    assert growing.array.tolist() == [1, *range(1000), *range(1000), *range(1000)]
