"""The `blendserve` command."""

from __future__ import annotations

import sys

__all__ = ["main"]

_BAD_USAGE = 2


def main() -> None:
    """Entry point; works, to say what is missing, without the `engine` extra too."""
    try:
        from blendserve.cli.main import app
    except ModuleNotFoundError as error:
        print(f"error: the blendserve command needs {error.name}: pip install 'blendserve[engine]'", file=sys.stderr)
        sys.exit(_BAD_USAGE)
    app(prog_name="blendserve")
