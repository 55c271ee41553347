"""The workload file, whole and compact."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from blendserve.errors import UserError
from blendserve.traces import LengthTrace, Trace, concatenate, read_trace, read_workload, write_workload
from blendserve.traces.length_trace import NO_GROUP
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from small_traces import lengths_of, prompts_of, trace_of


def assert_equal(first: Trace | LengthTrace, second: Trace | LengthTrace) -> None:
    assert type(first) is type(second)
    for field in dataclasses.fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            assert one.tolist() == other.tolist(), field.name
        else:
            assert one == other, field.name


def write_columns(path: Path, **columns: Any) -> str:
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return str(path)


@pytest.mark.parametrize("suffix", [".arrow", ".parquet", ".workload"])
def test_a_trace_with_tokens_comes_back_as_it_was(tmp_path: Path, suffix: str) -> None:
    small = trace_of([1, 2], [2**31 - 1], outputs=[3, 4])
    trace = concatenate([dataclasses.replace(small, is_known=np.array([True, False])), trace_of([], [7], name="b")])
    path = str(tmp_path / f"w{suffix}")
    write_workload(path, trace)
    assert_equal(read_trace(path), trace)


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_lengths_come_back_and_make_the_same_tokens(tmp_path: Path, suffix: str) -> None:
    trace = lengths_of(9, 9, 4, groups=[5, 5, NO_GROUP], prefix_lens=[3, 3, 0], token_seed=8)
    path = str(tmp_path / f"w{suffix}")
    write_workload(path, trace)
    assert_equal(read_workload(path, "unused"), trace)
    assert_equal(read_trace(path), trace.with_tokens())


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=4), min_size=1, max_size=6))
def test_any_prompts_come_back(tmp_path_factory: pytest.TempPathFactory, prompts: list[list[int]]) -> None:
    path = tmp_path_factory.mktemp("workload") / "w.arrow"
    write_workload(path, trace_of(*prompts))
    assert prompts_of(read_trace(str(path))) == prompts


def test_the_same_trace_is_the_same_bytes_and_metadata_is_kept(tmp_path: Path) -> None:
    for name in ("a.arrow", "b.arrow"):
        write_workload(tmp_path / name, lengths_of(9, 9), {"made by": "a test"})
    assert (tmp_path / "a.arrow").read_bytes() == (tmp_path / "b.arrow").read_bytes()
    schema = pa.ipc.open_file(str(tmp_path / "a.arrow")).schema
    assert schema.metadata[b"made by"] == b"a test"
    assert schema.names == ["prompt_len", "prefix_group", "prefix_len", "output_len", "is_known", "source"]


def test_a_file_that_others_wrote_needs_prompts_and_output_lengths_only(tmp_path: Path) -> None:
    whole = read_trace(write_columns(tmp_path / "a.arrow", token_ids=[[1, 2], []], output_len=[3, 4]))
    assert (prompts_of(whole), whole.output_lengths.tolist(), whole.sources) == ([[1, 2], []], [3, 4], ("a",))
    compact = read_trace(write_columns(tmp_path / "b.arrow", prompt_len=[3], output_len=[4]))
    assert compact.prompt_lens.tolist() == [3]
    grouped = read_workload(
        write_columns(
            tmp_path / "c.arrow",
            prompt_len=[3, 3, 3],
            prefix_group=[0, None, 0],
            prefix_len=[2, None, 2],
            output_len=[1, 1, 1],
            is_known=[True, None, False],
            source=["x", None, "y"],
        ),
        "c",
    )
    assert isinstance(grouped, LengthTrace)
    assert (grouped.prefix_group.tolist(), grouped.prefix_lens.tolist()) == ([0, NO_GROUP, 0], [2, 0, 2])
    assert grouped.is_known.tolist() == [True, False, False]
    assert [grouped.sources[index] for index in grouped.source] == ["x", "c", "y"]


def test_a_plain_parquet_file_of_tokens_is_a_workload_too(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"input_ids": [[1], [2, 3]], "output_len": [1, 1]}), tmp_path / "a.parquet")
    assert prompts_of(read_trace(str(tmp_path / "a.parquet"))) == [[1], [2, 3]]


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"output_len": [1]}, "has no column prompt_token_ids or prompt_len, but output_len"),
        ({"prompt_len": [1]}, "has no column output_len, but prompt_len; add it"),
        ({"prompt_len": [1.5], "output_len": [1]}, "column `prompt_len` is double; it must be of integers"),
        ({"prompt_len": [3, 0], "output_len": [1, 1]}, "row 1 of `prompt_len` is 0; give 1 to 2147483647"),
        ({"prompt_len": [3], "output_len": [2**31]}, "row 0 of `output_len` is 2147483648; give 1 to 2147483647"),
        ({"prompt_len": [3, 4], "output_len": [1, None]}, "row 1 of `output_len` is null; give 1 or more"),
        ({"prompt_len": [3], "output_len": [1], "is_known": [1]}, "column `is_known` is int64; it must be bool"),
        ({"prompt_len": [3], "output_len": [1], "source": [1]}, "column `source` is .*; it must hold names"),
        ({"token_ids": [[1, -1]], "output_len": [1]}, "holds token ids from -1 to 1; an id is 0 to 2147483647"),
        ({"token_ids": ["text"], "output_len": [1]}, "column `token_ids` is string; it must be a list of integers"),
        ({"prompt_len": pa.array([], pa.int32()), "output_len": pa.array([], pa.int32())}, "has no rows"),
        (
            {"prompt_len": [3], "prefix_group": [1], "prefix_len": [4], "output_len": [1]},
            "request 0 has a prefix of 4 tokens in a prompt of 3",
        ),
    ],
)
def test_columns_that_cannot_be_are_named(tmp_path: Path, columns: dict[str, Any], complaint: str) -> None:
    path = write_columns(tmp_path / "a.arrow", **columns)
    with pytest.raises(UserError, match=complaint):
        read_trace(path)


def test_a_file_with_other_metadata_or_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    write_workload(path, lengths_of(9), {"blendserve.workload": "2"})
    with pytest.raises(UserError, match="is of version 2; this blendserve reads version 1"):
        read_trace(str(path))
    table = pa.table({"prompt_len": [3], "output_len": [1]}).replace_schema_metadata({"blendserve.token_seed": "-1"})
    parquet.write_table(table, path)
    with pytest.raises(UserError, match=r"blendserve\.token_seed is '-1'; it must be an integer, 0 or more"):
        read_trace(str(path))
    write_workload(path, lengths_of(9))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"workload .*a.arrow cannot be read: .*; write it again"):
        read_trace(str(path))


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"workload .* cannot be written: .*; give another path"):
        write_workload(tmp_path / "gone" / "w.arrow", lengths_of(9))
