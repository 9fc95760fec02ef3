"""One training step of the tutorial's network at batch size one, from the loops up to the fused kernel.

A call takes as many steps as its id says, so that the quick rungs are not measured by what a call costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastcnn.blog
import fastcnn.reference
from benchmarks.conftest import Mnist
from benchmarks.peers import problem
from benchmarks.peers.engines import im2col, loops
from benchmarks.peers.workloads import STEP_FLOP, WORKLOADS
from benchmarks.work import record
from fastcnn.backends.numba.fused import FusedNetwork

pytestmark = pytest.mark.benchmark(group="ladder")

STEPS = {"reference": 1, "patch-loops": 10, "im2col": 200, "blog-classes": 100, "fused": 10_000}


@pytest.mark.parametrize("rung", STEPS, ids=[f"{rung}-{steps}" for rung, steps in STEPS.items()])
def test_steps(benchmark: Any, mnist: Mnist, use_threads: Callable[[int], None], rung: str) -> None:
    """Steps of training on the first images."""
    use_threads(1)
    start = problem.make(mnist.images[..., 0], mnist.labels, mnist.test_images[..., 0])
    steps = min(STEPS[rung], len(start.images))
    benchmark.pedantic(RUNGS[rung](start, steps), rounds=5, warmup_rounds=1)
    record(benchmark, steps, STEP_FLOP)


def classes(module: Any, start: problem.Problem, steps: int) -> Callable[[], None]:
    """The tutorial's script with the classes of a module."""
    conv, pool, softmax = module.Conv3x3(8), module.MaxPool2(), module.Softmax(problem.INPUTS, problem.CLASSES)
    images, labels = start.images[:steps, ..., 0] / 255 - 0.5, start.labels[:steps]

    def train() -> None:
        for image, label in zip(images, labels, strict=True):
            probabilities = softmax.forward(pool.forward(conv.forward(image)))
            gradient = np.zeros(problem.CLASSES)
            gradient[label] = -1 / probabilities[label]
            rate = problem.LEARNING_RATE
            conv.backprop(pool.backprop(softmax.backprop(gradient, rate)), rate)

    return train


def fused(start: problem.Problem, steps: int) -> Callable[[], None]:
    """The fused network on one thread."""
    network = FusedNetwork(
        (28, 28, 1), start.filters, None, start.weights, start.bias, scale=1 / 255, offset=-0.5, ties="all"
    )
    order = np.arange(steps)

    def train() -> None:
        network.train(start.images, start.labels, order, problem.LEARNING_RATE, 1)

    return train


RUNGS: dict[str, Callable[[problem.Problem, int], Callable[[], None]]] = {
    "reference": lambda start, steps: classes(fastcnn.reference, start, steps),
    "patch-loops": lambda start, steps: loops.Engine(1).task(WORKLOADS["train-b1"], "", steps, start).run,
    "im2col": lambda start, steps: im2col.Engine(1).task(WORKLOADS["train-b1"], "", steps, start).run,
    "blog-classes": lambda start, steps: classes(fastcnn.blog, start, steps),
    "fused": fused,
}
