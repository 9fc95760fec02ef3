"""One file a library: how somebody who knows it well would run the workloads.

Each has a class `Engine` of the form below. Whatever a library needs before the clock starts (tensors, compiling,
batches cut beforehand) belongs into `task`; `Task.run` is what is timed and returns when the work is done.
"""

from __future__ import annotations

from typing import Protocol

from benchmarks.peers.problem import Array, Problem
from benchmarks.peers.workloads import Workload


class Task(Protocol):
    """Some work, ready to run any number of times."""

    def run(self) -> None:
        """Do it all and wait for the end."""

    def outcome(self) -> dict[str, Array]:
        """After training `filters`, `weights` and `bias` as in `Problem`; after inference `probabilities`."""


class EngineProtocol(Protocol):
    """A library's way to run workloads."""

    def __init__(self, threads: int) -> None:
        """Import the library and hold it to that many threads."""

    def versions(self) -> dict[str, str]:
        """Of the library and what it stands on."""

    def variants(self, workload: Workload) -> list[str]:
        """Ways to run it that are worth trying; the quickest is used. Empty where the library has none."""

    def task(self, workload: Workload, variant: str, samples: int, problem: Problem) -> Task:
        """The work on the first `samples` images, from the problem's weights."""
