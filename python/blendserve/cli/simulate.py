"""`blendserve simulate`."""

from __future__ import annotations

import dataclasses
import json as json_format
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from blendserve._core import named_devices
from blendserve.cli.exit_status import exit_status
from blendserve.cli.progress import ProgressDisplay
from blendserve.cli.simulation_table import print_simulation
from blendserve.cli.without_torch import without_torch
from blendserve.config import kv_element_bytes
from blendserve.devices import element_bytes, named_device
from blendserve.errors import UserError
from blendserve.io.paths import STANDARD_STREAM, check_new_file
from blendserve.plan_job.models import PlannedModel
from blendserve.report.simulation_page import simulation_page
from blendserve.simulation import DEFAULT_SCHEDULES, EXECUTIONS, LENGTHS, SCHEDULES
from blendserve.simulation import simulate as simulate_trace
from blendserve.traces.read import read_traces
from blendserve.traces.trace import Trace

__all__ = ["simulate"]


def simulate(
    traces: Annotated[
        list[str],
        typer.Option(
            "--trace",
            metavar="[FORMAT:]FILE",
            help="Requests with their output lengths; several files are mixed in a random order.",
        ),
    ],
    model: Annotated[
        str, typer.Option(metavar="DIR|NAME", help="A model folder or a well-known model such as llama-3.1-8b.")
    ],
    hardware: Annotated[
        str, typer.Option(metavar="NAME|FILE.json", help=f"The device: {', '.join(named_devices())}; or a file.")
    ],
    tp: Annotated[
        int | None, typer.Option("--tp", metavar="N", min=1, help="Devices that share the model [default: 1].")
    ] = None,
    schedules: Annotated[
        list[str] | None,
        typer.Option(
            "--schedule",
            metavar="NAME",
            help=f"One of {', '.join(SCHEDULES)}, once for each, or all [default: {' '.join(DEFAULT_SCHEDULES)}].",
        ),
    ] = None,
    executions: Annotated[
        list[str] | None,
        typer.Option(
            "--execution",
            metavar="NAME",
            help="How a step runs: overlapped, sequential, or both "
            "[default: sequential on a profiled device, else overlapped].",
        ),
    ] = None,
    lengths: Annotated[
        str,
        typer.Option(
            metavar="|".join(LENGTHS),
            help="Which output lengths are told before the run: of samples, also of requests marked as known, or all.",
        ),
    ] = "sampled",
    sample_rate: Annotated[
        float, typer.Option(metavar="X", help="Share of the requests that are run first as samples.")
    ] = 0.01,
    mean_output: Annotated[
        float | None,
        typer.Option(
            metavar="N", help="Output tokens of a row of an OpenAI Batch file that tells none [default: 256]."
        ),
    ] = None,
    dp: Annotated[int, typer.Option("--dp", metavar="N", min=1, help="Data-parallel replicas.")] = 1,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the mix, the samples and the random order.")] = 0,
    max_batch_tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Tokens of a step, at most.")] = 2048,
    kv_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="KV cache of a replica, such as 40GB [default: what the device has left]."),
    ] = None,
    kv_dtype: Annotated[
        str,
        typer.Option(help="What the KV cache keeps: auto (as the weights), float32, bfloat16, float16 or fp8_e4m3."),
    ] = "auto",
    count_scheduling: Annotated[
        bool, typer.Option("--count-scheduling", help="Add the scheduler's CPU time, as measured here, to every step.")
    ] = False,
    json: Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON.")] = None,
    report: Annotated[
        str | None, typer.Option("--report", metavar="FILE.html", help="Write a page with charts of every run.")
    ] = None,
) -> None:
    """Simulate a trace under several schedules: what it takes on which hardware, and whether blending pays."""
    console = Console(stderr=True)
    with exit_status(console, stopped="stopped before the simulation was complete"):
        _check_outputs(json, report, traces)
        device = named_device(hardware, tp)
        planned = PlannedModel.resolve(model, None, element_bytes(device), kv_element_bytes(kv_dtype))
        with ProgressDisplay(console) as display:
            display.phase("reading")
            with without_torch():
                trace = _read(traces, planned.tokenizer_name, mean_output, seed)
            result = simulate_trace(
                trace,
                model=planned.spec,
                device=device,
                schedules=_schedules(schedules),  # type: ignore[arg-type]  # checked there
                execution=_executions(executions),  # type: ignore[arg-type]
                lengths=lengths,  # type: ignore[arg-type]
                dp=dp,
                seed=seed,
                sample_rate=sample_rate,
                max_batch_tokens=max_batch_tokens,
                kv_memory=kv_memory,
                counts_scheduling=count_scheduling,
                on_phase=display.phase,
            )
        if json is not None:
            _write(json, json_format.dumps(result.as_json(), indent=2) + "\n")
        if report is not None:
            _write(report, simulation_page(result))
        print_simulation(result, Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH))


_PIPED_WIDTH = 120


def _schedules(chosen: list[str] | None) -> list[str]:
    names = [name for choice in chosen or DEFAULT_SCHEDULES for name in (SCHEDULES if choice == "all" else (choice,))]
    return list(dict.fromkeys(names))


def _executions(chosen: list[str] | None) -> list[str] | None:
    if not chosen:
        return None
    names = [name for choice in chosen for name in (EXECUTIONS if choice == "both" else (choice,))]
    return list(dict.fromkeys(names))


def _check_outputs(json: str | None, report: str | None, traces: list[str]) -> None:
    others = {f"trace {trace}": trace.rpartition(":")[2] for trace in traces}
    for name, path in (("json", json), ("report", report)):
        if path is None:
            continue
        if path == STANDARD_STREAM:
            raise UserError(f"--{name} - is not possible: standard output has the table; give a file")
        check_new_file(name, path, others)
        others[name] = path


def _read(specs: list[str], tokenizer: str | None, mean_output: float | None, seed: int) -> Trace:
    trace = read_traces(specs, tokenizer=tokenizer, mean_output=mean_output)
    if len(specs) == 1:
        return trace
    return dataclasses.replace(trace.shuffled(seed), num_dropped=trace.num_dropped)


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; give another path") from error
