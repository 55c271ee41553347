"""Where requests come from and results go; "-" is stdin or stdout."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from blendserve.errors import UserError

__all__ = ["STANDARD_STREAM", "check_new_file", "check_paths", "check_side_outputs", "input_file", "open_input"]

STANDARD_STREAM = "-"

_COPY_BYTES = 1024 * 1024
# How compressed files begin -> what decompresses them.
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz", b"BZh": "bzip2"}


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


@contextmanager
def input_file(path: str) -> Iterator[Path]:
    """The input as a file that can be read more than once: standard input or a pipe is copied to a temporary one.

    Raises `UserError` if it cannot be read, or is compressed.
    """
    with open_input(path) as source:
        if path != STANDARD_STREAM and Path(path).is_file():
            _refuse_compressed(path, Path(path))
            yield Path(path)
            return
        with NamedTemporaryFile(prefix="blendserve-input-") as copy:
            shutil.copyfileobj(source, copy, _COPY_BYTES)
            copy.flush()
            _refuse_compressed(path, Path(copy.name))
            yield Path(copy.name)


def _refuse_compressed(shown_path: str, path: Path) -> None:
    with path.open("rb") as source:
        start = source.read(max(map(len, _COMPRESSED)))
    for magic, program in _COMPRESSED.items():
        if start.startswith(magic):
            raise UserError(f"input {shown_path} is compressed; decompress it, or pipe `{program} -dc` of it into -i -")


def check_paths(input_path: str, output_path: str) -> None:
    """Raises `UserError` if results cannot be written to `output_path`; creates and changes nothing."""
    if output_path != STANDARD_STREAM:
        check_new_file("output", output_path, {"input": input_path})


def check_side_outputs(paths: Mapping[str, str | None], inputs: Mapping[str, str | None], output_path: str) -> None:
    """Raises `UserError` if the files of a job besides its results cannot be written, or files that it reads would be.

    Files go by name, None where the job has none. Changes nothing.
    """
    others = {name: path for name, path in inputs.items() if path is not None}
    if output_path != STANDARD_STREAM:
        check_new_file("output", output_path, others)
        others["output"] = output_path
    for name, path in paths.items():
        if path is not None:
            check_new_file(name, path, others)
            others[name] = path


def check_new_file(name: str, path: str, others: Mapping[str, str]) -> None:
    """Raises `UserError` if the file that is to be the `name` cannot be written or is one of `others`, also by name.

    Creates and changes nothing. An input "-" is the file that standard input is redirected from, if any.
    """
    _check_writable(name, path)
    for other_name, other_path in others.items():
        _refuse_same_file(name, path, other_name, other_path)


def _check_writable(name: str, path: str) -> None:
    file = Path(path)
    if file.is_dir():
        raise UserError(f"{name} {path} is a directory; give a file in it")
    folder = file.absolute().parent
    if not folder.exists():
        raise UserError(f"{name} {path} cannot be written: folder {folder} does not exist; create it first")
    if not folder.is_dir():
        raise UserError(f"{name} {path} cannot be written: {folder} is not a folder; give another path")
    if not os.access(file if file.exists() else folder, os.W_OK):
        raise UserError(f"{name} {path} cannot be written: permission denied; give another path")


def _refuse_same_file(name: str, path: str, other_name: str, other_path: str) -> None:
    if _is_same_file(Path(path), other_path):
        raise UserError(f"{name} {path} is the {other_name} file; give another path")


def _is_same_file(path: Path, other: str) -> bool:
    """Also if neither exists yet; never for devices. "-" is the file that standard input is redirected from, if any."""
    if path.exists() and not path.is_file():
        return False
    if other != STANDARD_STREAM:
        both_exist = path.exists() and Path(other).exists()
        return path.samefile(other) if both_exist else path.resolve() == Path(other).resolve()
    try:
        redirected = os.fstat(sys.stdin.fileno())
    except OSError:
        return False
    return path.exists() and os.path.samestat(path.stat(), redirected)
