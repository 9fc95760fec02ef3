"""fastcnn beside its peers, in one run: `python -m benchmarks.report`.

Prints a table for each workload and writes ``benchmarks/results/<machine>.json`` with every sample.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from benchmarks import against, comparing, readme, results, tables
from benchmarks.judging import Judge
from benchmarks.limits import Limit
from benchmarks.peers import problem
from benchmarks.peers.participants import PEERS, Participant
from benchmarks.peers.protocol import environment
from benchmarks.peers.workloads import GROUPS, WORKLOADS, Workload, workloads_of
from benchmarks.rounds import Plan
from fastcnn.datasets import mnist


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or show a file that was written before, or compare with another revision."""
    parser = _parser()
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    if options.against is not None:
        return against.main(options.against, options.rounds, options.only, console)
    try:
        workloads = workloads_of(options.workloads)
    except ValueError as error:
        parser.error(str(error))
    path: Path | None = options.show
    if path is None:
        path = options.output or results.file_of(results.machine()[0])
        before = results.Results.read(path) if (options.add or options.again) and path.exists() else None
        earlier = before.measured(workloads) if before is not None and options.again else []
        plan = Plan(options.rounds, options.seconds)
        found = run(workloads, options.peers, plan, options.runs, console, earlier)
        if before is None:
            found.write(path)
        else:
            before.add(found)
            before.write(path)
        tables.show(found, console)
        console.print(f"Every sample is in {path}.", highlight=False, soft_wrap=True)
    else:
        tables.show(results.Results.read(path), console)
    if options.write_readme:
        readme.write(path)
    return 0


def run(
    workloads: Sequence[Workload],
    peers: Sequence[str],
    plan: Plan,
    runs: int,
    console: Console,
    before: Sequence[results.Row] = (),
) -> results.Results:
    """Measure those workloads with those peers, `runs` times; the other peers appear as not measured.

    `before` is what was measured in earlier runs: its choices of variants hold, and it is held against the last run.
    """
    asked = [peer for name, peer in PEERS.items() if name in peers]
    others = [peer for name, peer in PEERS.items() if name not in peers]
    machine, versions = results.machine()
    found: list[results.Row] = []
    earlier = [*before]
    with tempfile.TemporaryDirectory() as folder, console.status("") as status:
        status.update("the machine's limits, measured before and after")
        most = max(workload.threads for workload in workloads)
        limits = [measure_limits(threads) for threads in sorted({1, most})]
        made = problem.make(mnist.train_images(), mnist.train_labels(), mnist.test_images())
        whole, few = Path(folder) / "problem.npz", Path(folder) / "few.npz"
        made.save(whole)
        made.first(max(workload.samples for workload in WORKLOADS.values() if workload.kind == "start")).save(few)

        def begin(
            participant: Participant, workload: Workload, stack: ExitStack, caches: Path | None = None
        ) -> comparing.Side:
            return comparing.start(participant, workload, whole if caches is None else few, stack, caches)

        judge = Judge(made, mnist.test_labels())
        for number in range(runs):
            earlier += found
            found = []
            for _, group in itertools.groupby(workloads, key=lambda workload: workload.training):
                *easier, hardest = sorted(group, key=lambda workload: workload.target)
                rows = comparing.measure(
                    hardest,
                    asked,
                    others,
                    plan,
                    begin,
                    judge,
                    lambda text: status.update(f"{text} (run {number + 1} of {runs})"),  # noqa: B023
                    earlier,
                )
                for workload in easier:
                    found += [row.of_target(workload.name, workload.target) for row in rows]
                found += rows
                console.print(tables.line(hardest, rows), highlight=False)
    again = [measure_limits(limit.threads) for limit in limits]
    commit, date = results.commit(), results.now()
    for row in (*found, *earlier[len(before) :]):
        row.commit, row.date = commit, date
    return results.Results(
        machine=machine,
        versions=versions,
        commit=commit,
        date=date,
        protocol={
            **asdict(plan),
            "runs": runs + bool(before),
            "order": "interleaved, one run of each participant a round, the first one rotating",
            "figure": "median of the rounds; spread is (slowest - quickest) / median",
            "threads": "each worker process is bound to as many processors as the workload has threads",
            "memory": "in every worker process glibc keeps what is freed",
        },
        workloads=[workload.to_json() for workload in workloads],
        peers=found,
        limits=[asdict(first.better(second)) for first, second in zip(limits, again, strict=True)],
        earlier=earlier,
    )


def measure_limits(threads: int) -> Limit:
    """The machine's limits, by a process of its own that has as many processors as a worker has."""
    command = [sys.executable, "-m", "benchmarks.limits", str(threads)]
    done = subprocess.run(
        command, cwd=results.ROOT, env=environment(threads), capture_output=True, text=True, check=True
    )
    return Limit(**json.loads(done.stdout))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.report", description=__doc__)
    parser.add_argument(
        "--workloads",
        nargs="+",
        default=list(GROUPS),
        metavar="NAME",
        help=f"groups ({', '.join(GROUPS)}; default: all of them) or single ones: {', '.join(WORKLOADS)}",
    )
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), metavar="NAME", help=", ".join(PEERS))
    parser.add_argument("--rounds", type=_positive, default=Plan.rounds, help="runs of each (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=Plan.seconds, help="that a run may last (default %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="instead of benchmarks/results/<machine>.json")
    parser.add_argument("--runs", type=_positive, default=1, help="of the whole, to see whether they agree (default 1)")
    parser.add_argument("--add", action="store_true", help="keep the file's other workloads")
    parser.add_argument(
        "--again", action="store_true", help="as --add, and hold the file's figures against the new ones: another run"
    )
    parser.add_argument(
        "--write-readme", action="store_true", help="put the file's figures and pictures into README.md"
    )
    parser.add_argument(
        "--against", metavar="REV", help="only compare the quick benchmarks with those of another revision"
    )
    parser.add_argument("--only", metavar="WORDS", help="with --against: benchmarks whose names match, as pytest's -k")
    parser.add_argument("--show", type=Path, metavar="FILE", help="only show these results")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: expected at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
