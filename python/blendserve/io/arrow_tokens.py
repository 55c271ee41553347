"""The token column of an Arrow or Parquet file, and the columns beside it, as NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blendserve.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "TOKEN_COLUMNS",
    "TokenColumns",
    "flat_lists",
    "open_ipc",
    "read_ipc_columns",
    "read_parquet_columns",
    "require_pyarrow",
]

TOKEN_COLUMNS = ("prompt_token_ids", "input_ids", "token_ids", "tokens")
_LENGTH_COLUMNS = ("output_len", "output_length", "expected_output_tokens", "output_lengths")
_LIMIT_COLUMNS = ("max_tokens",)


@dataclass(frozen=True, slots=True)
class TokenColumns:
    """tokens: any integer type [T]; offsets: int64 [n + 1]; the others float64 [n], -1 where null; None: no column."""

    tokens: NDArray[Any]
    offsets: NDArray[np.int64]
    output_lengths: NDArray[np.float64] | None
    max_tokens: NDArray[np.float64] | None


def read_ipc_columns(path: str) -> TokenColumns:
    """From an IPC file or stream, memory-mapped: without compression nothing is copied."""
    reader = open_ipc(path)
    names = _columns_to_read(path, reader.schema)
    return _token_columns(path, reader.read_all().select(names))


def read_parquet_columns(path: str) -> TokenColumns:
    """Reads the columns that are used, no others."""
    require_pyarrow(path)
    from pyarrow import parquet

    names = _columns_to_read(path, parquet.read_schema(path, memory_map=True))
    return _token_columns(path, parquet.read_table(path, columns=names, memory_map=True))


def open_ipc(path: str) -> pa.RecordBatchFileReader | pa.RecordBatchStreamReader:
    """An IPC file or stream, memory-mapped."""
    require_pyarrow(path)
    import pyarrow as pa

    source = pa.memory_map(path)
    try:
        return pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source)


def require_pyarrow(path: str) -> None:
    """Raises `UserError` that says what to install."""
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError:
        raise UserError(f"reading {path} needs pyarrow: pip install 'blendserve[plan]'") from None


def _columns_to_read(path: str, schema: pa.Schema) -> list[str]:
    """The token column first, then the columns of lengths that are there."""
    beside = (_present(_LENGTH_COLUMNS, schema.names), _present(_LIMIT_COLUMNS, schema.names))
    return [_token_column(path, schema), *(name for name in beside if name is not None)]


def _token_column(path: str, schema: pa.Schema) -> str:
    name = _present(TOKEN_COLUMNS, schema.names)
    if name is not None:
        if not _is_integer_list(schema.field(name).type):
            raise UserError(
                f"input {path}: column `{name}` is {schema.field(name).type}; it must be a list of integers"
            )
        return name
    lists = [field.name for field in schema if _is_integer_list(field.type)]
    if len(lists) != 1:
        found = f"several lists of integers ({', '.join(lists)})" if lists else ", ".join(schema.names) or "none at all"
        raise UserError(
            f"input {path} has no column {', '.join(TOKEN_COLUMNS[:-1])} or {TOKEN_COLUMNS[-1]}, but {found}; "
            f"name the column of token ids {TOKEN_COLUMNS[0]}"
        )
    return str(lists[0])


def _present(names: Sequence[str], columns: Sequence[str]) -> str | None:
    return next((name for name in names if name in columns), None)


def _is_integer_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and pa.types.is_integer(kind.value_type))


def _token_columns(path: str, table: pa.Table) -> TokenColumns:
    tokens, offsets = flat_lists(path, table.column_names[0], table.column(0))
    return TokenColumns(tokens, offsets, _numbers(path, table, _LENGTH_COLUMNS), _numbers(path, table, _LIMIT_COLUMNS))


def flat_lists(path: str, name: str, column: pa.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Values and offsets of all chunks; those of a single chunk are not copied."""
    import pyarrow.compute as pc

    if column.null_count:
        row = pc.index(column.is_null(), True).as_py()
        raise UserError(f"input {path}: row {row} of column `{name}` is null; every row must be a list, [] if empty")
    values, lengths = [], []
    for chunk in column.chunks:
        flat = chunk.flatten()
        if flat.null_count:
            raise UserError(f"input {path}: a list of column `{name}` holds a null; leave it out or give the token id")
        values.append(flat.to_numpy(zero_copy_only=True))
        lengths.append(pc.list_value_length(chunk).to_numpy(zero_copy_only=False))
    offsets = np.zeros(len(column) + 1, dtype=np.int64)
    np.cumsum(np.concatenate([*lengths, np.empty(0, dtype=np.int64)]), out=offsets[1:])
    if len(values) == 1:
        return values[0], offsets
    return np.concatenate([*values, np.empty(0, dtype=values[0].dtype if values else np.int32)]), offsets


def _numbers(path: str, table: pa.Table, names: Sequence[str]) -> NDArray[np.float64] | None:
    import pyarrow as pa

    name = _present(names, table.column_names)
    if name is None:
        return None
    column = table.column(name)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise UserError(f"input {path}: column `{name}` is {column.type}; it must hold numbers, null where unknown")
    numbers: NDArray[np.float64] = column.cast(pa.float64()).to_numpy()  # null becomes NaN
    if np.any(numbers < 1):
        row = int(np.flatnonzero(numbers < 1)[0])
        raise UserError(f"input {path}: row {row} of `{name}` is {numbers[row]:g}; give 1 or more, or null if unknown")
    return np.where(np.isnan(numbers), -1.0, numbers)
