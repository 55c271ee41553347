from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import blendserve
import pytest
import torch
from batch_jobs import invoke
from blendserve.attention.cuda_library import load_cuda_library
from blendserve.config import attention_names
from blendserve.environment import PACKAGES, read_environment

ROOT = Path(__file__).parents[3]


def test_the_table_names_what_is_here_and_why_not() -> None:
    ended = invoke("env")
    assert ended.code == 0
    lines = dict(re.split(r" {2,}", line, maxsplit=1) for line in ended.out.decode().splitlines())
    assert lines["blendserve"] == blendserve.__version__
    assert lines["torch"] == torch.__version__
    assert lines["attention native_cpu"] == "available"
    assert lines["attention torch_ref"] == "available"
    assert re.search("cores, .* GiB, (scalar|avx2|avx512) kernels", lines["CPU"])


def test_json_has_what_the_environment_has() -> None:
    ended = invoke("env", "--json")
    assert ended.code == 0
    read = json.loads(ended.out)
    assert read["num_cores"] == read_environment().num_cores
    assert set(read["attention"]) == set(attention_names())
    assert read["attention"]["native_cpu"] == {"available": True, "reason": None}
    assert list(read["packages"]) == list(PACKAGES)


def test_a_library_that_is_not_there_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLENDSERVE_CUDA_LIB", str(tmp_path / "nowhere.so"))
    load_cuda_library.cache_clear()
    ended = invoke("env", "--json")
    library = json.loads(ended.out)["cuda_library"]
    assert not library["available"]
    assert "nowhere.so" in library["reason"]


def test_without_torch_it_says_so() -> None:
    hidden = "import sys; sys.modules['torch'] = None; from blendserve.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", hidden, "env", "--json"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    read = json.loads(ended.stdout)
    missing = {"available": False, "reason": "torch is not installed: pip install 'blendserve[engine]'"}
    assert set(read["attention"]) == set(attention_names())
    assert all(each == missing for each in [*read["attention"].values(), read["cuda_library"]])
    assert read["cpu_isa"] in ("scalar", "avx2", "avx512")


def test_gpus_and_their_driver_are_read_where_torch_cannot_use_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gpus" / "0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 1\n")
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release\n")
    monkeypatch.setattr("blendserve.environment._DRIVER", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    environment = read_environment()
    assert [gpu.name for gpu in environment.gpus] == ["NVIDIA H100 80GB HBM3"]
    assert environment.driver == "580.159.04"


def test_the_packages_are_those_that_the_project_asks_for() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    asked = re.findall(r'^dependencies = \["([\w-]+)', text, re.MULTILINE)
    for extra in ("engine", "plan"):
        body = text.split(f"\n{extra} = [")[1].split("]\n")[0]
        asked += re.findall(r'"([\w-]+)', body)
    assert set(PACKAGES) == set(asked)
