from __future__ import annotations

from pathlib import Path

import pytest
from batch_jobs import Job
from tiny_models import build_llama

CONTEXT_LEN = 256


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a tokenizer; its answers end at their length limit, for it has no end token."""
    folder = tmp_path_factory.mktemp("model")
    return build_llama(folder, with_tokenizer=True, max_positions=CONTEXT_LEN, eos_token_id=None)


@pytest.fixture(scope="session")
def textless_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model without a tokenizer."""
    return build_llama(tmp_path_factory.mktemp("textless"), max_positions=CONTEXT_LEN, eos_token_id=None)


@pytest.fixture
def job(tmp_path: Path, model_dir: Path) -> Job:
    return Job(tmp_path, model_dir)
