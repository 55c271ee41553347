"""The direction of dependencies (docs/architecture.md): who may include or import whom."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]

# Folder of csrc -> the folders it may include, besides itself and the C++ standard library.
CPP_LAYERS: dict[str, set[str]] = {
    "base": set(),
    "request": {"base"},
    "perf": {"base", "request"},
    "tree": {"base", "request"},
    "estimate": {"base", "request", "tree"},
    "plan": {"base", "request", "perf", "tree", "estimate"},
    "policy": {"base", "request", "perf", "tree", "estimate", "plan"},
    "kv": {"base", "request"},
    "sched": {"base", "request", "kv"},
    "sim": {"base", "request", "perf", "kv", "sched"},
    "kernels": {"base"},
    "kernels/cpu": {"base", "kernels"},
    "kernels/cuda": {"base", "kernels"},
    "model": {"base", "kernels/cpu"},
}
CPP_LAYERS["bindings"] = set(CPP_LAYERS)

# Headers from outside, by how they begin -> the folders that may include them.
CPP_FOREIGN: dict[str, set[str]] = {
    "pybind11/": {"bindings"},
    "Python.h": {"bindings"},
    "cuda": {"kernels/cuda"},
    "flashinfer/": {"kernels/cuda"},
    "torch/": set(),
    "ATen/": set(),
    "c10/": set(),
}

# Modules of blendserve that work without the engine's dependencies, and what they therefore may not import.
TORCH_FREE = {
    "__init__", "config", "devices", "errors", "io", "outputs", "planning", "recording", "report", "sampling_params",
    "simulation", "specs", "synthesis", "traces",
}  # fmt: skip
ENGINE_ONLY = {"torch", "transformers", "tokenizers", "safetensors", "gguf"}
# The command line is the outermost layer: only `python -m blendserve` starts it.
CLI_STARTER = "__main__"


def cpp_layer(path: str) -> str | None:
    """The longest folder of the table that `path`, relative to csrc, lies in."""
    folders = [folder.as_posix() for folder in PurePosixPath(path).parents]
    return next((folder for folder in folders if folder in CPP_LAYERS), None)


def cpp_violations(path: str, source: str) -> list[str]:
    """What one source file, named relative to csrc, includes against the tables."""
    layer = cpp_layer(path)
    if layer is None:
        return [f"{path}: its folder is not in the table of layers"]
    found = []
    for quoted, angled in re.findall(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', source, re.MULTILINE):
        header = quoted or angled
        target = cpp_layer(header)
        allowed_by = next((folders for start, folders in CPP_FOREIGN.items() if header.startswith(start)), None)
        if allowed_by is not None:
            allowed = layer in allowed_by
        else:
            allowed = bool(angled) or target == layer or target in CPP_LAYERS[layer]
        if not allowed:
            found.append(f"{path}: {layer} must not include {header}")
    return found


def imported_modules(tree: ast.AST, package: str) -> Iterator[str]:
    """Absolute names of all modules that a module of `package` imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def python_violations(path: str, source: str) -> list[str]:
    """What one module, named relative to python/blendserve, imports against the rules."""
    part = PurePosixPath(path).parts[0].removesuffix(".py")
    package = ".".join(["blendserve", *PurePosixPath(path).parent.parts])
    found = []
    for module in imported_modules(ast.parse(source), package):
        if part in TORCH_FREE and module.split(".")[0] in ENGINE_ONLY:
            found.append(f"{path}: {part} must not import {module}")
        if part not in {"cli", CLI_STARTER} and (module + ".").startswith("blendserve.cli."):
            found.append(f"{path}: {part} must not import {module}")
    return found


def test_csrc_includes_follow_the_table() -> None:
    root = ROOT / "csrc"
    files = sorted(path for suffix in ("h", "cc", "cu", "cuh") for path in root.rglob(f"*.{suffix}"))
    assert files
    assert [line for p in files for line in cpp_violations(p.relative_to(root).as_posix(), p.read_text())] == []


def test_python_imports_follow_the_rules() -> None:
    root = ROOT / "python" / "blendserve"
    files = sorted(root.rglob("*.py"))
    assert files
    assert [line for p in files for line in python_violations(p.relative_to(root).as_posix(), p.read_text())] == []


@pytest.mark.parametrize(
    ("path", "line", "culprit"),
    [
        ("base/ids.h", '#include "request/request.h"', "request/request.h"),
        ("sched/admission.cc", '#include "policy/fcfs.h"', "policy/fcfs.h"),
        ("kernels/cpu/attention.cc", '#include "kernels/cuda/attention.h"', "kernels/cuda/attention.h"),
        ("kernels/cpu/attention.cc", '  #  include "kv/block_pool.h"', "kv/block_pool.h"),
        ("kv/block_pool.h", '#include "bindings/bindings.h"', "bindings/bindings.h"),
        ("kv/block_pool.h", "#include <pybind11/pybind11.h>", "pybind11/pybind11.h"),
        ("kernels/cpu/attention.cc", "#include <cuda_runtime.h>", "cuda_runtime.h"),
        ("bindings/kernels.cc", "#include <torch/extension.h>", "torch/extension.h"),
        ("sched/step_plan.h", '#include "../kv/block_pool.h"', "../kv/block_pool.h"),
    ],
)
def test_the_cpp_check_finds(path: str, line: str, culprit: str) -> None:
    assert cpp_violations(path, f"#pragma once\n{line}\n") == [f"{path}: {cpp_layer(path)} must not include {culprit}"]


def test_the_cpp_check_accepts_the_folder_itself_lower_layers_and_the_standard_library() -> None:
    source = '#include <vector>\n#include "sched/step_plan.h"\n#include "kv/block_pool.h"\n#include "base/ids.h"\n'
    assert cpp_violations("sched/scheduler.cc", source) == []
    assert (
        cpp_violations("kernels/cuda/attention.cu", '#include <cuda_runtime.h>\n#include "kernels/attention.h"') == []
    )


def test_the_cpp_check_refuses_a_folder_that_is_not_in_the_table() -> None:
    assert cpp_violations("misc/odds.cc", "") == ["misc/odds.cc: its folder is not in the table of layers"]


@pytest.mark.parametrize(
    ("path", "source", "culprit"),
    [
        ("io/openai_batch.py", "import torch", "torch"),
        ("errors.py", "def f():\n    from transformers import AutoConfig", "transformers.AutoConfig"),
        ("__init__.py", "import torch.nn as nn", "torch.nn"),
        ("engine.py", "from blendserve.cli.main import main", "blendserve.cli.main.main"),
        ("runner/runner.py", "from ..cli import main", "blendserve.cli.main"),
        ("llm.py", "from . import cli", "blendserve.cli"),
        ("llm.py", "from blendserve import cli", "blendserve.cli"),
    ],
)
def test_the_python_check_finds(path: str, source: str, culprit: str) -> None:
    part = path.split("/")[0].removesuffix(".py")
    assert python_violations(path, source) == [f"{path}: {part} must not import {culprit}"]


def test_the_python_check_accepts_torch_in_the_engine_and_the_cli_in_main() -> None:
    assert python_violations("runner/runner.py", "import torch\nfrom ..attention import base") == []
    assert python_violations("__main__.py", "from blendserve.cli.main import main") == []
    assert python_violations("cli/run.py", "from blendserve.cli.progress import Progress") == []


def test_the_torch_free_modules_load_none_of_the_engines_dependencies() -> None:
    root = ROOT / "python" / "blendserve"
    files = [path for part in TORCH_FREE for path in [*root.glob(f"{part}.py"), *root.glob(f"{part}/*.py")]]
    modules = [".".join(["blendserve", *path.relative_to(root).with_suffix("").parts]) for path in files]
    names = sorted(module.removesuffix(".__init__") for module in modules)
    code = f"""
import importlib, sys
for name in {names}:
    importlib.import_module(name)
print(sorted({ENGINE_ONLY} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("[]\n", "")
