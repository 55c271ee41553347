"""`blendserve synthesize`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from blendserve._core import named_devices
from blendserve.cli.exit_status import exit_status
from blendserve.config import kv_element_bytes
from blendserve.devices import element_bytes, named_device
from blendserve.errors import UserError
from blendserve.io.paths import STANDARD_STREAM, check_new_file
from blendserve.plan_job.models import PlannedModel
from blendserve.synthesis import DEFAULT_MIX, GENERATORS, SourceFigures, Synthesis, SynthesisFigures
from blendserve.synthesis import synthesize as make_workload

__all__ = ["synthesize"]

_DEFAULT_MODEL = "llama-3.1-8b"
_DEFAULT_HARDWARE = "a100-sxm-80gb"


def synthesize(
    output_path: Annotated[
        str,
        typer.Option(
            "-o", "--output", metavar="FILE", help="The workload file; Parquet if it ends in .parquet, else Arrow."
        ),
    ],
    num_requests: Annotated[int, typer.Option("--requests", metavar="N", min=1, help="How many requests.")],
    mix: Annotated[
        list[str] | None,
        typer.Option(
            "--mix",
            metavar="NAME[=[FORMAT:]FILE]",
            help=f"A source: a generator ({', '.join(GENERATORS)}) or a trace's file; give one option a source "
            f"[default: {' '.join(DEFAULT_MIX)}].",
        ),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(metavar="X", help="Unique compute time / memory time [default: as it comes]."),
    ] = None,
    sharing: Annotated[
        float | None,
        typer.Option(metavar="Y", help="What prefix sharing saves of the compute, 0 to 1 [default: as it comes]."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed makes the same file.")] = 0,
    model: Annotated[
        str, typer.Option(metavar="DIR|NAME", help="The model that density and sharing are meant for.")
    ] = _DEFAULT_MODEL,
    hardware: Annotated[
        str, typer.Option(metavar="NAME|FILE.json", help=f"The device: {', '.join(named_devices())}; or a file.")
    ] = _DEFAULT_HARDWARE,
    tp: Annotated[
        int | None, typer.Option("--tp", metavar="N", min=1, help="Devices that share the model [default: 1].")
    ] = None,
    kv_dtype: Annotated[
        str,
        typer.Option(help="What the KV cache keeps: auto (as the weights), float32, bfloat16, float16 or fp8_e4m3."),
    ] = "auto",
) -> None:
    """Mix traces to a workload of a given density and prefix sharing, for `simulate` and benchmarks."""
    console = Console(stderr=True)
    with exit_status(console, stopped="stopped before the workload was written"):
        sources = mix or DEFAULT_MIX
        _check_output(output_path, sources)
        device = named_device(hardware, tp)
        planned = PlannedModel.resolve(model, None, element_bytes(device), kv_element_bytes(kv_dtype))
        made = make_workload(
            sources,
            num_requests=num_requests,
            density=density,
            sharing=sharing,
            seed=seed,
            model=planned.spec,
            device=device,
            tokenizer=planned.tokenizer_name,
        )
        made.save(output_path)
        Console().print(_table(made, output_path), markup=False, highlight=False, soft_wrap=True)


def _check_output(path: str, mix: tuple[str, ...] | list[str]) -> None:
    if path == STANDARD_STREAM:
        raise UserError("output - is not possible: standard output has the table; give a file")
    files = [entry.partition("=")[2] for entry in mix]
    check_new_file("output", path, {f"trace {file}": file.rpartition(":")[2] for file in files if file})


def _table(made: Synthesis, path: str) -> str:
    figures, asked = made.figures, made.settings
    tp = f", tp {asked['tp']}" if asked["tp"] != 1 else ""
    width = max(len("source"), *(len(source.name) for source in figures.sources))
    lines = [_row(width, "source", "requests", "prompt tokens", "output tokens", "from")]
    lines += [_counts(width, source.name, source, _origin(source)) for source in figures.sources]
    lines.append(_counts(width, "all", figures, path))
    return "\n".join(
        [
            *lines,
            "",
            f"model    {asked['model']} on {asked['hardware']}{tp}",
            f"density  {figures.density:.4g}{_target(asked['density'])}",
            f"sharing  {figures.sharing:.4f} of the compute{_target(asked['sharing'])}, "
            f"{figures.sharing_of_tokens:.4f} of the prompt tokens",
        ]
    )


def _counts(width: int, name: str, counts: SourceFigures | SynthesisFigures, origin: str) -> str:
    numbers = (counts.num_requests, counts.prompt_tokens, counts.output_tokens)
    return _row(width, name, *(f"{number:,}" for number in numbers), origin)


def _row(width: int, name: str, *rest: str) -> str:
    requests, prompt, output, origin = rest
    return f"{name:{width}}  {requests:>10}  {prompt:>15}  {output:>15}  {origin}"


def _origin(source: SourceFigures) -> str:
    if not source.num_dropped:
        return source.origin
    return f"{source.origin}, without {source.num_dropped:,} rows that are no requests"


def _target(asked: object) -> str:
    return "" if asked is None else f" (asked for: {asked:g})"
