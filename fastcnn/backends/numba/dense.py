"""Dense layers: three matrix products, one kernel.

numpy would give these to its BLAS, whose threads and whose order of summation are its own. This kernel
multiplies the same way on any number of threads: every sum is computed by one of them, in the order of its
terms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastcnn.backends import checks
from fastcnn.backends.numba.jit import parallel_jit
from fastcnn.backends.numba.packing import ROWS, FloatArray, float32, panels
from fastcnn.backends.numba.simd import LANES, address, fma, load, shifted, splat, store

#: Rows of the result that one task computes, and terms of its sums that are added before the next columns'
#: turn: so many that what a task reads stays in the first-level cache.
_TASK_ROWS, _TASK_TERMS = 32, 256


def dense_forward(x: NDArray[Any], weights: NDArray[Any], bias: NDArray[Any] | None) -> FloatArray:
    """Multiply a batch of vectors with the weights.

    Args:
        x: (N, inputs).
        weights: (inputs, units).
        bias: (units,), or None for none.

    Returns:
        ``x @ weights + bias`` (N, units), float32.

    Raises:
        ArgumentError: a shape or a dtype is wrong.
    """
    checks.dense(x, weights, bias)
    return _product(x, weights, bias)


def dense_backward(
    grad_y: NDArray[Any], x: NDArray[Any], weights: NDArray[Any]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the gradients of a dense layer, summed over the batch.

    Args:
        grad_y: gradient for the layer's output (N, units).
        x: (N, inputs).
        weights: (inputs, units).

    Returns:
        The gradients for the input (N, inputs), the weights (inputs, units) and the bias (units,), float32.

    Raises:
        ArgumentError: a shape or a dtype is wrong.
    """
    checks.dense_backward(grad_y, x, weights)
    grad_y = float32(grad_y)
    return _product(grad_y, weights.T), _product(x.T, grad_y), grad_y.sum(axis=0)


def _product(a: NDArray[Any], b: NDArray[Any], start: NDArray[Any] | None = None) -> FloatArray:
    """Return ``a @ b + start``."""
    rows, columns = a.shape[0], b.shape[1]
    packed = panels(float32(b))
    first = np.zeros(packed.shape[0] * LANES, np.float32)
    if start is not None:
        first[:columns] = start
    c = np.empty((-(-rows // ROWS) * ROWS, len(first)), np.float32)
    _multiply(float32(a), packed, first, c)
    return np.ascontiguousarray(c[:rows, :columns])


@parallel_jit
def _multiply(a, packed, start, c):
    rows, terms = a.shape
    padded_rows, width = c.shape
    for task_index in prange((rows + _TASK_ROWS - 1) // _TASK_ROWS):
        task = np.intp(task_index)
        for first in range(0, terms, _TASK_TERMS):
            last = min(first + _TASK_TERMS, terms)
            for panel in range(packed.shape[0]):
                b = shifted(address(packed), panel * terms * LANES)
                for r in range(task * _TASK_ROWS, min((task + 1) * _TASK_ROWS, padded_rows), ROWS):
                    to = shifted(address(c), r * width + panel * LANES)
                    if first == 0:
                        c0 = load(address(start), panel * LANES)
                        c1, c2, c3, c4, c5, c6, c7 = c0, c0, c0, c0, c0, c0, c0
                    else:
                        c0, c1, c2, c3 = (
                            load(to, 0),
                            load(to, width),
                            load(to, 2 * width),
                            load(to, 3 * width),
                        )
                        c4, c5 = load(to, 4 * width), load(to, 5 * width)
                        c6, c7 = load(to, 6 * width), load(to, 7 * width)
                    a0 = shifted(address(a), r * terms)  # rows past the last repeat it
                    a1 = shifted(address(a), min(r + 1, rows - 1) * terms)
                    a2 = shifted(address(a), min(r + 2, rows - 1) * terms)
                    a3 = shifted(address(a), min(r + 3, rows - 1) * terms)
                    a4 = shifted(address(a), min(r + 4, rows - 1) * terms)
                    a5 = shifted(address(a), min(r + 5, rows - 1) * terms)
                    a6 = shifted(address(a), min(r + 6, rows - 1) * terms)
                    a7 = shifted(address(a), min(r + 7, rows - 1) * terms)
                    for k in range(first, last):
                        b_k = load(b, k * LANES)
                        c0 = fma(splat(a0[k]), b_k, c0)
                        c1 = fma(splat(a1[k]), b_k, c1)
                        c2 = fma(splat(a2[k]), b_k, c2)
                        c3 = fma(splat(a3[k]), b_k, c3)
                        c4 = fma(splat(a4[k]), b_k, c4)
                        c5 = fma(splat(a5[k]), b_k, c5)
                        c6 = fma(splat(a6[k]), b_k, c6)
                        c7 = fma(splat(a7[k]), b_k, c7)
                    store(to, 0, c0)
                    store(to, width, c1)
                    store(to, 2 * width, c2)
                    store(to, 3 * width, c3)
                    store(to, 4 * width, c4)
                    store(to, 5 * width, c5)
                    store(to, 6 * width, c6)
                    store(to, 7 * width, c7)
