"""The files that `blendserve plan` writes: checked before the work, written after it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blendserve.errors import UserError
from blendserve.io.paths import STANDARD_STREAM, check_new_file
from blendserve.io.token_files import is_token_file
from blendserve.plan_job.prompts import JobPrompts
from blendserve.plan_job.row_order import emit_rows, rows_in_order, write_order
from blendserve.planning import Plan

__all__ = ["PlanOutputs"]

_PICTURE_SUFFIXES = (".png", ".svg", ".pdf")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOutputs:
    """Paths; None is not asked for."""

    order: str | None
    emit: str | None
    json: str | None
    plot: str | None
    save: str | None

    def check(self, input_path: str) -> None:
        """Raises `UserError` for what could not be written in the end; creates and changes nothing."""
        others = {"input": input_path}
        for name, path in self._wanted().items():
            if path == STANDARD_STREAM:
                raise UserError(f"--{name} - is not possible: standard output has the table; give a file")
            check_new_file(name, path, others)
            others[name] = path
        if self.emit is not None and is_token_file(input_path):
            raise UserError(
                f"--emit reorders lines, and {input_path} has none; take --order and index its rows with it"
            )
        if self.plot is not None:
            _check_picture(self.plot)

    def write(self, plan: Plan, prompts: JobPrompts, source: Path, figures: dict[str, Any]) -> None:
        """`source` is a file with the bytes of the input."""
        rows = rows_in_order(plan.order, prompts)
        writers: dict[str, Callable[[str], None]] = {
            "order": lambda path: write_order(path, rows),
            "emit": lambda path: emit_rows(path, source, rows, prompts),
            "json": lambda path: _write_json(path, figures),
            "plot": lambda path: _draw(path, plan, figures),
            "save": plan.save,
        }
        for name, path in self._wanted().items():
            try:
                writers[name](path)
            except OSError as error:
                raise UserError(f"{name} {path} cannot be written: {error.strerror}; give another path") from error

    def _wanted(self) -> dict[str, str]:
        paths = {name: getattr(self, name) for name in ("order", "emit", "json", "plot", "save")}
        return {name: path for name, path in paths.items() if path is not None}


def _write_json(path: str, figures: dict[str, Any]) -> None:
    Path(path).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _check_picture(path: str) -> None:
    if not path.lower().endswith(_PICTURE_SUFFIXES):
        raise UserError(f"plot {path} must end in {', '.join(_PICTURE_SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError(f"plot {path} needs matplotlib: pip install 'blendserve[plan]'")


def _draw(path: str, plan: Plan, figures: dict[str, Any]) -> None:
    from blendserve.report.icicle import draw_icicle

    title = f"{figures['num_requests']:,} requests, {figures['model']} on {figures['hardware']}"
    draw_icicle(plan.tree_view("built"), plan.tree_view("planned"), path, title=title, root_density=plan.density)
