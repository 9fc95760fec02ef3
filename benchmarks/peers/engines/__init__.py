"""One file a library: how somebody who knows it well would run the workloads.

Each has a class `Engine` of the form below. Whatever a library needs before the clock starts (tensors, compiling,
batches cut beforehand) belongs into `task`; `Task.run` is what is timed and returns when the work is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np

from benchmarks.peers.networks import NETWORKS, Network
from benchmarks.peers.problem import Array, Problem
from benchmarks.peers.workloads import Workload


class Task(Protocol):
    """Some work, ready to run any number of times."""

    def run(self) -> None:
        """Do it all and wait for the end."""

    def outcome(self) -> dict[str, Array]:
        """What was computed.

        After training the tutorial's network `filters`, `weights` and `bias` as in `Problem`; after training another
        the weights, named and laid out as `Network.weights` gives them; after inference `probabilities`; after a
        convolution `result`.
        """


class Restartable(Task, Protocol):
    """Training of a deep network: what "reach" needs beside."""

    def restart(self, seed: int) -> None:
        """Go back to the start with other weights, order and dropout; nothing that is compiled is lost."""


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


def named(weights: Iterable[Array]) -> dict[str, Array]:
    """A deep network's weights for `Task.outcome`."""
    return {f"weights {number}": array for number, array in enumerate(weights)}


def network_of(workload: Workload) -> Network:
    """The deep network that a workload names, without dropout where it says so."""
    network = NETWORKS[workload.network]
    return network if workload.dropout else network.without_dropout()


def orders(workload: Workload, samples: int, seed: int) -> Iterator[Array]:
    """The order in which each run visits the samples: as they come, or in "reach" a new one every time."""
    rng = np.random.default_rng(seed)
    while True:
        yield rng.permutation(samples) if workload.kind == "reach" else np.arange(samples)


def rates_of(network: Network, workload: Workload) -> Array:
    """The learning rates of the steps of whole epochs of all the workload's samples; after them, the last one stays."""
    return network.rates(workload.epochs * -(-workload.samples // workload.batch_size))


def in_batches(ways: Iterable[str], workload: Workload, sizes: Iterable[int]) -> list[str]:
    """The variants of inference: every way with every batch size, where the workload leaves that to the library."""
    if workload.batch_size:
        return list(ways)
    return [f"{way}, {size} at a time" for way in ways for size in sizes]


def way_and_batch(variant: str, workload: Workload) -> tuple[str, int]:
    """The inverse: the way, and how many images go into a call or a step."""
    if workload.batch_size:
        return variant, workload.batch_size
    way, _, size = variant.removesuffix(" at a time").rpartition(", ")
    return way, int(size)
