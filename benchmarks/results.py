"""The results file: what was measured, where, with what; the report's table comes from it and from nothing else."""

from __future__ import annotations

import functools
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.peers.workloads import WORKLOADS, Workload

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).with_name("results")

#: Changes whenever files of an older form can't be read any more.
SCHEMA = 1

#: Samples that differ by more than this share of their median are not to be trusted.
NOISY = 0.15


@dataclass
class Row:
    """One participant at one workload.

    Attributes:
        workload, participant: their names.
        reason: why it was not measured, in one line; None where it was.
        variant: which of the participant's ways was quickest, and used.
        trials: seconds a sample that each variant took in a short trial, or why it was left out.
        difference: the greatest difference of weights (training) or probabilities (inference) from fastcnn's after a
            few batches from the same start; None for fastcnn itself.
        samples: images in a run.
        repeats: runs in a round, one after the other.
        seconds: a run took in each round.
        versions: of the library and what it stands on.
        accuracy: of training, on the test images after all rounds; in "reach" of each round.
        epochs: of "reach", for each round: how many seconds had passed after each epoch, and the accuracy then.
        commit, date: of fastcnn's checkout, and when it was measured, as in `Results`.
    """

    workload: str
    participant: str
    reason: str | None = None
    variant: str | None = None
    trials: dict[str, float | str] = field(default_factory=dict)
    difference: float | None = None
    samples: int = 0
    repeats: int = 1
    seconds: list[float] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    accuracy: list[float] = field(default_factory=list)
    epochs: list[list[list[float]]] = field(default_factory=list)
    commit: str | None = None
    date: str = ""

    @property
    def measured(self) -> bool:
        return bool(self.seconds)

    @property
    def tried(self) -> bool:
        """Whether it ran, though no run reached the accuracy that was asked for."""
        return bool(self.accuracy) and not self.seconds

    @property
    def seconds_per_sample(self) -> float:
        """The median."""
        return statistics.median(self.seconds) / self.samples

    @property
    def spread(self) -> float:
        """From the quickest to the slowest round, as a share of the median."""
        return (max(self.seconds) - min(self.seconds)) / statistics.median(self.seconds)

    @property
    def noisy(self) -> bool:
        return self.spread > NOISY

    def take_choice(self, other: Row) -> None:
        """Run what another row of the same work found to be quickest."""
        for name in ("variant", "trials", "difference", "samples", "repeats"):
            setattr(self, name, getattr(other, name))

    def finish(self, target: float) -> None:
        """Say when each round's training reached the accuracy `target`, or that none did."""
        reached = [[epoch for epoch in epochs if epoch[1] >= target][:1] for epochs in self.epochs]
        self.seconds = [epoch[0] for epochs in reached for epoch in epochs]
        self.accuracy = [
            first[0][1] if first else max(accuracy for _, accuracy in epochs)
            for first, epochs in zip(reached, self.epochs, strict=True)
        ]
        self.reason = None if self.seconds else f"reached {max(self.accuracy):.2%}, not {target:.2%}"

    def of_target(self, workload: str, target: float) -> Row:
        """The same training as a row of another workload, whose target is lower."""
        row = replace(self, workload=workload)
        if self.epochs:
            row.finish(target)
        return row


def fastest_peer(rows: Iterable[Row], ours: str) -> Row | None:
    """The quickest measured row of another than `ours`."""
    peers = [row for row in rows if row.measured and row.participant != ours]
    return min(peers, key=lambda row: row.seconds_per_sample, default=None)


@dataclass
class Results:
    """Everything in a results file.

    Attributes:
        machine: as `fastcnn info` tells, without its folders.
        versions: of fastcnn and what it stands on.
        commit: of the checkout, with "+" behind it where files were changed; None outside of git.
        date: when the run ended, UTC, ISO 8601.
        protocol: how the peers were measured.
        workloads: their definitions, in the order of the report.
        peers: a row for each participant and workload.
        limits: what the machine can do at most, a `limits.Limit` for each number of threads, as dicts.
        earlier: the rows of the runs before the last, where the report was told to run several times.
    """

    machine: dict[str, Any]
    versions: dict[str, str]
    commit: str | None
    date: str
    protocol: dict[str, Any]
    workloads: list[dict[str, Any]]
    peers: list[Row]
    limits: list[dict[str, Any]] = field(default_factory=list)
    earlier: list[Row] = field(default_factory=list)
    schema: int = SCHEMA

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.part")
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n")
        os.replace(partial, path)

    @classmethod
    def read(cls, path: Path) -> Results:
        """The results in a file.

        Raises:
            ValueError: its form is another one.
        """
        content = json.loads(path.read_text())
        if content.get("schema") != SCHEMA:
            raise ValueError(f"{path}: has schema {content.get('schema')}; expected {SCHEMA}")
        rows = {name: [Row(**row) for row in content.get(name, ())] for name in ("peers", "earlier")}
        return cls(**{**content, **rows})

    def rows_of(self, workload: str) -> list[Row]:
        """Everybody at one workload."""
        return [row for row in self.peers if row.workload == workload]

    def measured(self, workloads: Iterable[Workload]) -> list[Row]:
        """The measured rows of those workloads."""
        names = {workload.name for workload in workloads}
        return [row for row in self.peers if row.workload in names and (row.measured or row.tried)]

    def peak(self, threads: int) -> float | None:
        """GFLOP/s that so many threads reach at most, or None where that was not measured."""
        return next((limit["gflop_per_second"] for limit in self.limits if limit["threads"] == threads), None)

    def distrusted(self, ours: str) -> list[tuple[Row, str]]:
        """The rows that another run could contradict, and why.

        Where there was another run: it disagrees on how much faster or slower than `ours` a row is. Else: the samples
        of the one run are too far apart.
        """
        ratios, earlier = _ratios(self.peers, ours), _ratios(self.earlier, ours)
        twice = {workload for workload, _ in earlier}
        found = []
        for row in self.peers:
            key = row.workload, row.participant
            if row.measured and row.workload not in twice and row.noisy:
                found.append((row, f"spread {row.spread:.0%}"))
            elif key in ratios and key in earlier:
                apart = max(ratios[key], earlier[key]) / min(ratios[key], earlier[key]) - 1
                if apart > NOISY:
                    found.append((row, f"two runs are {apart:.0%} apart"))
        return found

    def add(self, other: Results) -> None:
        """Take `other`'s workloads and what was measured for them, in the report's order; keep the rest.

        Raises:
            ValueError: the other machine is another one.
        """
        mine, theirs = (one.machine.get("processor") for one in (self, other))
        if mine != theirs:
            raise ValueError(f"the file is of the processor {mine!r}, this one is {theirs!r}; choose another --output")
        new = {described["name"] for described in other.workloads}
        workloads = [one for one in self.workloads if one["name"] not in new] + other.workloads
        order = {name: place for place, name in enumerate(WORKLOADS)}
        self.workloads = sorted(workloads, key=lambda one: order.get(one["name"], len(order)))
        for name in ("peers", "earlier"):
            kept = [row for row in getattr(self, name) if row.workload not in new]
            setattr(self, name, kept + getattr(other, name))
        for name in ("machine", "versions", "commit", "date", "protocol", "limits"):
            setattr(self, name, getattr(other, name))


def _ratios(rows: Iterable[Row], ours: str) -> dict[tuple[str, str], float]:
    """Each row's time as a multiple of ours at the same work."""
    rows = [row for row in rows if row.measured]
    base = {row.workload: row.seconds_per_sample for row in rows if row.participant == ours}
    return {
        (row.workload, row.participant): row.seconds_per_sample / base[row.workload]
        for row in rows
        if row.workload in base and row.participant != ours
    }


@functools.cache
def machine() -> tuple[dict[str, Any], dict[str, str]]:
    """This machine and the versions on it, as `fastcnn info` sees them."""
    command = [sys.executable, "-m", "fastcnn", "info", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    info = json.loads(done.stdout)
    return {key: value for key, value in info.items() if key not in ("versions", "cache_folder")}, info["versions"]


def file_of(machine: dict[str, Any]) -> Path:
    """Where this machine's results go: ``results/amd-epyc-2-cores.json``."""
    words = re.findall(r"[a-z0-9]+", f"{machine['processor']} {machine['cores']} cores".lower())
    return FOLDER / f"{'-'.join(words)}.json"


def commit() -> str | None:
    """The checked-out commit."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
