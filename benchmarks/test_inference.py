"""Inference with the tutorial's network: batches, and one image a call with and without `predict` around the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.conftest import Mnist
from benchmarks.work import FORWARD_FLOP, record
from fastcnn import recipes
from fastcnn.backends.numba.fused import FusedNetwork
from fastcnn.models import Sequential

pytestmark = pytest.mark.benchmark(group="inference")


@pytest.fixture(scope="module")
def model() -> Sequential:
    return recipes.build_model("blog", seed=0)


@pytest.fixture(scope="module")
def kernel(model: Sequential) -> FusedNetwork:
    filters, weights, bias = model.get_weights()
    return FusedNetwork((28, 28, 1), filters, None, weights, bias, scale=1 / 255, offset=-0.5, ties="all")


@pytest.mark.parametrize("through", ["predict", "kernel"])
def test_all_test_images(benchmark: Any, mnist: Mnist, model: Sequential, kernel: FusedNetwork, through: str) -> None:
    """All test images in one call, on all threads."""
    predict: Any = {"predict": model.predict, "kernel": kernel.predict}[through]
    predict(mnist.test_images)
    benchmark(predict, mnist.test_images)
    record(benchmark, len(mnist.test_images), FORWARD_FLOP)


@pytest.mark.parametrize("through", ["predict", "kernel"])
def test_one_image(benchmark: Any, mnist: Mnist, model: Sequential, kernel: FusedNetwork, through: str) -> None:
    """One image a call; the difference of the two is what `predict` costs."""
    image = np.ascontiguousarray(mnist.test_images[:1])
    predict: Any = {"predict": model.predict, "kernel": kernel.predict}[through]
    predict(image)
    benchmark(predict, image)
    record(benchmark, 1)
