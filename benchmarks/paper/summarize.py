"""The tables and pictures of docs/evaluation.md, from what evaluate.py wrote.

python benchmarks/paper/summarize.py > tables.md
python benchmarks/paper/summarize.py --plots docs/images    # needs matplotlib
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results" / "paper"
Row = Sequence[object]


@dataclass(frozen=True, slots=True)
class Run:
    """One schedule in one case."""

    case: dict[str, Any]
    run: dict[str, Any]

    @property
    def workload(self) -> str:
        return str(self.case["workload_name"])

    @property
    def schedule(self) -> str:
        return str(self.run["schedule"])

    @property
    def lengths(self) -> str:
        return str(self.run["lengths"])

    @property
    def percent(self) -> float:
        return 100 * float(self.run["practical_optimal_fraction"])

    @property
    def total_s(self) -> float:
        return float(self.run["total_s"])


def runs_of(experiment: str) -> list[Run]:
    path = RESULTS / f"{experiment}.json"
    if not path.exists():
        return []
    return [Run(case, run) for case in json.loads(path.read_text())["cases"] for run in case["runs"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plots", type=Path, help="a folder to write pictures to, instead of printing tables")
    plots = parser.parse_args().plots
    if plots is None:
        for name, table in TABLES.items():
            if runs := runs_of(name):
                print(f"\n## {name}\n")
                table(runs)
    else:
        draw(plots)


def print_table(header: Row, rows: Iterable[Row]) -> None:
    print("| " + " | ".join(map(str, header)) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")


def grouped(runs: Iterable[Run], key: Callable[[Run], Any]) -> dict[Any, list[Run]]:
    groups: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        groups[key(run)].append(run)
    return groups


def mean_percent(runs: Iterable[Run]) -> str:
    values = [run.percent for run in runs]
    return f"{statistics.mean(values):.1f}" if values else "-"


def workloads_table(runs: list[Run]) -> None:
    """Means over the seeds, share of the practical optimum."""
    names = list(dict.fromkeys(run.workload for run in runs))
    kinds = grouped(runs, lambda run: (run.schedule, run.run["execution"], run.lengths))

    def rows() -> Iterator[Row]:
        for (schedule, execution, lengths), of_kind in kinds.items():
            by_name = grouped(of_kind, lambda run: run.workload)
            kept = statistics.mean(run.run["sharing_fraction_of_optimal"] for run in of_kind)
            preempted = statistics.mean(
                run.run["preemptions"] / run.case["workload"]["num_requests"] for run in of_kind
            )
            yield (
                f"{schedule}, {execution}, {lengths}",
                *(mean_percent(by_name[name]) for name in names),
                mean_percent(of_kind),
                f"{min(run.percent for run in of_kind):.1f}",
                f"{kept:.1%}",
                f"{preempted:.3%}",
                f"{statistics.mean(run.run['step_schedule_us']['mean'] for run in of_kind):.0f}",
            )

    header = ("schedule", *names, "mean", "least", "sharing kept", "preempted", "µs a step")
    print_table(header, rows())


def grid_table(runs: list[Run]) -> None:
    by_point = grouped(runs, lambda run: run.workload)
    schedules = list(dict.fromkeys(run.schedule for run in runs))
    rows = []
    for schedule in schedules:
        percents = [run.percent for run in runs if run.schedule == schedule]
        speedups = [
            point[0].total_s / next(run for run in point if run.schedule == schedule).total_s
            for point in by_point.values()
        ]
        rows.append(
            (
                schedule,
                f"{statistics.mean(percents):.1f}",
                f"{min(percents):.1f}",
                f"{statistics.mean(speedups):.3f}",
                f"{min(speedups):.3f}",
                f"{max(speedups):.3f}",
            )
        )
    print_table(
        ("schedule", "mean %", "least %", f"over {schedules[0]}: mean", "least", "most"),
        rows,
    )


def replicas_table(runs: list[Run]) -> None:
    rows = []
    for name, of_name in grouped(runs, lambda run: run.workload).items():
        alone = next(run for run in of_name if run.run["dp"] == 1)
        rows.append((name, *(f"{alone.total_s / run.total_s:.2f}x, {run.percent:.1f} %" for run in of_name)))
    print_table(("workload", "1 device", "2", "4"), rows)


def compared_table(label: Callable[[Run], str]) -> Callable[[list[Run]], None]:
    """A line a case, a column a schedule."""

    def table(runs: list[Run]) -> None:
        kinds = list(dict.fromkeys((run.schedule, run.lengths) for run in runs))
        rows = []
        for name, of_name in grouped(runs, label).items():
            by_kind = grouped(of_name, lambda run: (run.schedule, run.lengths))
            rows.append((name, *(mean_percent(by_kind[kind]) for kind in kinds)))
        print_table(("", *(f"{schedule}, {lengths}" for schedule, lengths in kinds)), rows)

    return table


def model_label(run: Run) -> str:
    return f"{run.case['model']}, {run.workload}"


def hardware_label(run: Run) -> str:
    return f"{run.workload}, {str(run.case['hardware']).split('-')[0].upper()}"


TABLES: dict[str, Callable[[list[Run]], None]] = {
    "workloads": workloads_table,
    "grid": grid_table,
    "rare": grid_table,
    "replicas": replicas_table,
    "models": compared_table(model_label),
    "partners": compared_table(lambda run: run.workload),
    "sampling": compared_table(lambda run: f"{run.workload}, {run.case['sample_rate']:.1%} sampled"),
    "sizes": compared_table(lambda run: run.workload),
    "equal": compared_table(lambda run: run.workload),
    "traces": compared_table(hardware_label),
}


def draw(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw_workloads(folder / "evaluation_workloads.png")
    draw_grid(folder / "evaluation_grid.png")


def draw_workloads(path: Path) -> None:
    from matplotlib import pyplot as plt

    runs = [run for run in runs_of("workloads") if run.run["execution"] == "overlapped"]
    names = list(dict.fromkeys(run.workload for run in runs))
    kinds = grouped(runs, lambda run: (run.schedule, run.lengths))
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    width = 0.8 / len(kinds)
    for index, ((schedule, lengths), of_kind) in enumerate(kinds.items()):
        by_name = grouped(of_kind, lambda run: run.workload)
        heights = [statistics.mean(run.percent for run in by_name[name]) for name in names]
        label = schedule if schedule in ("dfs", "random") else f"{schedule}, {lengths}"
        axes.bar([at + (index + 0.5) * width for at in range(len(names))], heights, width, label=label)
    axes.axhline(100, color="black", linewidth=1)
    axes.set_xticks([at + 0.4 for at in range(len(names))], names)
    axes.set_ylim(0, 105)
    axes.set_ylabel("share of the practical optimum, %")
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1), frameon=False)
    figure.savefig(path, dpi=130)


def draw_grid(path: Path) -> None:
    import numpy as np
    from matplotlib import pyplot as plt

    by_point = grouped(runs_of("grid"), lambda run: run.workload)
    speedups: dict[tuple[float, float], dict[str, float]] = {}
    for name, of_point in by_point.items():
        density, sharing = (float(part) for part in name.split(" / "))
        speedups[density, sharing] = {run.schedule: of_point[0].total_s / run.total_s for run in of_point}
    densities = sorted({density for density, _ in speedups})
    sharings = sorted({sharing for _, sharing in speedups})
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained", sharey=True)
    for panel, schedule in zip(panels, ("paper", "blend"), strict=True):
        values = np.array([[speedups[density, sharing][schedule] for density in densities] for sharing in sharings])
        image = panel.imshow(values, origin="lower", aspect="auto", vmin=1, vmax=1.6, cmap="viridis")
        panel.set_xticks(range(len(densities)), [f"{density:.2f}" for density in densities], rotation=60)
        panel.set_yticks(range(len(sharings)), [f"{sharing:.2f}" for sharing in sharings])
        panel.set_xlabel("density")
        panel.set_title(
            f"{schedule} over dfs: {values.mean():.2f}x in the mean, {values.min():.2f}x at least", fontsize=10
        )
    panels[0].set_ylabel("sharing")
    figure.colorbar(image, ax=panels, label="times faster than dfs")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
