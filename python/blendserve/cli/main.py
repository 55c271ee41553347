"""The commands."""

from __future__ import annotations

from typing import Annotated

import typer

from blendserve import __version__
from blendserve.cli.env import env
from blendserve.cli.plan import plan
from blendserve.cli.profile import profile
from blendserve.cli.run import run
from blendserve.cli.simulate import simulate
from blendserve.cli.synthesize import synthesize

__all__ = ["app"]

app = typer.Typer(
    name="blendserve",
    help="Offline batch inference: a file of requests in, every answer out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(run)
app.command()(plan)
app.command()(simulate)
app.command()(profile)
app.command()(synthesize)
app.command()(env)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    del version
