"""How kernels are compiled: what only kernels call is optimised once, inside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from numba import prange
from numba.core.codegen import JITCodeLibrary

from fastcnn.backends.numba import jit
from fastcnn.layers import Conv2D, Dense, Flatten, MaxPooling2D
from fastcnn.models import Sequential


@pytest.fixture
def optimised(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The libraries that are optimised as a whole while the test runs."""
    names: list[str] = []
    plain = JITCodeLibrary._optimize_final_module

    def watched(library: JITCodeLibrary) -> None:
        names.append(library.name)
        plain(library)

    monkeypatch.setattr(JITCodeLibrary, "_optimize_final_module", watched)
    return names


@pytest.mark.parametrize("decorator", [jit.jit_part, jit.jit_inline])
def test_a_part_is_optimised_inside_its_kernel_only(decorator: Callable[..., Any], optimised: list[str]) -> None:
    @decorator
    def double(x):
        return 2 * x

    @numba.njit
    def kernel(x):
        return double(x) + 1

    assert kernel(3) == 7
    assert len([name for name in optimised if "test_a_part" in name]) == 1


def test_a_parallel_loop_is_optimised_inside_its_kernel_only(optimised: list[str]) -> None:
    @numba.njit(parallel=True, pipeline_class=jit._ParallelCompiler)
    def kernel(x):
        for i in prange(len(x)):
            x[i] += i

    x = np.ones(5)
    kernel(x)
    assert x.tolist() == [1, 2, 3, 4, 5]
    assert len([name for name in optimised if "parallel" in name or "parfor" in name]) == 1


def test_another_architecture_compiles_nothing() -> None:
    """Whatever the sizes: what a network's first step waits for is the same in all that have its kinds of layers."""

    def train(first: int, second: int, units: int) -> None:
        network = Sequential(
            [
                Conv2D(first, 5, activation="relu", input_shape=(20, 20, 1)),
                MaxPooling2D(2),
                Conv2D(second, 3, activation="relu"),
                MaxPooling2D(2),
                Flatten(),
                Dense(units, activation="softmax"),
            ],
            seed=0,
        )
        network.compile("sgd", "sparse_categorical_crossentropy")
        network.train_on_batch(np.ones((16, 20, 20, 1), np.float32), np.zeros(16, np.int64))

    train(32, 32, 10)
    with jit.compilation() as compiled:
        train(24, 32, 7)
        train(48, 16, 3)
    assert compiled.kernels == []
