"""Did a change make anything slower? `python -m benchmarks.report --against REV`.

REV is checked out beside, with these benchmarks in place of its own; the quick group then runs in turn there and here,
A B A B, so that a machine that gets slower in between slows both. Kernels of the two are cached apart, because the
cache goes by the kernels' source.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.results import NOISY, ROOT

#: Seconds of each benchmark, by its name.
Times = Mapping[str, float]


@dataclass(frozen=True)
class Change:
    """One benchmark on both sides.

    Attributes:
        name: the benchmark's.
        ratio: the time here as a multiple of the time at REV: the median over the rounds. More than 1 is slower.
        low, high: the least and the greatest ratio of a round.
    """

    name: str
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What can be said: only where every round says the same, and it is more than a twentieth."""
        if self.low > 1.0 and self.ratio > 1.05:
            return "slower"
        if self.high < 1.0 and self.ratio < 0.95:
            return "faster"
        return "too noisy to tell" if self.high / self.low > 1 + NOISY else "the same"


def main(revision: str, rounds: int, only: str | None, console: Console) -> int:
    """Compare and print; 1 where something is slower, 2 where the revision can't be had."""
    try:
        with checked_out(revision) as folder:
            here: list[Times] = []
            there: list[Times] = []
            for number in range(rounds):
                for times, place, title in ((there, folder, revision), (here, ROOT, "here")):
                    console.print(f"round {number + 1} of {rounds}: {title}", highlight=False)
                    times.append(quick_group(place, only))
    except (subprocess.CalledProcessError, ValueError) as problem:
        console.print(getattr(problem, "stderr", None) or str(problem), style="red", highlight=False)
        return 2
    found = changes(there, here)
    console.print(table(found, revision))
    if missing := sorted(set(here[0]) - {change.name for change in found}):
        console.print(f"Only here, or failing at {revision}: {', '.join(missing)}.", highlight=False, markup=False)
    return int(any(change.verdict == "slower" for change in found))


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A folder with the files of a revision and with this checkout's benchmarks; it is gone afterwards.

    Raises:
        ValueError: there is no such revision.
    """
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "revision"
        added = git("worktree", "add", "--detach", str(folder), revision)
        if added.returncode:
            raise ValueError(f"{revision}: {added.stderr.strip().splitlines()[-1]}")
        try:
            shutil.rmtree(folder / "benchmarks", ignore_errors=True)
            shutil.copytree(
                ROOT / "benchmarks", folder / "benchmarks", ignore=shutil.ignore_patterns(".peers", "__pycache__")
            )
            yield folder
        finally:
            git("worktree", "remove", "--force", str(folder))


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def quick_group(folder: Path, only: str | None) -> dict[str, float]:
    """The quickest time of each quick benchmark that works in a checkout.

    Raises:
        ValueError: pytest ran none, or ended before it was done.
    """
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "times.json"
        command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-quick", "-q", "-p", "no:cacheprovider"]
        command.append("--continue-on-collection-errors")  # of what the other revision does not have yet
        command += [f"--benchmark-json={output}", *(["-k", only] if only else [])]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if not output.exists() or not output.stat().st_size:
            lines = (done.stdout + done.stderr).strip().splitlines()
            raise ValueError(f"pytest measured nothing: {lines[-1] if lines else done.returncode}")
        content = json.loads(output.read_text())
    return {bench["fullname"]: bench["stats"]["min"] for bench in content["benchmarks"]}


def changes(there: Sequence[Times], here: Sequence[Times]) -> list[Change]:
    """The benchmarks that ran on both sides in every round, the one that lost most first."""
    found = []
    for name in set(there[0]).intersection(*there, *here):
        ratios = [after[name] / before[name] for before, after in zip(there, here, strict=True)]
        found.append(Change(name, statistics.median(ratios), min(ratios), max(ratios)))
    return sorted(found, key=lambda change: (-change.ratio, change.name))


def table(found: Sequence[Change], revision: str) -> Table:
    """A row for each benchmark."""
    result = Table(title=f"time here / time at {revision}", title_justify="left", title_style="bold")
    result.add_column("", overflow="fold")
    result.add_column("ratio", justify="right")
    result.add_column("in the rounds", justify="right")
    result.add_column("")
    styles = {"slower": "red", "faster": "green"}
    for change in found:
        name = change.name.removeprefix("benchmarks/")
        spread = f"{change.low:.2f} to {change.high:.2f}"
        result.add_row(escape(name), f"{change.ratio:.2f}", spread, change.verdict, style=styles.get(change.verdict))
    return result
