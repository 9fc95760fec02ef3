"""Measures ours and the peers' interleaved, after checking that all compute the same network.

For every workload each participant first shows in a short trial which of its variants is quickest and how many
images it gets through in the time of a run. Then come the rounds: everyone runs once a round, the first of one round
is the last of the next. Between two runs nothing happens for a moment, so that threads that spin after their work
don't disturb the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.peers.participants import OURS, Participant
from benchmarks.peers.protocol import PeerError, Worker
from benchmarks.peers.workloads import Workload
from benchmarks.results import Row

#: What counts as the same network: the greatest difference from fastcnn's weights or probabilities, and the same as a
#: share of how far training moved those weights, or of how much the probabilities vary from image to image.
TOLERANCE, RELATIVE_TOLERANCE = 1e-4, 1e-3

#: A trial takes eight times the images until it lasts this long, in seconds.
TRIAL_SECONDS = 0.1

NOT_ASKED = "not asked for"
NO_SUCH = "has no way to do this work"


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes:
        rounds: how often each participant has its turn.
        seconds: that a turn lasts, about: longer work is cut down to fewer images, shorter work repeated.
        settle: seconds of rest before each turn.
    """

    rounds: int = 5
    seconds: float = 2.0
    settle: float = 0.3


class Side(Protocol):
    """What a `Worker` does; tests have their own."""

    versions: dict[str, str]

    def variants(self, workload: Workload) -> list[str]: ...
    def prepare(self, workload: Workload, variant: str, samples: int) -> None: ...
    def run(self, times: int = 1) -> float: ...
    def outcome(self) -> dict[str, Any]: ...


def start(participant: Participant, workload: Workload, problem: Path, stack: ExitStack) -> Side:
    """A worker for this workload with the problem loaded; it ends with the stack.

    Raises:
        PeerError: it can't be had.
    """
    if reason := participant.missing():
        raise PeerError(reason)
    worker = stack.enter_context(Worker(participant.python, participant.engine, workload.threads))
    worker.load(problem)
    return worker


Start = Callable[[Participant, Workload, ExitStack], Side]
Say = Callable[[str], None]


def measure(
    workload: Workload,
    asked: Sequence[Participant],
    others: Sequence[Participant],
    plan: Plan,
    begin: Start,
    say: Say = lambda text: None,
) -> list[Row]:
    """A row for each participant.

    Args:
        workload: what to run.
        asked: whom to measure, beside fastcnn.
        others: who appears as not measured.
        plan: how to measure.
        begin: makes a worker; `start` with its problem.
        say: is told what is going on.
    """
    rows = [Row(workload.name, participant.name) for participant in (OURS, *asked)]
    sides: dict[str, Side] = {}
    with ExitStack() as stack:
        for row, participant in zip(rows, (OURS, *asked), strict=True):
            say(f"{workload.title}: {participant.title}, trial")
            try:
                side = begin(participant, workload, stack)
                row.versions = side.versions
                expected = None if participant is OURS else sides.get(OURS.name)
                _choose(row, side, workload, plan, expected, participant.ties)
                sides[participant.name] = side
            except PeerError as problem:
                row.reason = str(problem)
        ready = [row for row in rows if row.participant in sides]
        for row in ready:
            side = sides[row.participant]
            side.prepare(workload, str(row.variant), row.samples)
            side.run()
        for turn in range(plan.rounds):
            say(f"{workload.title}: round {turn + 1} of {plan.rounds}")
            for row in _rotated(ready, turn):
                time.sleep(plan.settle)
                row.seconds.append(sides[row.participant].run(row.repeats))
    return [*rows, *(Row(workload.name, other.name, reason=NOT_ASKED) for other in others)]


def _rotated(rows: Sequence[Row], turn: int) -> list[Row]:
    first = turn % len(rows) if rows else 0
    return [*rows[first:], *rows[:first]]


def _choose(row: Row, side: Side, workload: Workload, plan: Plan, ours: Side | None, ties: str) -> None:
    """Try all variants; fill in the quickest one that computes the same as ours, and the images of a run."""
    best = float("inf")
    for variant in side.variants(workload):
        try:
            found = None if ours is None else difference(side, variant, ours, workload, ties)
            seconds = _trial(side, workload, variant)
        except PeerError as problem:
            row.trials[variant] = str(problem)
            continue
        row.trials[variant] = seconds
        if seconds < best:
            best, row.variant, row.difference = seconds, variant, found
    if row.variant is None:
        raise PeerError("; ".join(f"{variant}: {why}" for variant, why in row.trials.items()) or NO_SUCH)
    row.samples = samples_of(workload, plan.seconds / best)
    row.repeats = max(1, round(plan.seconds / 2 / (best * row.samples)))


def samples_of(workload: Workload, affordable: float) -> int:
    """All images of the workload, or as many as that in whole batches, at least one."""
    if affordable >= workload.samples:
        return workload.samples
    batch = max(1, workload.batch_size)
    return max(batch, int(affordable) // batch * batch)


def _trial(side: Side, workload: Workload, variant: str) -> float:
    """Seconds a sample, kernels compiled before."""
    samples = samples_of(workload, 16 * max(workload.batch_size, 4))
    while True:
        side.prepare(workload, variant, samples)
        side.run()
        seconds = min(side.run() for _ in range(4))
        if seconds >= TRIAL_SECONDS or samples == workload.samples:
            return seconds / samples
        samples = samples_of(workload, 8 * samples)


def difference(side: Side, variant: str, ours: Side, workload: Workload, ties: str) -> float:
    """The greatest difference between what `side` and ours compute from the same start.

    Training visits 32 images one at a time, or four batches and a short one.

    Raises:
        PeerError: it exceeds a tolerance, or is not a number.
    """
    training = workload.kind == "train"
    samples = 4 * workload.batch_size + workload.samples % workload.batch_size if workload.batch_size > 1 else 32
    side.prepare(workload, variant, samples)
    side.run()
    found = _arrays(side.outcome())
    ours.prepare(workload, f"{'fit' if training else 'predict'}, ties {ties}", samples)
    before = _arrays(ours.outcome()) if training else {}
    ours.run()
    expected = _arrays(ours.outcome())
    if shapes(found) != shapes(expected):
        raise PeerError(f"computes another network: gives {shapes(found)}; expected {shapes(expected)}")
    worst = 0.0
    for name, truth in expected.items():
        gap = float(np.abs(found[name] - truth).max())
        variation = float(np.abs(truth - (before[name] if training else truth.mean(0))).max())
        if not (gap <= TOLERANCE and gap <= RELATIVE_TOLERANCE * variation):
            raise PeerError(f"computes another network: its {name} are {gap:.1e} away from fastcnn's")
        worst = max(worst, gap)
    return worst


def shapes(arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _arrays(lists: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: np.array(values, np.float64) for name, values in lists.items()}
