"""fastcnn beside its peers, in one run: `python -m benchmarks.report`.

Prints a table for each workload and writes ``benchmarks/results/<machine>.json`` with every sample.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from benchmarks import comparing, results, tables
from benchmarks.comparing import Plan
from benchmarks.peers import problem
from benchmarks.peers.participants import PEERS
from benchmarks.peers.workloads import WORKLOADS
from fastcnn.datasets import mnist


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or show a file that was written before."""
    options = _parser().parse_args(arguments)
    console = Console()
    if options.show is not None:
        tables.show(results.Results.read(options.show), console)
        return 0
    found = run(options.workloads, options.peers, Plan(options.rounds, options.seconds), console)
    path: Path = options.output or results.file_of(found.machine)
    found.write(path)
    tables.show(found, console)
    console.print(f"Every sample is in {path}.", highlight=False, soft_wrap=True)
    return 0


def run(workloads: Sequence[str], peers: Sequence[str], plan: Plan, console: Console) -> results.Results:
    """Measure those workloads with those peers; the other peers appear as not measured."""
    asked = [peer for name, peer in PEERS.items() if name in peers]
    others = [peer for name, peer in PEERS.items() if name not in peers]
    machine, versions = results.machine()
    rows = []
    with tempfile.TemporaryDirectory() as folder, console.status("") as status:
        path = Path(folder) / "problem.npz"
        problem.make(mnist.train_images(), mnist.train_labels(), mnist.test_images()).save(path)
        for name in workloads:
            rows += comparing.measure(
                WORKLOADS[name],
                asked,
                others,
                plan,
                lambda participant, workload, stack: comparing.start(participant, workload, path, stack),
                status.update,
            )
    return results.Results(
        machine=machine,
        versions=versions,
        commit=results.commit(),
        date=results.now(),
        protocol={
            **asdict(plan),
            "order": "interleaved, one run of each participant a round, the first one rotating",
            "figure": "median of the rounds; spread is (slowest - quickest) / median",
            "threads": "each worker process is bound to as many processors as the workload has threads",
        },
        workloads=[WORKLOADS[name].to_json() for name in workloads],
        peers=rows,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.report", description=__doc__)
    parser.add_argument(
        "--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="NAME", help=", ".join(WORKLOADS)
    )
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), metavar="NAME", help=", ".join(PEERS))
    parser.add_argument("--rounds", type=_positive, default=Plan.rounds, help="runs of each (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=Plan.seconds, help="that a run may last (default %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="instead of benchmarks/results/<machine>.json")
    parser.add_argument("--show", type=Path, metavar="FILE", help="only show these results")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: expected at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
