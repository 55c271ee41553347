from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def default_model_dir() -> Path:
    """The default model in the user's own cache: converted by the first run, found by the later ones."""
    from blendserve.models import resolve_model

    return resolve_model(None)
