"""`blendserve plan`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from blendserve._core import named_devices
from blendserve.cli.exit_status import FAILED_ROWS, exit_status
from blendserve.cli.plan_outputs import PlanOutputs
from blendserve.cli.plan_table import plan_table
from blendserve.cli.progress import ProgressDisplay
from blendserve.cli.without_torch import without_torch
from blendserve.config import kv_element_bytes
from blendserve.devices import element_bytes, named_device
from blendserve.errors import UserError
from blendserve.io.batch_input import RowError
from blendserve.io.paths import input_file
from blendserve.plan_job.figures import plan_figures
from blendserve.plan_job.job import PlanJob
from blendserve.plan_job.models import PlannedModel

__all__ = ["plan"]

_DEFAULT_HARDWARE = "h100-sxm-80gb"
_MAX_SHOWN_ERRORS = 5


def plan(
    input_path: Annotated[
        str,
        typer.Option(
            "-i",
            "--input",
            metavar="IN",
            help="Requests in the OpenAI Batch format (- is stdin), or token ids in .npy, .npz, .arrow or .parquet.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="DIR|NAME",
            help="A model folder or a well-known model such as llama-3.1-8b [default: smollm2-135m-instruct].",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            metavar="DIR|NAME",
            help="Whose tokenizer and chat template [default: the model folder's, or smollm2-135m-instruct's].",
        ),
    ] = None,
    hardware: Annotated[
        str,
        typer.Option(
            "--hardware", metavar="NAME|FILE.json", help=f"The device: {', '.join(named_devices())}; or a file."
        ),
    ] = _DEFAULT_HARDWARE,
    tp: Annotated[
        int | None, typer.Option("--tp", metavar="N", min=1, help="Devices that share the model [default: 1].")
    ] = None,
    mean_output: Annotated[
        float | None,
        typer.Option(metavar="N", help="Output tokens of a row that tells none, within its max_tokens [default: 256]."),
    ] = None,
    kv_dtype: Annotated[
        str,
        typer.Option(help="What the KV cache keeps: auto (as the weights), float32, bfloat16, float16 or fp8_e4m3."),
    ] = "auto",
    price_per_hour: Annotated[
        float | None, typer.Option(metavar="X", help="Price of all devices together, in any currency.")
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the planned row numbers, from 0, one a line; .npy: as an array."),
    ] = None,
    emit: Annotated[
        str | None, typer.Option(metavar="FILE.jsonl", help="Write the input's lines in the planned order.")
    ] = None,
    json: Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON.")] = None,
    plot: Annotated[
        str | None, typer.Option(metavar="FILE.png", help="Draw the prefix tree before and after planning.")
    ] = None,
    save: Annotated[str | None, typer.Option(metavar="FILE.npz", help="Save the plan, for Plan.load.")] = None,
    split_budget: Annotated[
        float, typer.Option(metavar="X", help="How much sharing may be given up for a better blend, 0 to 1.")
    ] = 0.01,
) -> None:
    """Plan a job without running it: what is shared, what bounds it, how long it takes, in which order to run it."""
    console = Console(stderr=True)
    with exit_status(console, stopped="stopped before the plan was complete"):
        outputs = PlanOutputs(order=order, emit=emit, json=json, plot=plot, save=save)
        outputs.check(input_path)
        _require_positive("--mean-output", mean_output)
        _require_positive("--price-per-hour", price_per_hour)
        device = named_device(hardware, tp)
        job = PlanJob(
            input=input_path,
            model=PlannedModel.resolve(model, tokenizer, element_bytes(device), kv_element_bytes(kv_dtype)),
            device=device,
            mean_output=mean_output,
            split_budget=split_budget,
        )
        with ProgressDisplay(console) as display, input_file(input_path) as source:
            with without_torch():
                planned = job.run(source, display)
            _show_errors(console, planned.prompts.bad_rows)
            if planned.plan is None:
                raise UserError(f"none of the {planned.prompts.num_rows} rows of {input_path} can be planned")
            figures = plan_figures(planned, job, hardware=hardware, tp=job.device.tp, price_per_hour=price_per_hour)
            display.phase("writing")
            outputs.write(planned.plan, planned.prompts, source, figures)
        Console().print(plan_table(figures), markup=False, highlight=False, soft_wrap=True)
        if planned.prompts.bad_rows:
            raise typer.Exit(FAILED_ROWS)


def _show_errors(console: Console, errors: Sequence[RowError]) -> None:
    for error in errors[:_MAX_SHOWN_ERRORS]:
        console.print(error.message, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if len(errors) > _MAX_SHOWN_ERRORS:
        console.print(f"... and {len(errors) - _MAX_SHOWN_ERRORS:,} more rows that cannot be planned")


def _require_positive(option: str, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise UserError(f"{option} is {value:g}; it must be a positive number")
