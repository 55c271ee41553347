"""Where requests come from and results go; "-" is stdin or stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from blendserve.errors import UserError

__all__ = ["STANDARD_STREAM", "check_paths", "open_input"]

STANDARD_STREAM = "-"


@contextmanager
def open_input(path: str) -> Iterator[BinaryIO]:
    """The bytes of the input; raises `UserError` if they cannot be read."""
    if path == STANDARD_STREAM:
        yield sys.stdin.buffer
        return
    with _open_file(path) as source:
        yield source


def _open_file(path: str) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise UserError(f'input {path} does not exist; check the path, or give "-" for standard input') from None
    except IsADirectoryError:
        raise UserError(f"input {path} is a directory; give a JSONL file") from None
    except OSError as error:
        raise UserError(f"input {path} cannot be read: {error.strerror}; check its permissions") from None


def check_paths(input_path: str, output_path: str) -> None:
    """Raises `UserError` if results cannot be written to `output_path`; creates and changes nothing."""
    if output_path == STANDARD_STREAM:
        return
    output = Path(output_path)
    if output.is_dir():
        raise UserError(f"output {output_path} is a directory; give a file in it")
    folder = output.absolute().parent
    if not folder.is_dir():
        raise UserError(f"output {output_path} cannot be written: folder {folder} does not exist; create it first")
    if not os.access(output if output.exists() else folder, os.W_OK):
        raise UserError(f"output {output_path} cannot be written: permission denied; give another path")
    if input_path != STANDARD_STREAM and output.is_file() and Path(input_path).exists() and output.samefile(input_path):
        raise UserError(f"output {output_path} is the input file; give another path")
