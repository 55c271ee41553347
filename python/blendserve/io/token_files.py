"""Prompts as token ids, from NumPy, Arrow and Parquet files, and the columns of lengths beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendserve.errors import UserError
from blendserve.io import arrow_tokens

__all__ = ["TOKEN_FILE_SUFFIXES", "TokenFile", "is_token_file", "read_token_file"]

TOKEN_FILE_SUFFIXES = (".npy", ".npz", ".arrow", ".feather", ".parquet")

_INT32 = np.iinfo(np.int32)
_RAGGED_REMEDY = (
    "rows of different lengths go into a .npz file: `tokens` holds all of them one after the other, `offsets` where "
    "each begins and, last, the number of tokens"
)


@dataclass(frozen=True, slots=True)
class TokenFile:
    """Row i is `tokens[offsets[i] : offsets[i + 1]]`; arrays may lie in the mapped file.

    tokens: int32 [T]. offsets: int64 [n + 1].
    output_lengths: float64 [n], what each row is expected to generate, -1 unknown; None without such a column.
    max_tokens: int64 [n], the most each row may generate, -1 unlimited; None without such a column.
    """

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    output_lengths: NDArray[np.float64] | None = None
    max_tokens: NDArray[np.int64] | None = None

    @property
    def num_rows(self) -> int:
        return len(self.offsets) - 1


def is_token_file(path: str) -> bool:
    """By its name."""
    return Path(path).suffix.lower() in TOKEN_FILE_SUFFIXES


def read_token_file(path: str) -> TokenFile:
    """Raises `UserError` for a file that is missing, broken, or holds no rows of token ids."""
    suffix = Path(path).suffix.lower()
    if not Path(path).is_file():
        raise UserError(f"input {path} does not exist or is no file; check the path")
    try:
        file = _READERS[suffix](path)
    except UserError:
        raise
    except (OSError, ValueError, KeyError, EOFError) as error:  # what the formats' readers raise on broken files
        raise UserError(f"input {path} cannot be read as a {suffix} file: {error}; write it again") from error
    if file.num_rows == 0:
        raise UserError(f"input {path} has no rows; give one prompt a row")
    return file


def _read_npy(path: str) -> TokenFile:
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise UserError(f"input {path} is no plain array ({error}); {_RAGGED_REMEDY}") from error
    if rows.ndim != 2:
        raise UserError(
            f"input {path} is an array of {rows.ndim} dimensions; give two, rows and tokens; {_RAGGED_REMEDY}"
        )
    num_rows, row_len = rows.shape
    return TokenFile(_as_int32(path, rows.reshape(-1)), np.arange(num_rows + 1, dtype=np.int64) * row_len)


def _read_npz(path: str) -> TokenFile:
    with np.load(path, allow_pickle=False) as arrays:
        missing = [name for name in ("tokens", "offsets") if name not in arrays]
        if missing:
            raise UserError(
                f"input {path} has no array `{missing[0]}`, only {', '.join(arrays) or 'none'}; {_RAGGED_REMEDY}"
            )
        tokens, offsets = arrays["tokens"], arrays["offsets"]
        lengths = arrays["output_lengths"].astype(np.float64) if "output_lengths" in arrays else None
    if tokens.ndim != 1 or offsets.ndim != 1 or not np.issubdtype(offsets.dtype, np.integer):
        raise UserError(f"input {path}: `tokens` and `offsets` must be integer arrays of one dimension")
    if lengths is not None and lengths.shape != (len(offsets) - 1,):
        raise UserError(f"input {path}: `output_lengths` must have one value for each of the {len(offsets) - 1} rows")
    offsets = _checked_offsets(path, offsets.astype(np.int64, copy=False), len(tokens))
    return TokenFile(_as_int32(path, tokens), offsets, lengths)


def _checked_offsets(path: str, offsets: NDArray[np.int64], num_tokens: int) -> NDArray[np.int64]:
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != num_tokens or np.any(np.diff(offsets) < 0):
        raise UserError(
            f"input {path}: `offsets` must begin at 0, never fall and end at {num_tokens}, the number of tokens"
        )
    return offsets


def _read_arrow(path: str) -> TokenFile:
    return _of_columns(path, arrow_tokens.read_ipc_columns(path))


def _read_parquet(path: str) -> TokenFile:
    return _of_columns(path, arrow_tokens.read_parquet_columns(path))


def _of_columns(path: str, columns: arrow_tokens.TokenColumns) -> TokenFile:
    max_tokens = None if columns.max_tokens is None else columns.max_tokens.astype(np.int64)
    return TokenFile(_as_int32(path, columns.tokens), columns.offsets, columns.output_lengths, max_tokens)


def _as_int32(path: str, tokens: NDArray[Any]) -> NDArray[np.int32]:
    """The same memory if it holds int32 already."""
    if not np.issubdtype(tokens.dtype, np.integer):
        raise UserError(f"input {path} holds {tokens.dtype} values; token ids are integers")
    if len(tokens) and tokens.dtype != np.int32:
        low, high = int(tokens.min()), int(tokens.max())
        if low < _INT32.min or high > _INT32.max:
            bad = high if high > _INT32.max else low
            raise UserError(f"input {path} holds the token id {bad}; ids must fit 32 bits")
    if len(tokens) and tokens.min() < 0:
        raise UserError(f"input {path} holds the token id {tokens.min()}; ids are 0 or more, padding is not one")
    return np.ascontiguousarray(tokens, dtype=np.int32)


_READERS = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".arrow": _read_arrow,
    ".feather": _read_arrow,
    ".parquet": _read_parquet,
}
