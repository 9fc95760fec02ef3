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


def thinned(rng: Rng, *shape: int) -> np.ndarray:
    """One value in ten, the others zero."""
    return normal(rng, *shape) * (rng.random(shape) < 0.1).astype(np.float32)


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
    "avgpool2d_forward": lambda rng, n: (normal(rng, n, 7, 9, 5), (3, 2), (2, 2), ((1, 1), (0, 1))),
    "avgpool2d_backward": lambda rng, n: (normal(rng, n, 4, 5, 5), (n, 7, 9, 5), (3, 2), (2, 2), ((1, 1), (0, 1))),
    "dense_forward": lambda rng, n: (normal(rng, n, 600), normal(rng, 600, 21), normal(rng, 21)),
    "dense_backward": lambda rng, n: (normal(rng, n, 21), normal(rng, n, 600), normal(rng, 600, 21)),
    "activation_forward": lambda rng, n: (normal(rng, n, 7, 9, 5), "gelu"),
    "activation_backward": lambda rng, n: (normal(rng, n, 7, 9, 5), normal(rng, n, 7, 9, 5), "gelu"),
    "batchnorm_forward": lambda rng, n: (normal(rng, n, 7, 9, 5), *normal(rng, 3, 5), np.ones(5, np.float32), 1e-3),
    "batchnorm_moments": lambda rng, n: (normal(rng, n, 7, 9, 5),),
    "batchnorm_backward": lambda rng, n: (
        *normal(rng, 2, n, 7, 9, 5),
        *normal(rng, 2, 5),
        np.ones(5, np.float32),
        1e-3,
        True,
    ),
    "softmax": lambda rng, n: (normal(rng, n, 11),),
    "softmax_cross_entropy": lambda rng, n: (normal(rng, n, 11), rng.integers(0, 11, n)),
    "softmax_backward": lambda rng, n: (normal(rng, n, 11), normal(rng, n, 11)),
    "softmax_cross_entropy_soft": lambda rng, n: (normal(rng, n, 11), normal(rng, n, 11)),
    "mean_squared_error": lambda rng, n: (normal(rng, n, 11), normal(rng, n, 11)),
}

# The ways through the kernels that those leave out: margins, strides, gradients of mostly zeros.
MARGINS, SAME = ((2, 1), (0, 1)), ((1, 1), (1, 1))
OTHER_WAYS: dict[str, tuple[str, Callable[[Rng, int], tuple[Any, ...]]]] = {
    "convolution with margins": (
        "conv2d_forward",
        lambda rng, n: (normal(rng, n, 9, 11, 3), normal(rng, 3, 3, 3, 21), None, (2, 1), MARGINS),
    ),
    "dense gradient with margins": (
        "conv2d_backward",
        lambda rng, n: (
            normal(rng, n, 5, 10, 21),
            normal(rng, n, 9, 11, 16),
            normal(rng, 3, 3, 16, 21),
            (2, 1),
            MARGINS,
        ),
    ),
    "gradient for 27 taps at once": (
        "conv2d_backward",
        lambda rng, n: (normal(rng, n, 9, 11, 32), normal(rng, n, 9, 11, 3), normal(rng, 3, 3, 3, 32), (1, 1), SAME),
    ),
    "gradient of few channels": (
        "conv2d_backward",
        lambda rng, n: (normal(rng, n, 18, 16, 32), normal(rng, n, 18, 16, 3), normal(rng, 3, 3, 3, 32), (1, 1), SAME),
    ),
    "sparse gradient with margins": (
        "conv2d_backward",
        lambda rng, n: (
            thinned(rng, n, 10, 10, 21),
            normal(rng, n, 9, 11, 16),
            normal(rng, 3, 3, 16, 21),
            (1, 1),
            MARGINS,
        ),
    ),
    "Winograd's convolution with margins": (
        "conv2d_forward",
        lambda rng, n: (normal(rng, n, 12, 11, 17), normal(rng, 3, 3, 17, 35), normal(rng, 35), (1, 1), MARGINS),
    ),
    "Winograd's gradients with margins": (
        "conv2d_backward",
        lambda rng, n: (
            normal(rng, n, 13, 10, 64),
            normal(rng, n, 12, 11, 65),
            normal(rng, 3, 3, 65, 64),
            (1, 1),
            MARGINS,
        ),
    ),
    "overlapping windows": (
        "maxpool2d_backward",
        lambda rng, n: (
            *fast.maxpool2d_forward(normal(rng, n, 7, 9, 5), (3, 3), "first", (1, 2), MARGINS),
            (n, 7, 9, 5),
            (3, 3),
            (1, 2),
            MARGINS,
        ),
    ),
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
    check_threads(getattr(fast, operation), ARGUMENTS[operation](np.random.default_rng(7), samples))


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@pytest.mark.parametrize("samples", [1, 3, 150])
@pytest.mark.parametrize("way", OTHER_WAYS)
@pytest.mark.usefixtures("restored_threads")
def test_threads_do_not_change_a_bit_on_other_ways(way: str, samples: int) -> None:
    operation, arguments = OTHER_WAYS[way]
    check_threads(getattr(fast, operation), arguments(np.random.default_rng(7), samples))


def check_threads(call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
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
