"""The package's types are there for its users: stubs of the extension that match it, and the py.typed mark."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import blendserve

PACKAGE = Path(blendserve.__file__).parent
ALLOWLIST = Path(__file__).with_name("stubtest_allowlist.txt")


def test_the_stub_of_the_extension_matches_the_extension(tmp_path: Path) -> None:
    # mypy finds an installed package by itself and refuses to be told; a source tree it must be told of.
    env = dict(os.environ, MYPYPATH="" if "site-packages" in PACKAGE.parts else str(PACKAGE.parent))
    config = tmp_path / "mypy.ini"
    no_torch = "[mypy-blendserve.llm]\nfollow_imports = skip\n"
    config.write_text(f"[mypy]\n{no_torch}[mypy-pyarrow.*]\nignore_missing_imports = True\n")
    options = ["--mypy-config-file", str(config), "--allowlist", str(ALLOWLIST)]
    command = [sys.executable, "-m", "mypy.stubtest", "blendserve._core", *options]
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_package_carries_its_type_marks() -> None:
    assert (PACKAGE / "py.typed").is_file()
    assert (PACKAGE / "_core.pyi").is_file()
