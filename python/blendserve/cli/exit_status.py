"""Exit codes: 0 all done, 1 the job finished with failed rows, 2 bad usage or input that stops the job, 130 and 143
stopped by SIGINT and SIGTERM.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer
from rich.console import Console
from rich.markup import escape

from blendserve.errors import UserError

__all__ = ["FAILED_ROWS", "exit_status"]

FAILED_ROWS = 1
_BAD_USAGE = 2
_INTERRUPTED = 128 + signal.SIGINT
_TERMINATED = 128 + signal.SIGTERM


class _Terminated(BaseException):
    """SIGTERM arrived."""


@contextmanager
def exit_status(console: Console, *, stopped: str) -> Iterator[None]:
    """Turns the errors and signals of a command into messages and exit codes; `stopped` is what a signal leaves."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except UserError as error:
        console.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(_BAD_USAGE) from None
    except (KeyboardInterrupt, _Terminated) as stop:
        console.print(stopped, soft_wrap=True)
        raise typer.Exit(_TERMINATED if isinstance(stop, _Terminated) else _INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise _Terminated
