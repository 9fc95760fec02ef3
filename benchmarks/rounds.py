"""The rounds in which everybody has a turn: runs of prepared work, races to an accuracy, processes that start."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from benchmarks.peers.participants import Participant
from benchmarks.peers.workloads import Workload
from benchmarks.results import Row

#: Rounds of training until an accuracy is reached, at most; each from another seed.
RACE_ROUNDS = 3


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
    def restart(self, seed: int) -> None: ...
    def outcome(self) -> dict[str, Any]: ...


class Start(Protocol):
    """Makes a worker that ends with the stack; with `caches`, it keeps what it compiles in that folder."""

    def __call__(
        self, participant: Participant, workload: Workload, stack: ExitStack, caches: Path | None = None
    ) -> Side: ...


Say = Callable[[str], None]

#: The share of test images that a workload's network classifies correctly with the weights of an outcome.
Judge = Callable[[Workload, Mapping[str, Any]], float]


def of_runs(
    workload: Workload, ready: Sequence[Row], sides: Mapping[str, Side], plan: Plan, judge: Judge, say: Say
) -> None:
    """Time the prepared work; what was trained is judged at the end."""
    for row in ready:
        side = sides[row.participant]
        side.prepare(workload, str(row.variant), row.samples)
        side.run()
    for turn in range(plan.rounds):
        say(f"{workload.title}: round {turn + 1} of {plan.rounds}")
        for row in _rotated(ready, turn):
            time.sleep(plan.settle)
            row.seconds.append(sides[row.participant].run(row.repeats))
    for row in ready:
        if workload.trains:
            row.accuracy = [judge(workload, sides[row.participant].outcome())]


def of_races(
    workload: Workload, ready: Sequence[Row], sides: Mapping[str, Side], plan: Plan, judge: Judge, say: Say
) -> None:
    """Train until the test images say that it is enough; testing takes none of the time."""
    for row in ready:
        row.samples, row.repeats = workload.samples, 1
        side = sides[row.participant]
        side.prepare(workload, str(row.variant), row.samples)
        side.run()
    rounds = min(plan.rounds, RACE_ROUNDS)
    for turn in range(rounds):
        for row in _rotated(ready, turn):
            say(f"{workload.title}: round {turn + 1} of {rounds}, {row.participant}")
            side, seconds, accuracy = sides[row.participant], 0.0, 0.0
            side.restart(turn + 1)
            row.epochs.append([])
            while len(row.epochs[-1]) < workload.epochs and accuracy < workload.target:
                time.sleep(plan.settle)
                seconds += side.run()
                accuracy = judge(workload, side.outcome())
                row.epochs[-1].append([seconds, accuracy])
    for row in ready:
        row.finish(workload.target)


def of_starts(
    workload: Workload,
    ready: Sequence[Row],
    participants: Mapping[str, Participant],
    plan: Plan,
    begin: Start,
    say: Say,
) -> None:
    """Time whole processes, until they have done the work once. Everybody is in its plain form, the first variant."""
    with tempfile.TemporaryDirectory() as filled:
        for turn in range(-1 if workload.cached else 0, plan.rounds):
            say(f"{workload.title}: round {turn + 1} of {plan.rounds}")
            for row in _rotated(ready, turn):
                time.sleep(plan.settle)
                with ExitStack() as stack:
                    empty = stack.enter_context(tempfile.TemporaryDirectory())
                    kept = Path(filled, row.participant) if workload.cached else Path(empty)
                    begun = time.perf_counter()
                    side = begin(participants[row.participant], workload, stack, kept)
                    side.prepare(replace(workload, kind="train"), str(row.variant), row.samples)
                    side.run()
                    if turn >= 0:  # the turn before the first fills the caches
                        row.seconds.append(time.perf_counter() - begun)


def _rotated(rows: Sequence[Row], turn: int) -> list[Row]:
    first = turn % len(rows) if rows else 0
    return [*rows[first:], *rows[:first]]
