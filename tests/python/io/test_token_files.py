"""Prompts as token ids from files of arrays and columns."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from blendserve.errors import UserError
from blendserve.io.token_files import TokenFile, is_token_file, read_token_file
from pyarrow import parquet

ROWS = [[5, 6, 7], [], [5], [2**31 - 1, 0]]


def write_parquet(path: Path, table: pa.Table) -> None:
    parquet.write_table(table, path, row_group_size=2)


def write_ipc_file(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


def write_ipc_stream(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


WRITERS: dict[str, tuple[str, Callable[[Path, pa.Table], None]]] = {
    "parquet": (".parquet", write_parquet),
    "arrow file": (".arrow", write_ipc_file),
    "arrow stream": (".arrow", write_ipc_stream),
    "feather": (".feather", write_ipc_file),
}


@pytest.fixture(params=list(WRITERS))
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[dict[str, Any]], str]:
    suffix, writer = WRITERS[request.param]

    def write_columns(columns: dict[str, Any]) -> str:
        path = tmp_path / f"prompts{suffix}"
        writer(path, pa.table(columns))
        return str(path)

    return write_columns


def rows_of(file: TokenFile) -> list[list[int]]:
    assert file.tokens.dtype == np.int32
    assert file.offsets.dtype == np.int64
    return [row.tolist() for row in np.split(file.tokens, file.offsets[1:-1])]


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64(), pa.uint32()])
@pytest.mark.parametrize("lists", [pa.list_, pa.large_list])
@pytest.mark.parametrize("name", ["prompt_token_ids", "input_ids", "token_ids", "tokens", "the_only_list"])
def test_a_column_of_token_lists_is_found(write: Callable[..., str], kind: Any, lists: Any, name: str) -> None:
    path = write({"custom_id": list("abcd"), name: pa.array(ROWS, lists(kind))})
    file = read_token_file(path)
    assert rows_of(file) == ROWS
    assert file.num_rows == 4
    assert file.output_lengths is file.max_tokens is None


def test_lists_of_a_fixed_size_are_read(write: Callable[..., str]) -> None:
    path = write({"tokens": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int16(), 2))})
    assert rows_of(read_token_file(path)) == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize("name", ["output_len", "output_length", "expected_output_tokens"])
def test_columns_of_lengths_and_limits_are_read_and_null_is_unknown(write: Callable[..., str], name: str) -> None:
    path = write({"max_tokens": pa.array([8, None, 9, 10]), "tokens": ROWS, name: pa.array([1.5, None, 7, None])})
    file = read_token_file(path)
    assert file.output_lengths is not None
    assert file.max_tokens is not None
    assert file.output_lengths.tolist() == [1.5, -1, 7, -1]
    assert file.max_tokens.tolist() == [8, -1, 9, 10]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a"]}, "has no column prompt_token_ids, input_ids, token_ids or tokens, but text; name the column"),
        ({"a": [[1]], "b": [[2]]}, r"but several lists of integers \(a, b\); name the column"),
        ({"tokens": ["a"], "b": [[2]]}, "column `tokens` is string; it must be a list of integers"),
        ({"tokens": [[1.5]]}, "column `tokens` is list<.*double>; it must be a list of integers"),
        ({"tokens": [[1], None]}, "row 1 of column `tokens` is null; every row must be a list"),
        ({"tokens": [[1], [2, None]]}, "a list of column `tokens` holds a null"),
        ({"tokens": [[1, 2**31]]}, "holds the token id 2147483648; ids must fit 32 bits"),
        ({"tokens": [[1, -100]]}, "holds the token id -100; ids are 0 or more"),
        ({"tokens": [[1]], "output_len": ["x"]}, "column `output_len` is string; it must hold numbers"),
        ({"tokens": [[1], [2]], "output_len": [3, 0]}, "row 1 of `output_len` is 0; give 1 or more, or null"),
        ({"tokens": pa.array([], pa.list_(pa.int32()))}, "has no rows; give one prompt a row"),
    ],
)
def test_a_column_that_cannot_be_used_is_named(
    write: Callable[..., str], columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_token_file(write(columns))


def test_an_arrow_file_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "prompts.arrow"
    write_ipc_stream(path, pa.table({"tokens": pa.array(ROWS, pa.list_(pa.int32()))}))
    before = pa.total_allocated_bytes()
    file = read_token_file(str(path))
    assert pa.total_allocated_bytes() == before
    assert not file.tokens.flags.owndata


def test_rows_of_a_matrix(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    for kind in (np.int32, np.int64, np.uint16):
        np.save(path, np.array([[1, 2, 3], [4, 5, 6]], dtype=kind))
        assert rows_of(read_token_file(str(path))) == [[1, 2, 3], [4, 5, 6]]
    np.save(path, np.asfortranarray(np.array([[1, 2], [4, 5]], dtype=np.int32)))
    assert rows_of(read_token_file(str(path))) == [[1, 2], [4, 5]]


def test_a_matrix_of_int32_stays_in_the_mapped_file(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((4, 5), dtype=np.int32))
    base: Any = read_token_file(str(tmp_path / "rows.npy")).tokens
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


def test_tokens_and_offsets(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    np.savez(path, tokens=np.array([5, 6, 7, 5]), offsets=np.array([0, 3, 3, 4], dtype=np.int32))
    assert rows_of(read_token_file(str(path))) == [[5, 6, 7], [], [5]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.array([[1], [2, 3]], dtype=object),
            r"is no plain array .*; rows of different lengths go into a \.npz file",
        ),
        (np.arange(4), r"an array of 1 dimensions; give two, rows and tokens; rows of .* go into a \.npz file"),
        (np.ones((2, 2)), "holds float64 values; token ids are integers"),
        (np.array([[2**40]]), "holds the token id 1099511627776; ids must fit 32 bits"),
        (np.array([[-(2**40)]]), "holds the token id -1099511627776; ids must fit 32 bits"),
        (np.ones((0, 3), dtype=np.int32), "has no rows; give one prompt a row"),
    ],
)
def test_an_array_that_cannot_be_used_is_refused(tmp_path: Path, array: Any, message: str) -> None:
    np.save(tmp_path / "rows.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        read_token_file(str(tmp_path / "rows.npy"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"tokens": [1]}, "has no array `offsets`, only tokens; rows of different lengths"),
        ({"tokens": [[1]], "offsets": [0, 1]}, "must be integer arrays of one dimension"),
        ({"tokens": [1], "offsets": [0.0, 1.0]}, "must be integer arrays of one dimension"),
        ({"tokens": [1, 2], "offsets": [0, 1]}, "`offsets` must begin at 0, never fall and end at 2, the number"),
        ({"tokens": [1, 2], "offsets": [0, 2, 1, 2]}, "must begin at 0, never fall"),
        ({"tokens": [1, 2], "offsets": [1, 2]}, "must begin at 0, never fall"),
        ({"tokens": [1, 2], "offsets": np.array([], dtype=int)}, "must begin at 0, never fall"),
    ],
)
def test_offsets_that_do_not_fit_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "rows.npz", **arrays)
    with pytest.raises(UserError, match=message):
        read_token_file(str(tmp_path / "rows.npz"))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".arrow", ".feather", ".parquet"])
def test_a_missing_or_broken_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    with pytest.raises(UserError, match=r"input .*rows\..* does not exist or is no file; check the path"):
        read_token_file(str(path))
    for content in (b"", b"no such format"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"input .*rows\."):
            read_token_file(str(path))


def test_the_suffix_tells_a_token_file() -> None:
    assert [is_token_file(name) for name in ("a.NPY", "a.parquet", "a.jsonl", "-", "npy")] == [True, True] + 3 * [False]


def test_without_pyarrow_the_extra_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.touch()
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from blendserve.io.token_files import read_token_file\n"
        "from blendserve.errors import UserError\n"
        f"try: read_token_file({str(path)!r})\n"
        "except UserError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == f"reading {path} needs pyarrow: pip install 'blendserve[plan]'\n"


def test_a_npz_file_may_have_output_lengths(tmp_path: Path) -> None:
    arrays = {"tokens": np.arange(3, dtype=np.int32), "offsets": np.array([0, 2, 3])}
    np.savez(tmp_path / "good.npz", output_lengths=np.array([7, -1]), **arrays)
    lengths = read_token_file(str(tmp_path / "good.npz")).output_lengths
    assert lengths is not None
    assert lengths.tolist() == [7, -1]
    np.savez(tmp_path / "bad.npz", output_lengths=np.array([7]), **arrays)
    with pytest.raises(UserError, match="`output_lengths` must have one value for each of the 2 rows"):
        read_token_file(str(tmp_path / "bad.npz"))
