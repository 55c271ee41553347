import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def cuda_device() -> torch.device:
    """These tests fail, rather than being skipped, where nothing can run them."""
    if not torch.cuda.is_available():
        pytest.exit(
            "tests/gpu needs an NVIDIA GPU that torch can use; without one run `pytest tests/python`", returncode=2
        )
    return torch.device("cuda")
