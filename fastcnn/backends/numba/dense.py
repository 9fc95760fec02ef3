"""Dense layers: three matrix products, one kernel.

numpy would give these to its BLAS, whose threads and whose order of summation are its own. This kernel
multiplies the same way on any number of threads: every sum is computed by one of them, in the order of its
terms.

The product is computed block by block. A task copies the part of the right matrix that it needs next into strips one
vector wide, so that it is read in order and stays in the second-level cache, and the part of the left matrix, whose
rows may be so far apart that they compete for the same places in the cache. Both may be transposes of arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import get_num_threads, get_thread_id, prange  # type: ignore[attr-defined]
from numpy.typing import NDArray

from fastcnn.backends import checks
from fastcnn.backends.numba.jit import jit_part, parallel_jit
from fastcnn.backends.numba.packing import ROWS, FloatArray, Workspace, float32, in_vectors, padded_width
from fastcnn.backends.numba.simd import LANES, address, fma, load, maximum, shifted, splat, store

#: A task's part of the result, at most, and how many terms of its sums it adds before it takes the next ones. The
#: copies of both matrices are 150 KB each at most with these; with half the rows, all took a quarter longer.
_TASK_ROWS, _TASK_COLUMNS, _TASK_TERMS = 128, 128, 288
_BLOCK = _TASK_ROWS * (_TASK_TERMS + LANES)
_SCRATCH = _TASK_TERMS * _TASK_COLUMNS + _BLOCK + ROWS * LANES

#: A batch of so few vectors is multiplied with the weights where they are: copying them would take longer.
_FEW_ROWS = 2


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
    return forward(float32(x), weights, bias, Workspace())


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
    grad_y, workspace = float32(grad_y), Workspace()
    return input_gradient(grad_y, weights, workspace), *weight_gradient(grad_y, float32(x), workspace)


def forward(
    x: FloatArray, weights: NDArray[Any], bias: NDArray[Any] | None, workspace: Workspace, least: float = -np.inf
) -> FloatArray:
    """Return `dense_forward`'s result, but nothing less than `least` (0 for ReLU), in an array of the workspace."""
    y = workspace.array("y", (len(x), weights.shape[1]))
    start = in_vectors(bias, y.shape[1])
    if len(x) <= _FEW_ROWS and weights.shape[1] % LANES == 0:
        _multiply_few(x, float32(weights), start, np.float32(least), y)
    else:
        _product(x, float32(weights), start, least, y, workspace)
    return y


def input_gradient(grad_y: FloatArray, weights: NDArray[Any], workspace: Workspace) -> FloatArray:
    """Return the gradient for the input (N, inputs), in an array of the workspace."""
    grad_x = workspace.array("grad_x", (len(grad_y), len(weights)))
    _product(grad_y, float32(weights).T, in_vectors(None, len(weights)), -np.inf, grad_x, workspace)
    return grad_x


def weight_gradient(grad_y: FloatArray, x: FloatArray, workspace: Workspace) -> tuple[FloatArray, FloatArray]:
    """Return the gradients for the weights (inputs, units), in an array of the workspace, and the bias (units,)."""
    grad_weights = workspace.array("grad_weights", (x.shape[1], grad_y.shape[1]))
    _product(x.T, grad_y, in_vectors(None, grad_y.shape[1]), -np.inf, grad_weights, workspace)
    return grad_weights, grad_y.sum(axis=0)


def _product(
    a: FloatArray, b: FloatArray, start: FloatArray, least: float, y: FloatArray, workspace: Workspace
) -> None:
    """Fill `y` with ``a @ b + start``, nothing less than `least`; `a` and `b` may be transposes of arrays."""
    by_term, by_column = not a.flags.c_contiguous, not b.flags.c_contiguous
    threads, task_rows = get_num_threads(), _TASK_ROWS
    while task_rows > ROWS and -(-len(y) // task_rows) * -(-y.shape[1] // _TASK_COLUMNS) < threads:
        task_rows //= 2  # the sums and their order stay the same
    # One thread's after another's. Not made in the kernel: an array there is freed once it is only pointed to.
    scratch = workspace.array("product", (threads, padded_width(_SCRATCH)))
    left, right = a.T if by_term else a, b.T if by_column else b
    _multiply(left, by_term, right, by_column, start, np.float32(least), task_rows, scratch, y)


@jit_part
def _pack_columns(b, by_column, terms, columns, first_term, last_term, first_column, last_column, packed):
    """Copy a block of the right matrix to strips one vector wide; the last is filled up with zeros."""
    depth = last_term - first_term
    for j in range(first_column, last_column, LANES):
        strip = shifted(packed, (j - first_column) * depth)
        lanes = min(LANES, last_column - j)
        if by_column:  # column j is a row of the array: take LANES of them at once
            for lane in range(LANES):
                source = shifted(b, (j + min(lane, lanes - 1)) * terms + first_term)
                for k in range(depth):
                    strip[k * LANES + lane] = source[k] if lane < lanes else np.float32(0)
        elif lanes == LANES:
            for k in range(depth):
                store(strip, k * LANES, load(b, (first_term + k) * columns + j))
        else:
            for k in range(depth):
                for lane in range(LANES):
                    value = b[(first_term + k) * columns + j + min(lane, lanes - 1)]
                    strip[k * LANES + lane] = value if lane < lanes else np.float32(0)


@jit_part
def _pack_block(a, columns, first_row, last_row, first_column, last_column, step, packed):
    """Copy a block of an array with `columns` columns; rows are `step` floats apart in the copy."""
    for i in range(first_row, last_row):
        for j in range(first_column, last_column):
            packed[(i - first_row) * step + j - first_column] = a[i * columns + j]


@jit_part
def _multiply_block(a, row_step, term_step, rows, strip, depth, edge, first, start, floor, y, width, lanes):
    """Add to one strip of the result, eight rows at a time; only its first `lanes` columns exist."""
    least = splat(floor)
    for r in range(0, rows, ROWS):
        left = min(ROWS, rows - r)
        a0 = shifted(a, r * row_step)  # rows past the last repeat it
        a1 = shifted(a, (r + min(1, left - 1)) * row_step)
        a2 = shifted(a, (r + min(2, left - 1)) * row_step)
        a3 = shifted(a, (r + min(3, left - 1)) * row_step)
        a4 = shifted(a, (r + min(4, left - 1)) * row_step)
        a5 = shifted(a, (r + min(5, left - 1)) * row_step)
        a6 = shifted(a, (r + min(6, left - 1)) * row_step)
        a7 = shifted(a, (r + min(7, left - 1)) * row_step)
        direct = lanes == LANES and left == ROWS
        to, step = shifted(y, r * width), width
        if not direct:
            for i in range(left):
                for lane in range(lanes):
                    edge[i * LANES + lane] = to[i * width + lane]
            to, step = edge, LANES
        if first:
            c0 = load(start, 0)
            c1, c2, c3, c4, c5, c6, c7 = c0, c0, c0, c0, c0, c0, c0
        else:
            c0, c1, c2, c3 = load(to, 0), load(to, step), load(to, 2 * step), load(to, 3 * step)
            c4, c5, c6, c7 = load(to, 4 * step), load(to, 5 * step), load(to, 6 * step), load(to, 7 * step)
        for k in range(depth):
            b_k, at = load(strip, k * LANES), k * term_step
            c0 = fma(splat(a0[at]), b_k, c0)
            c1 = fma(splat(a1[at]), b_k, c1)
            c2 = fma(splat(a2[at]), b_k, c2)
            c3 = fma(splat(a3[at]), b_k, c3)
            c4 = fma(splat(a4[at]), b_k, c4)
            c5 = fma(splat(a5[at]), b_k, c5)
            c6 = fma(splat(a6[at]), b_k, c6)
            c7 = fma(splat(a7[at]), b_k, c7)
        store(to, 0, maximum(least, c0))
        store(to, step, maximum(least, c1))
        store(to, 2 * step, maximum(least, c2))
        store(to, 3 * step, maximum(least, c3))
        store(to, 4 * step, maximum(least, c4))
        store(to, 5 * step, maximum(least, c5))
        store(to, 6 * step, maximum(least, c6))
        store(to, 7 * step, maximum(least, c7))
        if not direct:
            for i in range(left):
                for lane in range(lanes):
                    y[(r + i) * width + lane] = edge[i * LANES + lane]


@parallel_jit
def _multiply(a, by_term, b, by_column, start, least, task_rows, scratch, y):
    """Fill `y` (rows, columns), `task_rows` rows at a time.

    `a` is (terms, rows) if `by_term`, `b` (columns, terms) if `by_column`.
    """
    rows, columns = y.shape
    terms = a.shape[0] if by_term else a.shape[1]
    tasks_down = (rows + task_rows - 1) // task_rows
    tasks_right = (columns + _TASK_COLUMNS - 1) // _TASK_COLUMNS
    for task_index in prange(tasks_down * tasks_right):
        task = np.intp(task_index)
        top, left = task // tasks_right * task_rows, task % tasks_right * _TASK_COLUMNS
        bottom, right = min(top + task_rows, rows), min(left + _TASK_COLUMNS, columns)
        strips = shifted(address(scratch), get_thread_id() * scratch.shape[1])
        block = shifted(strips, _TASK_TERMS * _TASK_COLUMNS)
        edge = shifted(block, _BLOCK)
        for first in range(0, terms, _TASK_TERMS):
            last = min(first + _TASK_TERMS, terms)
            depth = last - first
            _pack_columns(address(b), by_column, terms, columns, first, last, left, right, strips)
            if by_term:
                row_step, term_step = 1, _TASK_ROWS
                _pack_block(address(a), rows, first, last, top, bottom, term_step, block)
            else:
                row_step, term_step = _TASK_TERMS + LANES, 1
                _pack_block(address(a), terms, top, bottom, first, last, row_step, block)
            for j in range(left, right, LANES):
                _multiply_block(
                    block,
                    row_step,
                    term_step,
                    bottom - top,
                    shifted(strips, (j - left) * depth),
                    depth,
                    edge,
                    first == 0,
                    shifted(address(start), j),
                    least if last == terms else np.float32(-np.inf),
                    shifted(address(y), top * columns + j),
                    columns,
                    min(LANES, right - j),
                )


@parallel_jit
def _multiply_few(a, b, start, least, y):
    """Fill `y` (rows, columns) with ``a @ b + start``, four vectors of a row at a time; columns are whole vectors.

    Terms are added in the order of `_multiply`: the results are the same.
    """
    rows, columns = y.shape
    terms, width, floor = a.shape[1], 4 * LANES, splat(least)
    groups = (columns + width - 1) // width
    for task_index in prange(rows * groups):
        task = np.intp(task_index)
        row, first = task // groups, task % groups * width
        x, to = shifted(address(a), row * terms), shifted(address(y), row * columns)
        if first + width <= columns:
            c0, c1 = load(address(start), first), load(address(start), first + LANES)
            c2, c3 = load(address(start), first + 2 * LANES), load(address(start), first + 3 * LANES)
            for k in range(terms):
                x_k, b_k = splat(x[k]), shifted(address(b), k * columns + first)
                c0, c1 = fma(x_k, load(b_k, 0), c0), fma(x_k, load(b_k, LANES), c1)
                c2, c3 = fma(x_k, load(b_k, 2 * LANES), c2), fma(x_k, load(b_k, 3 * LANES), c3)
            store(to, first, maximum(floor, c0))
            store(to, first + LANES, maximum(floor, c1))
            store(to, first + 2 * LANES, maximum(floor, c2))
            store(to, first + 3 * LANES, maximum(floor, c3))
        else:
            for j in range(first, columns, LANES):
                c = load(address(start), j)
                for k in range(terms):
                    c = fma(splat(x[k]), load(address(b), k * columns + j), c)
                store(to, j, maximum(floor, c))
