"""Every operation of the contract on named shapes: arguments, and how much work they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.peers.problem import Array, convolution
from benchmarks.peers.shapes import DEEPBENCH, OURS, ConvShape
from fastcnn import backends

#: What the loops finish in a fraction of a second: the one shape of each operation on which all three backends run.
SMALL_CONV = "mb1ic4ih8oc4oh6kh3"
SMALL_MAP, SMALL_MATRIX, SMALL_LOGITS = (1, 8, 8, 4), (2, 64, 16), (8, 10)

#: Those of the deep networks at their batch sizes: (N, H, W, C), (N, inputs, units); and logits (N, classes).
MAPS = ((128, 24, 24, 64), (256, 24, 24, 24))
MATRICES = ((128, 9216, 128), (256, 800, 256), (128, 128, 10))
LOGITS = ((128, 10), (1024, 100))

Arguments = tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """One call.

    Attributes:
        operation: its name in `backends.OPERATIONS`.
        shape: readable.
        make: its arguments.
        flop: multiply-adds counted as two; 0 where the memory decides alone.
        images: in a call.
        small: whether the loops can do it, too.
        quick: whether it is in the quick group.
    """

    operation: str
    shape: str
    make: Callable[[], Arguments]
    flop: int
    images: int
    small: bool = False
    quick: bool = False

    @property
    def backends(self) -> tuple[str, ...]:
        """Who runs it: the loops of the reference only do what is small."""
        return backends.BACKENDS if self.small else ("im2col", "numba")


def cases() -> Iterator[Case]:
    """All of them, operation by operation."""
    yield from _convolutions()
    size: tuple[int, ...]
    for number, size in enumerate((SMALL_MAP, *MAPS)):
        for operation, make in _ON_MAPS.items():
            yield _case(operation, size, make, number)
    for number, size in enumerate((SMALL_MATRIX, *MATRICES)):
        flop = 2 * int(np.prod(size))
        yield _case("dense_forward", size, _dense_forward, number, flop)
        yield _case("dense_backward", size, _dense_backward, number, 2 * flop)
    for number, size in enumerate((SMALL_LOGITS, *LOGITS)):
        for operation, make in _ON_LOGITS.items():
            yield _case(operation, size, make, number)


def _case(
    operation: str, size: tuple[int, ...], make: Callable[[tuple[int, ...]], Arguments], number: int, flop: int = 0
) -> Case:
    """The first size is the small one, and the next one is in the quick group, too."""
    shape = "x".join(map(str, size))
    return Case(operation, shape, lambda: make(size), flop, size[0], small=number == 0, quick=number <= 1)


def _convolutions() -> Iterator[Case]:
    for descriptor in (SMALL_CONV, *OURS, *DEEPBENCH):
        shape = ConvShape.parse(descriptor)
        kind = {"small": descriptor == SMALL_CONV, "quick": descriptor in (SMALL_CONV, *OURS[:2])}
        flop = shape.flop * shape.mb
        for operation, make, times in _ON_CONVOLUTIONS:
            yield Case(operation, descriptor, _later(make, shape), times * flop, shape.mb, **kind)


def _later(make: Callable[[ConvShape], Arguments], shape: ConvShape) -> Callable[[], Arguments]:
    return lambda: make(shape)


def _conv_forward(shape: ConvShape) -> Arguments:
    x, filters, _ = convolution(shape)
    return x, filters, np.zeros(shape.oc, np.float32), shape.strides, shape.padding


def _conv_backward(shape: ConvShape) -> Arguments:
    x, filters, grad_y = convolution(shape)
    return grad_y, x, filters, shape.strides, shape.padding


_ON_CONVOLUTIONS = (("conv2d_forward", _conv_forward, 1), ("conv2d_backward", _conv_backward, 2))


def _normal(size: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(size, np.float32)


def _pooled(size: tuple[int, ...]) -> tuple[int, ...]:
    return size[0], size[1] // 2, size[2] // 2, size[3]


def _winners(size: tuple[int, ...]) -> Arguments:
    _, winners = backends.get("im2col").maxpool2d_forward(_normal(size), (2, 2), "first")
    return _normal(_pooled(size), 1), winners, size, (2, 2)


def _batchnorm(size: tuple[int, ...]) -> Arguments:
    gamma, beta, mean, variance = (np.abs(_normal(size[-1:], seed)) + 1 for seed in range(1, 5))
    return _normal(size), gamma, beta, mean, variance, 1e-3


def _batchnorm_backward(size: tuple[int, ...]) -> Arguments:
    x, gamma, _, mean, variance, epsilon = _batchnorm(size)
    return _normal(size, 9), x, gamma, mean, variance, epsilon, True


_ON_MAPS: dict[str, Callable[[tuple[int, ...]], Arguments]] = {
    "maxpool2d_forward": lambda size: (_normal(size), (2, 2), "first"),
    "maxpool2d_backward": _winners,
    "avgpool2d_forward": lambda size: (_normal(size), (2, 2)),
    "avgpool2d_backward": lambda size: (_normal(_pooled(size)), size, (2, 2)),
    "activation_forward": lambda size: (_normal(size), "relu"),
    "activation_backward": lambda size: (_normal(size, 1), _normal(size), "relu"),
    "batchnorm_forward": _batchnorm,
    "batchnorm_moments": lambda size: (_normal(size),),
    "batchnorm_backward": _batchnorm_backward,
}


def _dense_forward(size: tuple[int, ...]) -> Arguments:
    samples, inputs, units = size
    return _normal((samples, inputs)), _normal((inputs, units), 1), np.zeros(units, np.float32)


def _dense_backward(size: tuple[int, ...]) -> Arguments:
    x, weights, _ = _dense_forward(size)
    return _normal((size[0], size[2]), 2), x, weights


def _probabilities(size: tuple[int, ...]) -> Array:
    found: Array = backends.get("im2col").softmax(_normal(size))
    return found


_ON_LOGITS: dict[str, Callable[[tuple[int, ...]], Arguments]] = {
    "softmax": lambda size: (_normal(size),),
    "softmax_backward": lambda size: (_normal(size, 1), _probabilities(size)),
    "softmax_cross_entropy": lambda size: (_normal(size), np.arange(size[0]) % size[1]),
    "softmax_cross_entropy_soft": lambda size: (_normal(size), _probabilities(size)),
    "mean_squared_error": lambda size: (_normal(size), _normal(size, 1)),
}


def moved(arguments: Arguments, results: Any) -> int:
    """Bytes of all arrays that go in and come out, each counted once."""
    outputs = results if isinstance(results, tuple) else (results,)
    return sum(array.nbytes for array in (*arguments, *outputs) if isinstance(array, np.ndarray))
