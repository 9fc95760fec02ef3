"""Training the recipes: one step, and epochs through `fit` as users run it. The accuracy reached is noted beside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

from benchmarks.conftest import Mnist
from benchmarks.work import STEP_FLOP, record
from fastcnn import recipes
from fastcnn.backends.numba.fused import FusedNetwork

pytestmark = pytest.mark.benchmark(group="training")

Threads = Callable[[int], None]
ROUNDS = 5


@pytest.mark.parametrize("ties", ["all", "first"], ids=lambda ties: f"ties-{ties}")
def test_step_bare_kernel(benchmark: Any, mnist: Mnist, use_threads: Threads, ties: Literal["first", "all"]) -> None:
    """An epoch of steps at batch size one, without `fit` around it."""
    use_threads(1)
    filters, weights, bias = recipes.build_model("blog", seed=0).get_weights()
    network = FusedNetwork((28, 28, 1), filters, None, weights, bias, scale=1 / 255, offset=-0.5, ties=ties)
    order = np.random.default_rng(0).permutation(len(mnist.images))

    def train() -> None:
        network.train(mnist.images, mnist.labels, order, 0.005, 1)

    benchmark.pedantic(train, rounds=ROUNDS, warmup_rounds=1)
    record(benchmark, len(mnist.images), STEP_FLOP)


EPOCHS = [
    ("blog", 1, 1),
    ("blog-keras", 1, 1),
    *(("blog", batch_size, threads) for batch_size in (32, 128, 256) for threads in (1, 2)),
]


@pytest.mark.parametrize(
    ("recipe", "batch_size", "threads"),
    EPOCHS,
    ids=[f"{recipe}-batch{size}-{threads}thread{'s'[: threads - 1]}" for recipe, size, threads in EPOCHS],
)
def test_epoch(benchmark: Any, mnist: Mnist, use_threads: Threads, recipe: str, batch_size: int, threads: int) -> None:
    """An epoch of `fit`, shuffled."""
    use_threads(threads)
    model = recipes.build_model(recipe, seed=0)

    def train() -> None:
        model.fit(mnist.images, mnist.labels, batch_size=batch_size, verbose=0)

    benchmark.pedantic(train, rounds=ROUNDS, warmup_rounds=1)
    _, accuracy = model.evaluate(mnist.test_images, mnist.test_labels, verbose=0)
    record(benchmark, len(mnist.images), STEP_FLOP, test_accuracy=round(accuracy, 4))
