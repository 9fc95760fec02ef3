"""Inference: batches, and one image a call; for the tutorial's network with and without `predict` around the kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.conftest import Mnist
from benchmarks.limits import Limit
from benchmarks.peers.engines.ours_deep import model_of
from benchmarks.peers.networks import NETWORKS
from benchmarks.peers.workloads import FORWARD_FLOP
from benchmarks.work import record, share_of_limit
from fastcnn import recipes
from fastcnn.backends.numba.fused import FusedNetwork

pytestmark = pytest.mark.benchmark(group="inference")

Predict = Callable[[Any], Any]


def _kernel() -> Predict:
    filters, weights, bias = recipes.build_model("blog", seed=0).get_weights()
    network = FusedNetwork((28, 28, 1), filters, None, weights, bias, scale=1 / 255, offset=-0.5, ties="all")
    return network.predict


#: Who answers -> what makes it, and the floating-point operations of one image.
WAYS: dict[str, tuple[Callable[[], Predict], int]] = {
    "blog-kernel": (_kernel, FORWARD_FLOP),
    "blog-predict": (lambda: recipes.build_model("blog", seed=0).predict, FORWARD_FLOP),
    "keras-convnet-predict": (
        lambda: model_of(NETWORKS["keras-convnet"]).predict,
        NETWORKS["keras-convnet"].flop(training=False),
    ),
    "small-convnet-predict": (
        lambda: model_of(NETWORKS["small-convnet"]).predict,
        NETWORKS["small-convnet"].flop(training=False),
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "images",
    [
        pytest.param(images, marks=[pytest.mark.quick] if images in (1, 1000) else [])
        for images in (1, 32, 1000, 10_000)
    ],
    ids=lambda images: f"{images}images",
)
def test_call(benchmark: Any, mnist: Mnist, limit: Callable[[], Limit], way: str, images: int) -> None:
    """So many images in one call, on all threads."""
    make, flop = WAYS[way]
    x, predict = np.ascontiguousarray(mnist.test_images[:images]), make()
    predict(x)
    benchmark(predict, x)
    record(benchmark, len(x), flop)
    share_of_limit(benchmark, limit, flop * len(x))
