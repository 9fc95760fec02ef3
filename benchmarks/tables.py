"""The report's tables, from a `Results` and nothing else."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from benchmarks.peers.participants import OURS, PEERS
from benchmarks.peers.workloads import Workload
from benchmarks.results import NOISY, Results, Row, fastest_peer

UNITS = {"us": "microseconds", "s": "seconds", "images/s": "images a second", "GFLOP/s": "GFLOP/s"}
TITLES = {participant.name: participant.title for participant in (OURS, *PEERS.values())}


def show(results: Results, console: Console) -> None:
    """Print the machine's limits, a table for each workload, and which rows to distrust."""
    for limit in results.limits:
        threads = f"{limit['threads']} thread{'s'[: limit['threads'] - 1]}"
        rates = f"reading {limit['read_gb_per_second']:.0f} GB/s, triad {limit['triad_gb_per_second']:.0f} GB/s"
        console.print(f"Limit of {threads}: {limit['gflop_per_second']:.0f} GFLOP/s, {rates}", highlight=False)
    for described in results.workloads:
        workload = Workload(**described)
        console.print(table(workload, results.rows_of(workload.name), results.peak(workload.threads)))
    noisy = [f"{row.workload} {TITLES[row.participant]} ({why})" for row, why in results.distrusted(OURS.name)]
    if noisy:
        console.print(f"Too noisy to trust (above {NOISY:.0%}): {', '.join(noisy)}.", style="yellow")


def line(workload: Workload, rows: list[Row]) -> str:
    """What came out of a workload, in a line: ours beside the fastest peer."""
    ours = next((row for row in rows if row.participant == OURS.name and row.measured), None)
    fastest = fastest_peer(rows, OURS.name)
    if ours is None or fastest is None:
        return f"{workload.title}: nothing to compare"
    ratio = fastest.seconds_per_sample / ours.seconds_per_sample
    return f"{workload.title}: {ratio:.3g} x as fast as {TITLES[fastest.participant]}"


def table(workload: Workload, rows: list[Row], peak: float | None) -> Table:
    """One workload: ours first, then the peers from the quickest on, then who was not measured, and why.

    Args:
        workload: which.
        rows: of all participants.
        peak: GFLOP/s of as many threads as it may use, where that is known.
    """
    cores = "1 core" if workload.threads == 1 else f"{workload.threads} cores"
    result = Table(title=f"{workload.title}, {cores}", title_justify="left", title_style="bold")
    result.add_column("")
    result.add_column(UNITS[workload.unit], justify="right")
    result.add_column("spread", justify="right")
    result.add_column("of peak", justify="right")
    result.add_column("accuracy", justify="right")
    result.add_column("fastcnn is", justify="right")
    result.add_column("how")
    ours = next((row for row in rows if row.participant == OURS.name and row.measured), None)
    fastest = fastest_peer(rows, OURS.name)
    for row in sorted(rows, key=_rank):
        title = TITLES.get(row.participant, row.participant)
        if not row.measured:
            outcome = "not reached" if row.tried else "not measured"
            result.add_row(title, outcome, "", "", "", "", row.reason, style="dim")
            continue
        times = "" if ours in (None, row) else f"{row.seconds_per_sample / ours.seconds_per_sample:,.1f} x as fast"
        share = share_of_peak(workload, row, peak)
        result.add_row(
            f"{title} (fastest peer)" if row is fastest else title,
            number(workload.figure(row.seconds_per_sample)),
            f"{row.spread:.0%}",
            "" if share is None else f"{share:.0%}",
            accuracy(workload, row),
            times,
            row.variant,
            style="bold" if row is ours else None,
        )
    return result


def share_of_peak(workload: Workload, row: Row, peak: float | None) -> float | None:
    """How much of the machine's multiply-adds the row comes to; dense operations are counted, done or not."""
    if peak is None or not workload.flop or workload.kind == "reach":
        return None
    return workload.flop / row.seconds_per_sample / 1e9 / peak


def accuracy(workload: Workload, row: Row) -> str:
    """What was reached on the test images; of several rounds, how many reached the target."""
    if workload.kind == "reach":
        return f"{len(row.seconds)} of {len(row.accuracy)} runs"
    return f"{row.accuracy[-1]:.2%}" if row.accuracy else ""


def _rank(row: Row) -> tuple[bool, bool, float]:
    return row.participant != OURS.name, not row.measured, row.seconds_per_sample if row.measured else 0.0


def number(value: float) -> str:
    """Three significant figures."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
