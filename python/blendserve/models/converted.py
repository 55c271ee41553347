"""Models that come as one GGUF file, converted once into the user's cache directory.

The weights become float32: a 4-bit weight is scale * q + offset with 16-bit scale and offset, which float32 holds to
its last bits and a 16-bit type does not.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from blendserve.errors import UserError

__all__ = ["convert_once", "convert_user_file"]

_FORMAT_VERSION = 1  # of what the conversion writes; a new number makes a new folder


def convert_user_file(gguf_path: Path) -> Path:
    """The folder of a file of the user's; another file, or another content of this size and age, has another folder."""
    path = gguf_path.resolve()
    status = path.stat()
    key = f"{path}:{status.st_size}:{status.st_mtime_ns}".encode()
    return convert_once(f"{path.stem}-{hashlib.sha256(key).hexdigest()[:12]}", lambda: path)


def convert_once(name: str, gguf_path: Callable[[], Path]) -> Path:
    """The folder `name` of the cache; converts the file, which `gguf_path` finds, if it is not there.

    A folder of that name is always whole: it is written under another name and renamed, by one process at a time.
    Raises `UserError` when the cache directory cannot be written, `ModelError` for a file that cannot be converted.
    """
    cache = _cache_dir()
    model_dir = cache / f"{name}-v{_FORMAT_VERSION}"
    if model_dir.is_dir():
        return model_dir
    path = gguf_path()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _exclusive(cache / f".{model_dir.name}.lock"):
            if not model_dir.is_dir():
                _convert(path, model_dir)
    except OSError as error:
        raise UserError(
            f"cannot write {path.name}, converted to float32, to {cache}: {error}; free some space, or set"
            " XDG_CACHE_HOME to a directory that can be written"
        ) from error
    return model_dir


def _convert(gguf_path: Path, model_dir: Path) -> None:
    from blendserve.models.gguf_folder import write_gguf_as_folder

    partial_dir = model_dir.with_name(f".{model_dir.name}.partial")  # a killed process may have left one
    if partial_dir.exists():
        shutil.rmtree(partial_dir)
    partial_dir.mkdir()
    try:
        write_gguf_as_folder(gguf_path, partial_dir)
        partial_dir.rename(model_dir)
    finally:
        shutil.rmtree(partial_dir, ignore_errors=True)


def _cache_dir() -> Path:
    configured = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(configured) if Path(configured).is_absolute() else Path.home() / ".cache"
    return base / "blendserve" / "models"


@contextmanager
def _exclusive(lock_path: Path) -> Iterator[None]:
    """Waits for other processes; the lock of one that dies is free again."""
    with lock_path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
