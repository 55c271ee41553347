"""SGLang's Python radix cache without the rest of SGLang, which needs a GPU.

The files of its `mem_cache` folder that make up the cache run as they are. What they import from elsewhere in SGLang
(memory pools, metrics, kernels) and never use while prompts are inserted is replaced by empty placeholders. torch has
to be there.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import subprocess
import sys
import types
import zipfile
from array import array
from pathlib import Path
from typing import Any, ClassVar

from made_prompts import Prompts

REQUIREMENT = "sglang==0.5.23"
OWN_FILES = {
    "sglang.srt.environ",
    *(
        f"sglang.srt.mem_cache.{name}"
        for name in ("radix_cache", "base_prefix_cache", "cache_init_params", "evict_policy", "events", "utils")
    ),
}


class NotInstalled(Exception):
    """The peer can't be had here; the message says why."""


class RadixCache:
    """Inserts prompts with one KV index for every token, as the engine does after prefill."""

    def __init__(self, folder: Path) -> None:
        finder = _Finder(folder)
        sys.meta_path.insert(0, finder)
        try:
            self._torch = importlib.import_module("torch")
            self._radix = importlib.import_module("sglang.srt.mem_cache.radix_cache")
            self._base = importlib.import_module("sglang.srt.mem_cache.base_prefix_cache")
        except ImportError as error:
            raise NotInstalled(f"{error}") from error
        finally:
            sys.meta_path.remove(finder)

    def inputs(self, prompts: Prompts) -> list[Any]:
        indices = self._torch.arange(len(prompts.tokens))
        spans = list(zip(prompts.offsets[:-1].tolist(), prompts.offsets[1:].tolist(), strict=True))
        tokens = prompts.tokens.astype("int64")
        return [
            self._base.InsertParams(
                key=self._radix.RadixKey(array("q", tokens[begin:end].tobytes())), value=indices[begin:end]
            )
            for begin, end in spans
        ]

    def insert(self, inputs: list[Any]) -> int:
        """Into an empty cache; the number of tokens it then holds."""
        cache = self._radix.RadixCache.create_simulated()
        for one in inputs:
            cache.insert(one)
        return int(cache.total_size())


def fetch(source: str, folder: Path) -> Path:
    """Unpacks SGLang's wheel, a path or a requirement for pip, below `folder`; none of its dependencies."""
    wheel = Path(source)
    if wheel.suffix != ".whl":
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*pip, "--dest", str(folder), source], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NotInstalled(f"pip download {source}: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
        wheel = next(folder.glob("sglang-*.whl"))
    if not wheel.exists():
        raise NotInstalled(f"{wheel} does not exist")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name.replace(".", "/") + ".py" for name in sorted(OWN_FILES)])
    return folder


class _Placeholder(types.ModuleType):
    """Any name that is imported from it is an empty class."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if name.split(".")[0] != "sglang":
            return None
        if name in OWN_FILES:
            return importlib.util.spec_from_file_location(name, self._folder / (name.replace(".", "/") + ".py"))
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Placeholder(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """A placeholder has nothing to run."""
