"""Dense layers: three matrix products, one kernel.

numpy would give these to its BLAS, whose threads and whose order of summation are its own. This kernel
multiplies the same way on any number of threads: every sum is computed by one of them, in the order of its
terms.

A task computes some columns of the product. It copies the part of the right matrix that it needs next into strips one
vector wide, so that it is read in order and stays in the first-level cache, and takes the left one where it is: each
of its numbers is loaded for one vector of the result, whatever its neighbours are. Both may be transposes of arrays.
Where most of the left one is zero, `dense_lists` skips that.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import get_num_threads, get_thread_id, prange  # type: ignore[attr-defined]
from numpy.typing import NDArray

from fastcnn.backends import checks
from fastcnn.backends.numba.dense_lists import VECTORS, depth_of, is_finite, lists_of, multiply_rows
from fastcnn.backends.numba.jit import jit_part, parallel_jit
from fastcnn.backends.numba.lanes import copy_transposed
from fastcnn.backends.numba.packing import ROWS, FloatArray, Workspace, float32, padded_width
from fastcnn.backends.numba.simd import (
    LANES,
    above,
    address,
    first_lanes,
    fma,
    load,
    load_where,
    maximum,
    select,
    shifted,
    splat,
    store,
    store_where,
)

#: The strips of a task, at most, and how many terms of its sums it adds before it takes the next ones: all strips are
#: 150 KB at most with these, and one of them is half of a first-level cache.
_TASK_COLUMNS, _TASK_TERMS = 128, 288

#: How many rows of a transposed left matrix are copied at once, where they have to be, and how far apart its terms are
#: in the copy: an odd number of cache lines, so that they don't compete for the same places in the cache as well.
_BLOCK_ROWS, _BLOCK_STEP = 128, 144

#: Floats. Numbers that are a multiple of this apart share a place in the first-level cache, where eight find room.
_COLLIDING = 1024

#: A batch of so few vectors is multiplied with the weights where they are: copying them would take longer.
_FEW_ROWS = 2

#: No bias; no mask: all gradients count.
_NO_BIAS, EVERYTHING = np.zeros(0, np.float32), np.zeros((0, 0), np.float32)


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
    grad_x, grad_weights, grad_bias = backward(float32(grad_y), float32(x), weights, True, Workspace())
    assert grad_x is not None
    return grad_x, grad_weights, grad_bias


def forward(
    x: FloatArray, weights: NDArray[Any], bias: NDArray[Any] | None, workspace: Workspace, least: float = -np.inf
) -> FloatArray:
    """Return `dense_forward`'s result, but nothing less than `least` (0 for ReLU), in an array of the workspace."""
    y = workspace.array("y", (len(x), weights.shape[1]))
    start = _NO_BIAS if bias is None else float32(bias)
    if len(x) <= _FEW_ROWS:
        _multiply_few(x, float32(weights), start, np.float32(least), y)
    else:
        _product(x, float32(weights), start, least, y, workspace)
    return y


def backward(
    grad_y: FloatArray,
    x: FloatArray,
    weights: NDArray[Any],
    wants_input: bool,
    workspace: Workspace,
    kept: FloatArray = EVERYTHING,
) -> tuple[FloatArray | None, FloatArray, FloatArray]:
    """Return `dense_backward`'s result in arrays of the workspace.

    Args:
        grad_y, x, weights: as for `dense_backward`.
        wants_input: whether the gradient for the input is wanted; it is None otherwise.
        workspace: what the results are kept in.
        kept: if not empty, gradients count only where this (N, units) is positive: ReLU's output.
    """
    grad_bias = workspace.array("grad_bias", grad_y.shape[1:])
    masked = workspace.array("masked", grad_y.shape) if kept.size else grad_y
    _sum_rows(grad_y, kept, masked, grad_bias)
    grad_x = None
    if wants_input:
        grad_x = workspace.array("grad_x", x.shape)
        _product(masked, float32(weights).T, _NO_BIAS, -np.inf, grad_x, workspace)
    grad_weights = workspace.array("grad_weights", weights.shape)
    _product(x.T, masked, _NO_BIAS, -np.inf, grad_weights, workspace)
    return grad_x, grad_weights, grad_bias


def _product(
    a: FloatArray, b: FloatArray, start: FloatArray, least: float, y: FloatArray, workspace: Workspace
) -> None:
    """Fill `y` with ``a @ b + start``, nothing less than `least`; `a` and `b` may be transposes of arrays."""
    by_term, by_column = not a.flags.c_contiguous, not b.flags.c_contiguous
    left, right = a.T if by_term else a, b.T if by_column else b
    threads, strips = get_num_threads(), -(-y.shape[1] // LANES)
    # One thread's after another's. Not made in the kernel: an array there is freed once it is only pointed to.
    scratch = workspace.array("product", (threads, padded_width(_TASK_TERMS * (_TASK_COLUMNS + _BLOCK_STEP) + 1)))
    lists, floor = lists_of(left, by_term, y.shape[1], workspace), np.float32(least)
    if lists is not None:
        groups = -(-strips // VECTORS)
        tasks = (min(threads // math.gcd(groups, threads), len(y)), groups)
        scratch[:, -1] = 0
        begin = start if start.size else workspace.array("zeros", y.shape[1:])
        _multiply(lists.reshape(-1, lists.shape[2]), False, True, right, by_column, begin, floor, tasks, scratch, y)
        if not scratch[:, -1].any():
            return
    tasks = _tasks(len(y), strips, threads)
    _multiply(left, by_term, False, right, by_column, start, floor, tasks, scratch, y)


def _tasks(rows: int, strips: int, threads: int) -> tuple[int, int]:
    """Into how many parts the rows and the strips of a product are cut, for equal work on all threads.

    Strips are cut first: rows in two parts are two copies of each strip. What is computed doesn't depend on it.
    """
    across = math.gcd(strips, threads)
    down = min(threads // across, -(-rows // ROWS))
    return down, across * -(-strips * LANES // (across * _TASK_COLUMNS))


@parallel_jit
def _sum_rows(x, kept, masked, sums):
    """Add the rows of `x`; if `kept` is not empty only where that is positive, and copy that to `masked`."""
    rows, columns = x.shape
    zero = splat(np.float32(0))
    for strip_index in prange((columns + LANES - 1) // LANES):
        j = np.intp(strip_index) * LANES
        here, total = first_lanes(columns - j), zero
        if kept.size > 0:
            for i in range(j, rows * columns, columns):
                positive = above(load_where(address(kept), i, here), zero)
                value = select(positive, load_where(address(x), i, here), zero)
                store_where(address(masked), i, value, here)
                total = total + value
        else:
            for i in range(j, rows * columns, columns):
                total = total + load_where(address(x), i, here)
        store_where(address(sums), j, total, here)


@jit_part
def _pack_strip(b, by_column, terms, columns, first, depth, j, strip):
    """Copy `depth` rows of the right matrix, from row `first` on, of the vector of columns that begins with `j`."""
    lanes = min(LANES, columns - j)
    if by_column:  # column j is a row of the array
        source = shifted(b, j * terms + first)
        whole = depth // LANES * LANES if lanes == LANES else 0
        for k in range(0, whole, LANES):
            copy_transposed(shifted(strip, k * LANES), LANES, shifted(source, k), terms)
        for k in range(whole, depth):
            for lane in range(LANES):  # those past the last column repeat it; nobody looks at the results
                strip[k * LANES + lane] = source[min(lane, lanes - 1) * terms + k]
    else:
        here = first_lanes(lanes)
        for k in range(depth):
            store(strip, k * LANES, load_where(b, (first + k) * columns + j, here))


@jit_part
def _multiply_block(a, row_step, term_step, rows, strip, depth, first, start, floor, y, width, lanes):
    """Add to one strip of the result, eight rows at a time; only its first `lanes` columns exist."""
    least, here = splat(floor), first_lanes(lanes)
    for r in range(0, rows, ROWS):
        last = min(ROWS, rows - r) - 1  # rows past the last repeat it
        r1, r2, r3, r4 = min(1, last), min(2, last), min(3, last), min(4, last)
        r5, r6, r7 = min(5, last), min(6, last), min(7, last)
        a0, to = shifted(a, r * row_step), shifted(y, r * width)
        a1, a2, a3 = shifted(a0, r1 * row_step), shifted(a0, r2 * row_step), shifted(a0, r3 * row_step)
        a4, a5, a6 = shifted(a0, r4 * row_step), shifted(a0, r5 * row_step), shifted(a0, r6 * row_step)
        a7 = shifted(a0, r7 * row_step)
        if first:
            c0, c1, c2, c3, c4, c5, c6, c7 = start, start, start, start, start, start, start, start
        else:
            c0, c1 = load_where(to, 0, here), load_where(to, r1 * width, here)
            c2, c3 = load_where(to, r2 * width, here), load_where(to, r3 * width, here)
            c4, c5 = load_where(to, r4 * width, here), load_where(to, r5 * width, here)
            c6, c7 = load_where(to, r6 * width, here), load_where(to, r7 * width, here)
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
        store_where(to, 0, maximum(least, c0), here)
        store_where(to, r1 * width, maximum(least, c1), here)
        store_where(to, r2 * width, maximum(least, c2), here)
        store_where(to, r3 * width, maximum(least, c3), here)
        store_where(to, r4 * width, maximum(least, c4), here)
        store_where(to, r5 * width, maximum(least, c5), here)
        store_where(to, r6 * width, maximum(least, c6), here)
        store_where(to, r7 * width, maximum(least, c7), here)


@parallel_jit
def _multiply(a, by_term, listed, b, by_column, start, least, tasks, scratch, y):
    """Fill `y` (rows, columns).

    `a` is (terms, rows) if `by_term`, `b` (columns, terms) if `by_column`; `tasks` as `_tasks` returns them.
    If `listed`, `a` are the lists of `lists_of`, one after the other, tasks have at most VECTORS strips, and the last
    float of a row of `scratch` becomes 1 where `b` is not finite.
    """
    rows, columns = y.shape
    terms = b.shape[1] if by_column else b.shape[0]
    depth_at_most = depth_of(a.shape[1]) if listed else _TASK_TERMS
    listed_groups = (rows + LANES - 1) // LANES
    (down, across), groups, strips = tasks, (rows + ROWS - 1) // ROWS, (columns + LANES - 1) // LANES
    row_step, term_step = (1, rows) if by_term else (terms, 1)
    # A row of eight numbers a term is read for each vector of the result, from memory again if they collide there.
    copied = by_term and rows % _COLLIDING == 0
    for task_index in prange(down * across):
        task = np.intp(task_index)
        part, column = task // across, task % across
        top, bottom = groups * part // down * ROWS, min(groups * (part + 1) // down * ROWS, rows)
        left, right = strips * column // across * LANES, strips * (column + 1) // across * LANES
        panel = shifted(address(scratch), get_thread_id() * scratch.shape[1])
        block = shifted(panel, _TASK_TERMS * _TASK_COLUMNS)
        for first in range(0, terms, depth_at_most):
            depth = min(depth_at_most, terms - first)
            for j in range(left, right, LANES):
                _pack_strip(address(b), by_column, terms, columns, first, depth, j, shifted(panel, (j - left) * depth))
            if listed:
                multiply_rows(
                    shifted(address(a), first // depth_at_most * listed_groups * a.shape[1]),
                    a.shape[1],
                    (top, bottom),
                    panel,
                    depth * LANES,
                    first == 0,
                    shifted(address(start), left),
                    least if first + depth == terms else np.float32(-np.inf),
                    shifted(address(y), left),
                    columns,
                    min(columns, right) - left,
                )
                if not is_finite(panel, (right - left) * depth):
                    panel[scratch.shape[1] - 1] = np.float32(1)
                continue
            for upper in range(top, bottom, _BLOCK_ROWS):
                here = min(_BLOCK_ROWS, bottom - upper)
                source = shifted(address(a), upper * row_step + first * term_step)
                step = term_step
                if copied:
                    for k in range(depth):
                        for i in range(here):
                            block[k * _BLOCK_STEP + i] = source[k * rows + i]
                    source, step = block, _BLOCK_STEP
                for j in range(left, right, LANES):
                    lanes = first_lanes(columns - j)
                    _multiply_block(
                        source,
                        row_step,
                        step,
                        here,
                        shifted(panel, (j - left) * depth),
                        depth,
                        first == 0,
                        load_where(address(start), j, lanes) if start.size > 0 else splat(np.float32(0)),
                        least if first + depth == terms else np.float32(-np.inf),
                        shifted(address(y), upper * columns + j),
                        columns,
                        columns - j,
                    )


@parallel_jit
def _multiply_few(a, b, start, least, y):
    """Fill `y` (rows, columns) with ``a @ b + start``, eight vectors of a row at a time: with four, half as fast.

    Terms are added in the order of `_multiply`: the results are the same.
    """
    rows, columns = y.shape
    terms, width = a.shape[1], 8 * LANES
    groups = (columns + width - 1) // width
    floor, zero = splat(least), splat(np.float32(0))
    for task_index in prange(rows * groups):
        task = np.intp(task_index)
        row, first = task // groups, task % groups * width
        x, to = shifted(address(a), row * terms), shifted(address(y), row * columns + first)
        bias, weights, lanes = shifted(address(start), first), shifted(address(b), first), columns - first
        m0, m1 = first_lanes(lanes), first_lanes(lanes - LANES)
        m2, m3 = first_lanes(lanes - 2 * LANES), first_lanes(lanes - 3 * LANES)
        m4, m5 = first_lanes(lanes - 4 * LANES), first_lanes(lanes - 5 * LANES)
        m6, m7 = first_lanes(lanes - 6 * LANES), first_lanes(lanes - 7 * LANES)
        c0, c1, c2, c3, c4, c5, c6, c7 = zero, zero, zero, zero, zero, zero, zero, zero
        if start.size > 0:
            c0, c1 = load_where(bias, 0, m0), load_where(bias, LANES, m1)
            c2, c3 = load_where(bias, 2 * LANES, m2), load_where(bias, 3 * LANES, m3)
            c4, c5 = load_where(bias, 4 * LANES, m4), load_where(bias, 5 * LANES, m5)
            c6, c7 = load_where(bias, 6 * LANES, m6), load_where(bias, 7 * LANES, m7)
        if lanes >= width:
            for k in range(terms):
                x_k, w = splat(x[k]), shifted(weights, k * columns)
                c0, c1 = fma(x_k, load(w, 0), c0), fma(x_k, load(w, LANES), c1)
                c2, c3 = fma(x_k, load(w, 2 * LANES), c2), fma(x_k, load(w, 3 * LANES), c3)
                c4, c5 = fma(x_k, load(w, 4 * LANES), c4), fma(x_k, load(w, 5 * LANES), c5)
                c6, c7 = fma(x_k, load(w, 6 * LANES), c6), fma(x_k, load(w, 7 * LANES), c7)
        else:
            for k in range(terms):
                x_k, w = splat(x[k]), shifted(weights, k * columns)
                c0, c1 = fma(x_k, load_where(w, 0, m0), c0), fma(x_k, load_where(w, LANES, m1), c1)
                c2, c3 = fma(x_k, load_where(w, 2 * LANES, m2), c2), fma(x_k, load_where(w, 3 * LANES, m3), c3)
                c4, c5 = fma(x_k, load_where(w, 4 * LANES, m4), c4), fma(x_k, load_where(w, 5 * LANES, m5), c5)
                c6, c7 = fma(x_k, load_where(w, 6 * LANES, m6), c6), fma(x_k, load_where(w, 7 * LANES, m7), c7)
        store_where(to, 0, maximum(floor, c0), m0)
        store_where(to, LANES, maximum(floor, c1), m1)
        store_where(to, 2 * LANES, maximum(floor, c2), m2)
        store_where(to, 3 * LANES, maximum(floor, c3), m3)
        store_where(to, 4 * LANES, maximum(floor, c4), m4)
        store_where(to, 5 * LANES, maximum(floor, c5), m5)
        store_where(to, 6 * LANES, maximum(floor, c6), m6)
        store_where(to, 7 * LANES, maximum(floor, c7), m7)
