"""Times the planning of a job (prefix tree, estimates, sort, splits, order) on a CPU; checks the answers first.

    python benchmarks/core/preprocess.py                                     # all; 12 GB of memory
    python benchmarks/core/preprocess.py --workloads 1m paper --scale 0.1    # a tenth of the requests
    python benchmarks/core/preprocess.py --out results.json

1m      1,000,000 requests, 550 M tokens, half of them behind 57 prefixes: bs.plan beside numpy's sum of the same tokens
10m     10,000,000 requests of 64 tokens beside 1,000,000
prefix  20,000 requests that share 32,000 tokens beside half as many
sglang  the tree of 20,000 x 512 tokens, half shared, beside SGLang's Python radix cache
paper   the paper's four main workloads at 400,000 requests: preprocessing beside the predicted run
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from against_sglang import against_sglang
from jobs import one_million, paper_mixes
from scaling import long_prefix, ten_million
from workload import Options, Report

sys.path.append(str(Path(__file__).parents[1]))
from machine import describe

WORKLOADS: dict[str, Callable[[Options], Report]] = {
    "1m": one_million,
    "10m": ten_million,
    "prefix": long_prefix,
    "sglang": against_sglang,
    "paper": paper_mixes,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of requests")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sglang", default=Options.sglang, help="a requirement for pip, or the path of a wheel")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    args = parser.parse_args()
    options = Options(args.scale, args.repeats, tuple(args.threads), args.sglang)
    report: Report = {"machine": describe(), "config": vars(args) | {"out": None}, "workloads": {}}
    show(report["machine"] | report["config"])
    for name in args.workloads:
        print(f"\n{name}", flush=True)
        report["workloads"][name] = WORKLOADS[name](options)
        show(report["workloads"][name])
        if args.out:
            args.out.write_text(json.dumps(report, indent=2) + "\n")


def show(report: Report, indent: str = "  ") -> None:
    for name, value in report.items():
        if isinstance(value, dict) and "target" not in value:
            print(f"{indent}{name}")
            show(value, indent + "  ")
        elif value is not None:
            print(f"{indent}{name:32} {as_text(value)}")


def as_text(value: object) -> str:
    if isinstance(value, dict):
        return f"{as_text(value['measured']):10} target {value['target']}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
