"""Mooncake's JSON lines: equal ids are equal blocks of tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from blendserve import PrefixTree
from blendserve.errors import UserError
from blendserve.traces import read_trace
from small_traces import common_len, mooncake_row, prompts_of, write_json_lines


def test_prompts_share_the_blocks_that_their_ids_say(tmp_path: Path) -> None:
    rows = [
        mooncake_row(1300, 6, [10, 11, 12]),
        mooncake_row(1100, 4, [10, 11, 13]),
        mooncake_row(500, 9, [10]),
        mooncake_row(512, 1, [2**62]),
    ]
    trace = read_trace(write_json_lines(tmp_path / "kimi.jsonl", *rows))
    first, second, partial, other = prompts_of(trace)
    assert [len(prompt) for prompt in prompts_of(trace)] == [1300, 1100, 500, 512]
    assert [common_len(first, prompt) for prompt in (second, partial, other)] == [1024, 500, 0]
    assert trace.output_lengths.tolist() == [6, 4, 9, 1]
    assert trace.sources == ("kimi",)
    assert PrefixTree.build(trace.tokens, trace.offsets).num_unique_tokens == 1300 + 76 + 512


def test_the_same_ids_of_another_trace_are_other_tokens(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path / "a.jsonl", mooncake_row(600, 6, [0, 1]))
    first, second = read_trace(path), read_trace(f"mooncake:{path}", name="b")
    assert set(first.tokens).isdisjoint(second.tokens)


def test_rows_without_a_prompt_or_an_output_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [mooncake_row(0, 4, []), mooncake_row(5, 0, [1]), mooncake_row(5, 1, [1])]
    trace = read_trace(write_json_lines(tmp_path / "a.jsonl", *rows))
    assert (trace.num_requests, trace.num_dropped) == (1, 2)
    with pytest.raises(UserError, match=r"has no requests \(2 without a prompt or an output\)"):
        read_trace(write_json_lines(tmp_path / "b.jsonl", *rows[:2]))


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (mooncake_row("9", 1, [0]), 'input_length is "9"; it must be an integer between 0 and 2147483647'),
        (mooncake_row(9, -1, [0]), "output_length is -1; it must be an integer"),
        (mooncake_row(2**31, 1, [0]), "input_length is 2147483648; it must be an integer"),
        ({"input_length": 9, "hash_ids": [0]}, "output_length is missing; it must be an integer"),
        ({"input_length": 9, "output_length": 1}, "hash_ids is missing; it must be a list of 1 ids"),
        (mooncake_row(9, 1, None), "hash_ids is null; it must be a list of 1 ids"),
        (mooncake_row(1025, 1, [0, 1]), "hash_ids is a list of 2 items; it must be a list of 3 ids, one for every 512"),
        (mooncake_row(9, 1, [1.5]), "hash_ids[0] is 1.5; it must be an integer between 0 and 9223372036854775807"),
    ],
)
def test_a_field_that_cannot_be_is_named_with_its_line(tmp_path: Path, row: dict[str, Any], complaint: str) -> None:
    path = write_json_lines(tmp_path / "a.jsonl", mooncake_row(5, 1, [1]), row)
    with pytest.raises(UserError) as error:
        read_trace(path)
    assert str(error.value).startswith(f"trace {path}, line 2: {complaint}")


def test_a_line_that_is_cut_off_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    line = json.dumps(mooncake_row(5, 1, [1]))
    path.write_text(f"{line}\n\n{line[:-9]}")
    with pytest.raises(UserError, match=r"line 3: not valid JSON \(.*\); the file may be cut off"):
        read_trace(str(path))
    path.write_text("[]\n")
    with pytest.raises(UserError, match="line 1: the row is an empty list; it must be an object"):
        read_trace(f"mooncake:{path}")
