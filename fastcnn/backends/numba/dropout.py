"""Dropout in one pass over memory: the mask is drawn where it is used, and drawn again on the way back."""

from __future__ import annotations

import numpy as np
from numba import prange

from fastcnn.backends.numba.jit import parallel_jit
from fastcnn.backends.numba.packing import FloatArray
from fastcnn.backends.numba.parts import PART, part, parts_of


def dropout(x: FloatArray, seed: int, dropped: int, factor: float, y: FloatArray) -> None:
    """Fill `y` with `x` times `factor` where an element is kept, times zero elsewhere.

    Args:
        x: of any shape.
        seed: tells the mask; the same as `fastcnn.stages.shaping.draws` makes of it.
        dropped: elements are kept whose draw, 16 bits, is not less.
        factor: of those that are kept.
        y: of the shape of `x`; may be `x`, which saves a third of the time for a large array.
    """
    _dropout(x.reshape(-1), np.uint64(seed), np.uint16(dropped), np.float32(factor), y.reshape(-1))


@parallel_jit
def _dropout(x_all, seed, dropped, factor, y_all):
    for task in prange(parts_of(x_all)):
        x, y = part(x_all, task), part(y_all, task)
        numbers = np.empty(PART // 4, np.uint64)
        start = seed + np.uint64(task) * np.uint64(PART // 4) * np.uint64(0x9E3779B97F4A7C15)
        for i in range(numbers.size):  # splitmix64: see `draws`
            z = start + np.uint64(i + 1) * np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            numbers[i] = z ^ (z >> np.uint64(31))
        draws = numbers.view(np.uint16)
        for i in range(x.size):
            y[i] = x[i] * (factor if draws[i] >= dropped else np.float32(0))
