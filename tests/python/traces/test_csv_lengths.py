"""Azure, BurstGPT and other CSV files of lengths."""

from __future__ import annotations

from pathlib import Path

import pytest
from blendserve.errors import UserError
from blendserve.traces import read_trace
from small_traces import write_csv

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        (AZURE, ["2023-11-16 18:17:03.97,4808,10", "2023-11-16 18:17:04.03,3180,8"]),
        (BURSTGPT, ["5,ChatGPT,4808,10,4818,Conversation log", '45,"GPT-4, new",3180,8,3188,API log']),
        ("client,window_s,ContextTokens,GeneratedTokens", ["35,21600,4808,10", "28,64800,3180,8"]),
        ("output_tokens,id,input_tokens", ["10,a,4808", "8,b,3180"]),
        ("\ufeffprompt_len, output_len", ["4808, 10", "", "3180, 8"]),
    ],
)
def test_lengths_are_found_by_their_columns(tmp_path: Path, header: str, rows: list[str]) -> None:
    trace = read_trace(write_csv(tmp_path / "week.csv", header, *rows))
    assert trace.prompt_lens.tolist() == [4808, 3180]
    assert trace.output_lengths.tolist() == [10, 8]
    assert (trace.sources, trace.is_known.any(), trace.num_dropped) == (("week",), False, 0)


def test_a_format_that_is_named_wins_over_a_guess(tmp_path: Path) -> None:
    header = "ContextTokens,GeneratedTokens,Request tokens,Response tokens"
    path = write_csv(tmp_path / "both.csv", header, "1,2,3,4")
    assert read_trace(path).prompt_lens.tolist() == [1]
    assert read_trace(f"burstgpt:{path}", name="b").prompt_lens.tolist() == [3]


def test_rows_without_a_prompt_or_an_output_are_dropped_and_counted(tmp_path: Path) -> None:
    trace = read_trace(write_csv(tmp_path / "a.csv", AZURE, "t,5,0", "t,0,5", "t,7,3"))
    assert (trace.prompt_lens.tolist(), trace.output_lengths.tolist(), trace.num_dropped) == ([7], [3], 2)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("t,many,1", 'ContextTokens is "many"; it must be an integer between 0 and 2147483647'),
        ("t,1,-3", 'GeneratedTokens is "-3"; it must be an integer between 0 and 2147483647'),
        ("t,2147483648,3", 'ContextTokens is "2147483648"; it must be'),
        ("t,1.5,3", 'ContextTokens is "1.5"; it must be'),
        ("t,1,", 'GeneratedTokens is ""; it must be'),
    ],
)
def test_a_value_that_is_no_length_is_named_with_its_line(tmp_path: Path, row: str, complaint: str) -> None:
    path = write_csv(tmp_path / "a.csv", AZURE, "t,4,5", row)
    with pytest.raises(UserError) as error:
        read_trace(path)
    assert str(error.value).startswith(f"trace {path}, line 3: {complaint}")


def test_a_line_that_is_cut_off_is_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", AZURE, "t,4,5", "t,4")
    with pytest.raises(UserError, match="line 3 has 2 fields where the header has 3; the file may be cut off"):
        read_trace(path)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "TIMESTAMP,ContextTokens", "t,4")
    with pytest.raises(UserError, match="has no column GeneratedTokens, but TIMESTAMP, ContextTokens; the format"):
        read_trace(f"azure:{path}")
    with pytest.raises(UserError, match="is of none of the formats azure, burstgpt, lengths, mooncake, openai, work"):
        read_trace(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"\n", "is empty or begins with a blank line"),
        (f"{AZURE}\n".encode(), "has a header and no rows"),
        (f"{AZURE}\nt,0,0\n".encode(), "none of the 1 rows of trace .* has a prompt and an output"),
        (f"{AZURE}\n\xff,1,1\n".encode("latin-1"), "is not UTF-8 text"),
        (f"{AZURE}\n{'x' * 200_000},1,1\n".encode(), "is no CSV file: field larger than field limit"),
    ],
)
def test_a_file_without_requests_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=complaint):
        read_trace(str(path))
