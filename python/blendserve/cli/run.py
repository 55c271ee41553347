"""`blendserve run`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from blendserve._core import TimeCorrection
from blendserve.cli.exit_status import FAILED_ROWS, exit_status
from blendserve.cli.progress import ProgressDisplay
from blendserve.config import DEFAULT_WINDOW, EngineConfig
from blendserve.errors import UserError
from blendserve.io.paths import check_side_outputs
from blendserve.openmp import let_idle_threads_sleep
from blendserve.report.run_page import run_page
from blendserve.report.units import correction_text

if TYPE_CHECKING:
    from blendserve.recording import RunReport

__all__ = ["run"]

_STOPPED = "stopped; the rows finished so far are written: run the same command again to answer the rest"


def run(
    input_path: Annotated[
        str, typer.Option("-i", "--input", metavar="IN", help="Requests, one JSON object a line; - is stdin.")
    ],
    output_path: Annotated[
        str, typer.Option("-o", "--output", metavar="OUT", help="Results, one JSON object a line; - is stdout.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="DIR|FILE.gguf|NAME",
            help="A Hugging Face model folder or a GGUF file [default: smollm2-135m-instruct].",
        ),
    ] = None,
    schedule: Annotated[
        str, typer.Option(help="Order of the requests: dfs, random or fcfs, or by a plan of the job: blend or paper.")
    ] = "blend",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    weight_dtype: Annotated[
        str, typer.Option(help="How a CPU keeps the layers' weights: auto (as --dtype), float32, bfloat16 or int8.")
    ] = "auto",
    attention: Annotated[
        str, typer.Option(metavar="NAME", help="Attention backend: auto, or one that `blendserve env` lists.")
    ] = "auto",
    max_batch_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Tokens computed in one step, at most.")
    ] = None,
    max_batch_requests: Annotated[
        int | None, typer.Option(metavar="N", help="Requests running at once, at most.")
    ] = None,
    kv_memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Memory of the KV cache, such as 4GiB.")] = None,
    kv_dtype: Annotated[
        str, typer.Option(help="What the KV cache keeps: auto (as --dtype), float32, bfloat16, float16 or fp8_e4m3.")
    ] = "auto",
    hardware: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.json",
            help="What blend and paper take the device for: a name, or what `blendserve profile` measured.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="The job's seed, for requests without their own.")] = 0,
    stop_runaways: Annotated[
        bool, typer.Option("--stop-runaways", help="End answers whose last 256 tokens repeat a short cycle.")
    ] = False,
    async_scheduling: Annotated[
        bool, typer.Option("--async-scheduling/--no-async-scheduling", help="Plan the next step while one runs.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Keep the answers that OUT has from an earlier run.")
    ] = True,
    deterministic_schedule: Annotated[
        bool,
        typer.Option(
            "--deterministic-schedule", help="Pace steps by --hardware alone, and not by what they turn out to take."
        ),
    ] = False,
    schedule_log: Annotated[
        str | None,
        typer.Option(metavar="FILE.jsonl", help="Write what measured times change in the pace of the steps."),
    ] = None,
    replay_schedule: Annotated[
        str | None, typer.Option(metavar="FILE.jsonl", help="Pace steps as in the run that wrote this --schedule-log.")
    ] = None,
    window: Annotated[
        int, typer.Option(metavar="N", help="Rows read, planned and held in memory at a time.")
    ] = DEFAULT_WINDOW,
    self_check: Annotated[
        bool, typer.Option("--self-check/--no-self-check", help="Check first that model and tokenizer work here.")
    ] = True,
    metrics: Annotated[str | None, typer.Option(metavar="FILE.json", help="Write the closing figures as JSON.")] = None,
    report: Annotated[
        str | None, typer.Option(metavar="FILE.html", help="Write a page with charts of the run.")
    ] = None,
) -> None:
    """Answer every request of a file in the OpenAI Batch format."""
    console = Console(stderr=True)
    with exit_status(console, stopped=_STOPPED):
        side_outputs = {"metrics": metrics, "report": report, "schedule log": schedule_log}
        check_side_outputs(side_outputs, {"input": input_path, "schedule to replay": replay_schedule}, output_path)
        config = EngineConfig(
            schedule=schedule,  # type: ignore[arg-type]  # checked by EngineConfig
            device=device,  # type: ignore[arg-type]
            dtype=dtype,  # type: ignore[arg-type]
            weight_dtype=weight_dtype,  # type: ignore[arg-type]
            attention=attention,  # type: ignore[arg-type]
            kv_memory=kv_memory,
            kv_dtype=kv_dtype,  # type: ignore[arg-type]
            max_batch_tokens=max_batch_tokens,
            max_batch_requests=max_batch_requests,
            seed=seed,
            async_scheduling=async_scheduling,
            stop_runaways=stop_runaways,
            hardware=hardware,
            deterministic_schedule=deterministic_schedule,
            schedule_log=schedule_log,
            replay_schedule=replay_schedule,
        )
        let_idle_threads_sleep()
        try:
            from blendserve.batch import BatchJob
        except ModuleNotFoundError as error:
            raise UserError(f"`run` needs {error.name}: pip install 'blendserve[engine]'") from None
        with ProgressDisplay(console) as display:
            job = BatchJob(input_path, output_path, model, config, resume, window, report is not None, self_check)
            summary = job.run(display)
        figures = summary.figures()
        console.print(_summary_text(figures, output_path), markup=False, highlight=False, soft_wrap=True)
        if metrics is not None:
            _write("metrics", metrics, json.dumps(figures, indent=2) + "\n")
        if report is not None:
            _write_report(report, summary.report, console)
        if summary.num_failed:
            raise typer.Exit(FAILED_ROWS)


def _write_report(path: str, report: RunReport | None, console: Console) -> None:
    if report is None:
        console.print(f"no report {path}: no request had to run", markup=False, highlight=False, soft_wrap=True)
    else:
        _write("report", path, run_page(report))


def _write(name: str, path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{name} {path} cannot be written: {error.strerror}; the results are complete in spite of it"
        ) from error


def _summary_text(figures: dict[str, Any], output_path: str) -> str:
    kept = f", {figures['num_kept']} kept from an earlier run" if figures["num_kept"] else ""
    planning = f"; {figures['planning_s']:.1f} s of planning" if figures["planning_s"] else ""
    duplicates = f", {figures['duplicates']} of them as copies of equal ones" if figures["duplicates"] else ""
    windows = f" and {figures['windows']} windows" if figures["windows"] > 1 else ""
    dead = f", {figures['dead_blocks']:,} blocks that nobody waits for" if figures["dead_blocks"] else ""
    runaways = f", {figures['runaways']} answers ended as they repeated themselves" if figures["runaways"] else ""
    correction = correction_text(TimeCorrection(figures["compute_correction"], figures["memory_correction"]))
    paced = f", paced by {correction}" if figures["num_corrections"] else ""
    rows = {
        "rows": f"{figures['num_answered']} answered{duplicates}, {figures['num_failed']} failed{kept}",
        "prompt tokens": f"{figures['prompt_tokens']:,}, {figures['sharing_ratio']:.1%} of them from the prefix cache",
        "prefix cache": f"{figures['joined_tokens']:,} tokens shared while being computed, "
        f"{figures['evicted_blocks']:,} blocks evicted{dead}",
        "output tokens": f"{figures['output_tokens']:,}{runaways}",
        "throughput": f"{figures['throughput_tok_s']:,.0f} tokens/s (input and output)",
        "time": f"{figures['run_s']:.1f} s in {figures['steps']:,} steps{windows}{paced}, "
        f"after {figures['setup_s']:.1f} s of set-up{planning}",
        "preemptions": f"{figures['preemptions']}, {figures['recomputed_tokens']:,} tokens computed again",
        "results": "stdout" if output_path == "-" else output_path,
    }
    return "\n".join(f"{name:<14} {value}" for name, value in rows.items())
