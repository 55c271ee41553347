"""Columns of a workload file as checked arrays. A `UserError` names the file, the column and, where one is, the row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blendserve.errors import UserError
from blendserve.io.arrow_tokens import flat_lists
from blendserve.io.fields import MAX_INT32

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["bool_column", "int32_column", "required_int32", "source_column", "token_column"]

_MAX_SOURCES = 2**15 - 1


def token_column(path: str, table: pa.Table, name: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """All ids, int32 [T], and where each row's begin, int64 [n + 1]."""
    import pyarrow as pa

    kind = table.schema.field(name).type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not is_list or not pa.types.is_integer(kind.value_type):
        raise UserError(f"workload {path}: column `{name}` is {kind}; it must be a list of integers")
    tokens, offsets = flat_lists(path, name, table.column(name))
    if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) <= MAX_INT32:
        raise UserError(
            f"workload {path} holds token ids from {tokens.min()} to {tokens.max()}; an id is 0 to {MAX_INT32}"
        )
    return tokens.astype(np.int32, copy=False), offsets


def required_int32(path: str, table: pa.Table, name: str, *, low: int) -> NDArray[np.int32]:
    """int32 [n], each `low` or more; the column must be there and have no null."""
    numbers = int32_column(path, table, name, low=low, null=None)
    if numbers is None:
        raise UserError(f"workload {path} has no column {name}, but {', '.join(table.column_names)}; add it")
    return numbers


def int32_column(path: str, table: pa.Table, name: str, *, low: int, null: int | None) -> NDArray[np.int32] | None:
    """int32 [n], each `low` or more, with `null` in place of nulls; if that is None there must be none. None without
    such a column."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if name not in table.column_names:
        return None
    column = table.column(name)
    if not pa.types.is_integer(column.type):
        raise UserError(f"workload {path}: column `{name}` is {column.type}; it must be of integers")
    if column.null_count and null is None:
        row = pc.index(column.is_null(), True).as_py()
        raise UserError(f"workload {path}: row {row} of `{name}` is null; give {low} or more")
    is_null = column.is_null().to_numpy()
    numbers = pc.fill_null(column, 0).to_numpy()
    wrong = ~is_null & ((numbers < low) | (numbers > MAX_INT32))
    if np.any(wrong):
        row = int(np.argmax(wrong))
        raise UserError(f"workload {path}: row {row} of `{name}` is {numbers[row]}; give {low} to {MAX_INT32}")
    values: NDArray[np.int32] = np.where(is_null, 0 if null is None else null, numbers).astype(np.int32)
    return values


def bool_column(path: str, table: pa.Table, name: str) -> NDArray[np.bool_]:
    """bool [n]; False where null, and everywhere without such a column."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if name not in table.column_names:
        return np.zeros(table.num_rows, dtype=np.bool_)
    column = table.column(name)
    if not pa.types.is_boolean(column.type):
        raise UserError(f"workload {path}: column `{name}` is {column.type}; it must be bool")
    values: NDArray[np.bool_] = pc.fill_null(column, False).to_numpy()
    return values


def source_column(path: str, table: pa.Table, name: str, *, default: str) -> tuple[tuple[str, ...], NDArray[np.int16]]:
    """The names, and int16 [n]: which each row has; `default` where null, and everywhere without such a column."""
    import pyarrow as pa

    if name not in table.column_names:
        return (default,), np.zeros(table.num_rows, dtype=np.int16)
    column = table.column(name)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    if not pa.types.is_string(column.type.value_type) and not pa.types.is_large_string(column.type.value_type):
        raise UserError(f"workload {path}: column `{name}` is {column.type}; it must hold names")
    column = column.unify_dictionaries()
    names = tuple(column.chunk(0).dictionary.to_pylist())
    index = np.concatenate([chunk.indices.fill_null(len(names)).to_numpy() for chunk in column.chunks])
    if column.null_count:
        names = (*names, default)
    if len(names) > _MAX_SOURCES:
        raise UserError(f"workload {path} has {len(names)} sources; give at most {_MAX_SOURCES}")
    return names, index.astype(np.int16)
