"""Every compiled operation gives the same bits on one thread and on two, and from one call to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import pytest

from fastcnn.backends import OPERATIONS
from fastcnn.backends import numba as fast
from fastcnn.backends.numba.jit import compilation

Rng = np.random.Generator


def normal(rng: Rng, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def pooled(rng: Rng, samples: int) -> tuple[Any, ...]:
    return fast.maxpool2d_forward(normal(rng, samples, 7, 9, 5), (2, 2), "first")


# What each operation is called with, for a batch of `samples`: more than one chunk, task and vector where
# they exist.
ARGUMENTS: dict[str, Callable[[Rng, int], tuple[Any, ...]]] = {
    "conv2d_forward": lambda rng, n: (normal(rng, n, 9, 11, 3), normal(rng, 3, 3, 3, 21), normal(rng, 21)),
    "conv2d_backward": lambda rng, n: (
        normal(rng, n, 7, 9, 21),
        normal(rng, n, 9, 11, 3),
        normal(rng, 3, 3, 3, 21),
    ),
    "maxpool2d_forward": lambda rng, n: (normal(rng, n, 7, 9, 5), (2, 2), "all"),
    "maxpool2d_backward": lambda rng, n: (*pooled(rng, n), (n, 7, 9, 5), (2, 2)),
    "dense_forward": lambda rng, n: (normal(rng, n, 600), normal(rng, 600, 21), normal(rng, 21)),
    "dense_backward": lambda rng, n: (normal(rng, n, 21), normal(rng, n, 600), normal(rng, 600, 21)),
    "softmax": lambda rng, n: (normal(rng, n, 11),),
    "softmax_cross_entropy": lambda rng, n: (normal(rng, n, 11), rng.integers(0, 11, n)),
}


@pytest.fixture
def restored_threads() -> Iterator[None]:
    before = numba.get_num_threads()
    yield
    numba.set_num_threads(before)


def bits(results: Any) -> list[bytes]:
    return [array.tobytes() for array in (results if isinstance(results, tuple) else (results,))]


def test_every_operation_is_covered() -> None:
    assert set(ARGUMENTS) == set(OPERATIONS)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@pytest.mark.parametrize("samples", [1, 3, 150])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.usefixtures("restored_threads")
def test_threads_do_not_change_a_bit(operation: str, samples: int) -> None:
    arguments = ARGUMENTS[operation](np.random.default_rng(7), samples)
    call = getattr(fast, operation)
    numba.set_num_threads(1)
    alone = bits(call(*arguments))
    numba.set_num_threads(2)
    assert bits(call(*arguments)) == alone
    assert bits(call(*arguments)) == alone


@pytest.mark.parametrize("operation", OPERATIONS)
def test_arguments_are_not_written_to_and_read_only_ones_compile_nothing(operation: str) -> None:
    arguments = ARGUMENTS[operation](np.random.default_rng(8), 3)
    copies = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    expected = bits(getattr(fast, operation)(*arguments))
    for argument, copy in zip(arguments, copies, strict=True):
        if isinstance(argument, np.ndarray):
            assert argument.tobytes() == copy.tobytes()
            argument.flags.writeable = False
    with compilation() as compiled:
        assert bits(getattr(fast, operation)(*arguments)) == expected
    assert compiled.kernels == []


@pytest.mark.parametrize("operation", OPERATIONS)
def test_order_in_memory_does_not_change_a_bit(operation: str) -> None:
    arguments = ARGUMENTS[operation](np.random.default_rng(9), 3)
    fortran = [np.asfortranarray(a) if isinstance(a, np.ndarray) else a for a in arguments]
    call = getattr(fast, operation)
    assert bits(call(*fortran)) == bits(call(*arguments))
