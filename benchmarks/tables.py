"""The report's tables, from a `Results` and nothing else."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from benchmarks.peers.participants import OURS, PEERS
from benchmarks.peers.workloads import Workload
from benchmarks.results import Results, Row, fastest_peer

UNITS = {"us": "microseconds", "s": "seconds", "images/s": "images a second"}
TITLES = {participant.name: participant.title for participant in (OURS, *PEERS.values())}


def show(results: Results, console: Console) -> None:
    """Print a table for each workload, and which rows to distrust."""
    for described in results.workloads:
        workload = Workload(**described)
        rows = [row for row in results.peers if row.workload == workload.name]
        console.print(table(workload, rows))
    noisy = [f"{row.workload} {TITLES[row.participant]}" for row in results.peers if row.measured and row.noisy]
    if noisy:
        console.print(f"Too noisy to trust (the spread is above 15%): {', '.join(noisy)}.", style="yellow")


def table(workload: Workload, rows: list[Row]) -> Table:
    """One workload: ours first, then the peers from the quickest on, then who was not measured, and why."""
    cores = "1 core" if workload.threads == 1 else f"{workload.threads} cores"
    result = Table(title=f"{workload.title}, {cores}", title_justify="left", title_style="bold")
    result.add_column("")
    result.add_column(UNITS[workload.unit], justify="right")
    result.add_column("spread", justify="right")
    result.add_column("fastcnn is", justify="right")
    result.add_column("how")
    ours = next((row for row in rows if row.participant == OURS.name and row.measured), None)
    fastest = fastest_peer(rows, OURS.name)
    for row in sorted(rows, key=_rank):
        title = TITLES.get(row.participant, row.participant)
        if not row.measured:
            result.add_row(title, "not measured", "", "", row.reason, style="dim")
            continue
        times = "" if ours in (None, row) else f"{row.seconds_per_sample / ours.seconds_per_sample:,.1f} x as fast"
        result.add_row(
            f"{title} (fastest peer)" if row is fastest else title,
            number(workload.figure(row.seconds_per_sample)),
            f"{row.spread:.0%}",
            times,
            row.variant,
            style="bold" if row is ours else None,
        )
    return result


def _rank(row: Row) -> tuple[bool, bool, float]:
    return row.participant != OURS.name, not row.measured, row.seconds_per_sample if row.measured else 0.0


def number(value: float) -> str:
    """Three significant figures."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
