"""What real_traces.py prints."""

from __future__ import annotations

from hidden_lengths import METHODS
from workload import Report

PLANS = (
    "trace     requests   prompt  output  sharing    kept  splits  copied  density  bound      plan s  read s     run s"
)
RATIOS = ("density", "memory", "memory, mean alone", "memory, weighted samples", "practical")


def show_plans(report: Report) -> None:
    print(f"\n{PLANS}")
    for name, of_trace in report.items():
        f = of_trace["figures"]
        print(
            f"{name:9} {f['requests']:8,} {f['mean prompt']:8,.0f} {f['mean output']:7,.0f} {f['sharing']:8.4f} "
            f"{f['sharing kept']:7.2%} {f['splits']:7,} {f['copied / unique tokens']:7.2%} {f['density']:8.3f}  "
            f"{of_trace['bound']:8} {f['plan_s']:8.3f} {f['read_s']:7.2f} {f['practical_s']:9.1f}"
        )


def show_estimates(report: Report) -> None:
    print("\nestimated / true with 1 % of the output lengths, median over the seeds (5 % .. 95 %)")
    print(f"{'trace':9} {'samples of':15}  count  " + "  ".join(f"{name:24}" for name in RATIOS))
    for name, of_trace in report.items():
        for method in METHODS:
            of_method = of_trace["estimates"][method]
            columns = "  ".join(f"{as_text(of_method[ratio]):24}" for ratio in RATIOS)
            print(f"{name:9} {method:15} {of_method['samples']:6}  {columns}".rstrip())
    independent = (f"{name} {of_trace['figures']['memory, independent']:.3f}" for name, of_trace in report.items())
    print("memory by the true mean and second moment, the same for every request: " + ", ".join(independent))


def as_text(spread: dict[str, float]) -> str:
    return f"{spread['median']:.3f} ({spread['p5']:.3f} .. {spread['p95']:.3f})"


def show_checks(report: Report) -> int:
    """The exit status."""
    num_failed = 0
    print("\nchecks")
    for name, of_trace in report.items():
        for figure, check in of_trace["checks"].items():
            num_failed += not check["holds"]
            limits = (
                f">= {check['lowest']:g}"
                if check["highest"] is None
                else f"{check['lowest']:g} .. {check['highest']:g}"
            )
            print(f"{name:9} {figure:22} {check['measured']:12.6g}  {'ok  ' if check['holds'] else 'FAIL'}  {limits}")
    print(f"{num_failed} checks failed" if num_failed else "all checks hold")
    return int(num_failed > 0)
