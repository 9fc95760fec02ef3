"""Training the recipes: steps and epochs through `fit` as users run it. The accuracy reached is noted beside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

from benchmarks.conftest import Mnist
from benchmarks.limits import Limit
from benchmarks.peers.engines.ours_deep import model_of
from benchmarks.peers.networks import NETWORKS
from benchmarks.peers.workloads import STEP_FLOP
from benchmarks.work import record, share_of_limit
from fastcnn import recipes
from fastcnn.backends.numba.fused import FusedNetwork
from fastcnn.models import Sequential

pytestmark = pytest.mark.benchmark(group="training")

Threads = Callable[[int], None]
Limits = Callable[[], Limit]

#: The tutorial's recipes that train the whole network, and the deep ones.
NAMES = ("blog", "blog-keras", *NETWORKS)
BATCH_SIZES = (1, 32, 128, 256)

#: Images of a step benchmark; at batch size one as many steps, else a whole batch is the least.
STEP_IMAGES = 512


def build(name: str, steps: int) -> tuple[Sequential, int]:
    """A recipe's model for so many steps, and the floating-point operations of one image."""
    if name in NETWORKS:
        return model_of(NETWORKS[name], steps=steps), NETWORKS[name].flop(training=True)
    return recipes.build_model(name, seed=0), STEP_FLOP


@pytest.mark.quick
@pytest.mark.parametrize("ties", ["all", "first"], ids=lambda ties: f"ties-{ties}")
def test_step_bare_kernel(
    benchmark: Any,
    mnist: Mnist,
    use_threads: Threads,
    limit: Limits,
    rounds: int,
    ties: Literal["first", "all"],
) -> None:
    """An epoch of steps at batch size one, without `fit` around it."""
    use_threads(1)
    filters, weights, bias = recipes.build_model("blog", seed=0).get_weights()
    network = FusedNetwork((28, 28, 1), filters, None, weights, bias, scale=1 / 255, offset=-0.5, ties=ties)
    order = np.random.default_rng(0).permutation(len(mnist.images))

    def train() -> None:
        network.train(mnist.images, mnist.labels, order, 0.005, 1)

    benchmark.pedantic(train, rounds=rounds, warmup_rounds=1)
    record(benchmark, len(mnist.images), STEP_FLOP)
    share_of_limit(benchmark, limit, STEP_FLOP * len(mnist.images))


def _steps() -> list[Any]:
    return [
        pytest.param(*(name, size), id=f"{name}-batch{size}", marks=[pytest.mark.quick] if size == 128 else [])
        for name in NAMES
        for size in BATCH_SIZES
    ]


@pytest.mark.parametrize(("name", "batch_size"), _steps())
def test_steps(benchmark: Any, mnist: Mnist, limit: Limits, rounds: int, name: str, batch_size: int) -> None:
    """Some steps of `fit`, on all threads; `microseconds_per_step` is one of them."""
    images, labels = mnist.images[:STEP_IMAGES], mnist.labels[:STEP_IMAGES]
    steps = len(images) // batch_size
    model, flop = build(name, steps)

    def train() -> None:
        model.fit(images, labels, batch_size=batch_size, verbose=0)

    benchmark.pedantic(train, rounds=rounds, warmup_rounds=1)
    record(benchmark, len(images), flop)
    share_of_limit(benchmark, limit, flop * len(images))
    if benchmark.stats:
        benchmark.extra_info["microseconds_per_step"] = round(benchmark.stats.stats.median / steps * 1e6, 1)


def _epochs() -> list[Any]:
    tutorial = [("blog", 1, 1), ("blog-keras", 1, 1), ("blog", 32, 1), ("blog", 32, 2), ("blog", 128, 1)]
    tutorial += [("blog", 128, 2), ("blog", 256, 1), ("blog", 256, 2)]
    deep = [(name, network.batch_size, 2) for name, network in NETWORKS.items()]
    return [
        pytest.param(
            *(name, size, threads),
            id=f"{name}-batch{size}-{threads}thread{'s'[: threads - 1]}",
            marks=[pytest.mark.quick] if (name, size, threads) == ("blog", 128, 2) else [],
        )
        for name, size, threads in (*tutorial, *deep)
    ]


@pytest.mark.parametrize(("name", "batch_size", "threads"), _epochs())
def test_epoch(
    benchmark: Any,
    mnist: Mnist,
    use_threads: Threads,
    limit: Limits,
    rounds: int,
    name: str,
    batch_size: int,
    threads: int,
) -> None:
    """An epoch of `fit`, shuffled; a deep network's first one, from the start, three times."""
    use_threads(threads)
    deep = name in NETWORKS
    model, flop = build(name, -(-len(mnist.images) // batch_size))
    if deep:
        model.fit(mnist.images[:batch_size], mnist.labels[:batch_size], batch_size=batch_size, verbose=0)

    def fresh() -> None:
        nonlocal model
        model, _ = build(name, -(-len(mnist.images) // batch_size))

    def train() -> None:
        model.fit(mnist.images, mnist.labels, batch_size=batch_size, verbose=0)

    options: dict[str, Any] = {"setup": fresh, "rounds": 3} if deep else {"rounds": rounds, "warmup_rounds": 1}
    benchmark.pedantic(train, **options)
    _, accuracy = model.evaluate(mnist.test_images, mnist.test_labels, verbose=0)
    record(benchmark, len(mnist.images), flop, test_accuracy=round(accuracy, 4))
    share_of_limit(benchmark, limit, flop * len(mnist.images))
