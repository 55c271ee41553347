"""[FORMAT:]FILE: formats that are told, formats that are guessed, and OpenAI Batch files."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch_rows import completion_row
from blendserve.errors import UserError
from blendserve.traces import read_trace, read_traces, write_workload
from blendserve.traces.formats import format_of_file
from small_traces import lengths_of, mooncake_row, prompts_of, write_csv, write_json_lines
from tiny_models import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_tokenizer(tmp_path_factory.mktemp("tokenizer")))


def test_the_format_is_told_by_what_a_file_holds_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "trace.dat"
    found = []
    for content in (b"Request tokens,Response tokens\n1,1\n", b'\n{"hash_ids": []}\n', completion_row("a")):
        path.write_bytes(content)
        found.append(format_of_file(str(path)))
    write_workload(path, lengths_of(3))
    assert [*found, format_of_file(str(path))] == ["burstgpt", "mooncake", "openai", "workload"]


def test_a_batch_file_has_its_prompts_and_the_lengths_that_rows_tell(tmp_path: Path, tokenizer: str) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(
        completion_row("hint", prompt=[1, 2], expected_output_tokens=7)
        + completion_row("forced", prompt=[3], ignore_eos=True, max_tokens=9)
        + completion_row("limited", prompt=[4], max_tokens=5, n=2)
        + b"bad\n"
        + completion_row("free", prompt=[5], max_tokens=999)
    )
    trace = read_trace(str(path), tokenizer=tokenizer)
    assert prompts_of(trace) == [[1, 2], [3], [4], [4], [5]]
    assert trace.output_lengths.tolist() == [7, 9, 5, 5, 256]
    assert trace.is_known.tolist() == [True, True, False, False, False]
    assert (trace.sources, trace.num_dropped) == (("requests",), 1)
    told = read_trace(str(path), tokenizer=tokenizer, mean_output=3.6)
    assert told.output_lengths.tolist() == [7, 9, 4, 4, 4]


def test_a_batch_file_without_a_good_row_says_why(tmp_path: Path, tokenizer: str) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b"bad\n")
    with pytest.raises(UserError, match="has no row that can be used; the first one: line 1: not valid JSON"):
        read_trace(f"openai:{path}", tokenizer=tokenizer)


def test_several_files_are_one_trace_and_files_of_one_name_stay_apart(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    first = write_csv(tmp_path / "a.csv", "prompt_len,output_len", "3,1")
    second = write_csv(tmp_path / "b" / "a.csv", "prompt_len,output_len", "4,2", "0,9")
    third = write_json_lines(tmp_path / "c.jsonl", mooncake_row(5, 3, [1]))
    trace = read_traces([first, f"lengths:{second}", third])
    assert trace.sources == ("a", "a-2", "c")
    assert trace.prompt_lens.tolist() == [3, 4, 5]
    assert len({prompt[0] for prompt in prompts_of(trace)}) == 3
    assert trace.num_dropped == 1


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("gone.csv", "trace gone.csv does not exist; give a file, as [FORMAT:]FILE"),
        ("azure:gone.csv", "trace gone.csv does not exist"),
        ("azzure:gone.csv", "trace azzure:gone.csv: no format is named azzure; use one of azure, burstgpt, lengths"),
        (".", "trace . is a folder; give a file"),
    ],
)
def test_a_file_or_format_that_does_not_exist_is_named(spec: str, complaint: str) -> None:
    with pytest.raises(UserError) as error:
        read_trace(spec)
    assert str(error.value).startswith(complaint)


def test_a_colon_in_a_name_is_not_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "week:1.csv", "prompt_len,output_len", "3,1")
    assert read_trace("week:1.csv").sources == ("week:1",)


@pytest.mark.parametrize("content", ["a,b\n1,2\n", '{"a": 1}\n', "[1]\n"])
def test_a_file_of_no_format_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a"
    path.write_text(content)
    with pytest.raises(UserError, match=r"is of none of the formats .*; name one, as in azure:"):
        read_trace(str(path))
