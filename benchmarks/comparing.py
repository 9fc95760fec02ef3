"""Measures ours and the peers' interleaved, after checking that all compute the same.

For every workload each participant first shows in a short trial which of its variants is quickest and how many
images it gets through in the time of a run. Then come the `rounds`: everyone runs once a round, the first of one round
is the last of the next. Between two runs nothing happens for a moment, so that threads that spin after their work
don't disturb the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import rounds
from benchmarks.peers.participants import OURS, Participant
from benchmarks.peers.protocol import PeerError, Worker
from benchmarks.peers.workloads import Workload
from benchmarks.results import Row
from benchmarks.rounds import Judge, Plan, Say, Side, Start

#: What counts as the same network: the greatest difference from fastcnn's weights or probabilities, and the same as a
#: share of how far training moved those weights, or of how much the probabilities vary from image to image.
TOLERANCE, RELATIVE_TOLERANCE = 1e-4, 1e-3

#: The same for a deep network after training, for its probabilities, and for a convolution: the difference's norm as a
#: share of that of the weights' movement, or of the numbers themselves. Adadelta and Adam divide by the gradient's own
#: size, and hence make much of the rounding in small ones; leaving out a bias correction or a momentum is far above.
DEEP_TOLERANCE, EXACT_TOLERANCE = 1e-2, 1e-4

#: A trial takes eight times the images until it lasts this long, in seconds, and ends after so many.
TRIAL_SECONDS, LONG_TRIAL_SECONDS = 0.1, 2.0

NOT_ASKED = "not asked for"
NO_SUCH = "has no way to do this work"


def start(
    participant: Participant, workload: Workload, problem: Path, stack: ExitStack, caches: Path | None = None
) -> Side:
    """A worker for this workload with the problem loaded; it ends with the stack.

    Raises:
        PeerError: it can't be had.
    """
    if reason := participant.missing():
        raise PeerError(reason)
    worker = stack.enter_context(Worker(participant.python, participant.engine, workload.threads, caches))
    worker.load(problem)
    return worker


def measure(
    workload: Workload,
    asked: Sequence[Participant],
    others: Sequence[Participant],
    plan: Plan,
    begin: Start,
    judge: Judge,
    say: Say = lambda text: None,
    earlier: Sequence[Row] = (),
) -> list[Row]:
    """A row for each participant.

    Args:
        workload: what to run.
        asked: whom to measure, beside fastcnn.
        others: who appears as not measured.
        plan: how to measure.
        begin: makes a worker; `start` with its problem.
        judge: tells the accuracy of what was trained.
        say: is told what is going on.
        earlier: rows of a run before this one, whose choice of variants holds.
    """
    chosen = {row.participant: row for row in earlier if row.workload == workload.name and row.variant is not None}
    rows = [Row(workload.name, participant.name) for participant in (OURS, *asked)]
    sides: dict[str, Side] = {}
    with ExitStack() as stack:
        for row, participant in zip(rows, (OURS, *asked), strict=True):
            say(f"{workload.title}: {participant.title}, trial")
            try:
                side = begin(participant, workload, stack)
                row.versions = side.versions
                expected = None if participant is OURS else sides.get(OURS.name)
                if participant.name in chosen:
                    row.take_choice(chosen[participant.name])
                else:
                    _choose(row, side, workload, plan, expected, participant.ties)
                sides[participant.name] = side
            except PeerError as problem:
                row.reason = str(problem)
        ready = [row for row in rows if row.participant in sides]
        if workload.kind == "start":
            stack.close()  # the workers of the trial end: a process starts alone
            participants = {participant.name: participant for participant in (OURS, *asked)}
            rounds.of_starts(workload, ready, participants, plan, begin, say)
        elif workload.kind == "reach":
            rounds.of_races(workload, ready, sides, plan, judge, say)
        else:
            rounds.of_runs(workload, ready, sides, plan, judge, say)
    return [*rows, *(Row(workload.name, other.name, reason=NOT_ASKED) for other in others)]


def _choose(row: Row, side: Side, workload: Workload, plan: Plan, ours: Side | None, ties: str) -> None:
    """Try all variants; fill in the quickest one that computes the same as ours, and the images of a run.

    Whoever starts a process starts the plain form, the first one.
    """
    best = float("inf")
    starts = workload.kind == "start"
    for variant in side.variants(replace(workload, kind="train") if starts else workload)[: 1 if starts else None]:
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
    workload = replace(workload, kind="train") if workload.kind == "start" else workload
    samples = samples_of(workload, 4 * max(workload.batch_size, 16))
    while True:
        side.prepare(workload, variant, samples)
        side.run()
        runs = [side.run()]
        while len(runs) < 4 and sum(runs) < LONG_TRIAL_SECONDS:
            runs.append(side.run())
        if min(runs) >= TRIAL_SECONDS or samples == workload.samples:
            return min(runs) / samples
        samples = samples_of(workload, 8 * samples)


def difference(side: Side, variant: str, ours: Side, workload: Workload, ties: str) -> float:
    """The difference between what `side` and ours compute from the same start.

    Training visits 32 images one at a time, or four batches and a short one, without dropout.

    Returns:
        The greatest difference of two numbers; for deep networks and convolutions that of the norms, see above.

    Raises:
        PeerError: it exceeds a tolerance, or is not a number.
    """
    checked = replace(workload, kind="train" if workload.trains else workload.kind, dropout=False)
    if workload.convolves:
        samples = workload.samples
    elif workload.batch_size > 1:
        samples = 4 * workload.batch_size + workload.samples % workload.batch_size
    else:
        samples = 32
    side.prepare(checked, variant, samples)
    side.run()
    found = _arrays(side.outcome())
    ours.prepare(checked, f"{ours.variants(checked)[0]}, ties {ties}", samples)
    before = _arrays(ours.outcome()) if workload.trains else {}
    ours.run()
    expected = _arrays(ours.outcome())
    if shapes(found) != shapes(expected):
        raise PeerError(f"computes another network: gives {shapes(found)}; expected {shapes(expected)}")
    plain = workload.network == "tutorial" and not workload.convolves
    return max((_gap if plain else _relative_gap)(name, found, expected, before) for name in expected)


Arrays = Mapping[str, np.ndarray[Any, Any]]


def _gap(name: str, found: Arrays, expected: Arrays, before: Arrays) -> float:
    truth = expected[name]
    gap = float(np.abs(found[name] - truth).max())
    variation = float(np.abs(truth - (before[name] if before else truth.mean(0))).max())
    if not (gap <= TOLERANCE and gap <= RELATIVE_TOLERANCE * variation):
        raise PeerError(f"computes another network: its {name} are {gap:.1e} away from fastcnn's")
    return gap


def _relative_gap(name: str, found: Arrays, expected: Arrays, before: Arrays) -> float:
    truth = expected[name]
    size = float(np.linalg.norm(truth - before.get(name, 0.0)))
    gap = float(np.linalg.norm(found[name] - truth)) / max(size, np.finfo(np.float64).tiny)
    if not gap <= (DEEP_TOLERANCE if before else EXACT_TOLERANCE):
        raise PeerError(f"computes something else: its {name} are {gap:.1e} (relative) away from fastcnn's")
    return gap


def shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _arrays(lists: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: np.array(values, np.float64) for name, values in lists.items()}
