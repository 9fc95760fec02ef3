"""Products with a left matrix of many zeros: those of a dense layer behind ReLU, and its gradients.

What is not zero is listed, row by row and block by block of terms; then four vectors of a row's sums stay in registers
while a block's list goes by. That takes 1.5 times as long a term as `dense` does, which multiplies eight rows at once:
0.35 of its time where a sixth of the numbers is not zero, as behind a convolution, ReLU and max-pooling.

Terms are added in the order of `dense`. Since zero times infinity is not zero, the right matrix has to be finite.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import get_num_threads, get_thread_id, prange  # type: ignore[attr-defined]
from numpy.typing import NDArray

from fastcnn.backends.numba.conv_pool_vectors import count_lanes, integers, store_lanes, whole
from fastcnn.backends.numba.jit import jit_part, parallel_jit
from fastcnn.backends.numba.lanes import copy_transposed
from fastcnn.backends.numba.packing import FloatArray, Workspace, padded_width
from fastcnn.backends.numba.parts import PART, part, parts_of
from fastcnn.backends.numba.simd import (
    LANES,
    address,
    equal,
    first_lanes,
    fma,
    load,
    load_where,
    maximum,
    shifted,
    splat,
    store,
    store_where,
)

#: Vectors of a row that are summed at once, and terms of a block: its part of the right matrix is 24 KB.
_VECTORS, _TERMS = 4, 96

#: The greatest share of numbers other than zero for which lists pay.
_DENSITY = 0.5

#: The least products for which looking for zeros pays, and the greatest left matrix: longer lists leave the cache.
_PRODUCTS, _LEFT_FLOATS = 1 << 22, 1 << 19

_ORDER = np.arange(LANES, dtype=np.float32)


def multiply(
    left: FloatArray,
    by_term: bool,
    right: FloatArray,
    by_column: bool,
    start: FloatArray,
    least: np.float32,
    y: FloatArray,
    workspace: Workspace,
) -> bool:
    """Fill `y` with a product, if lists pay.

    Args:
        left: (rows, terms), or (terms, rows) if `by_term`.
        right: (terms, columns), or (columns, terms) if `by_column`.
        start: what sums begin with (columns,), or nothing: zeros.
        least: what no result is less than.
        y: the result (rows, columns).
        workspace: what lists are kept in.

    Returns:
        Whether it did.
    """
    rows, columns = y.shape
    terms = left.shape[0] if by_term else left.shape[1]
    if rows * terms * columns < _PRODUCTS or left.size > _LEFT_FLOATS or terms < LANES or (by_term and rows % LANES):
        return False
    if not _has_zeros(left):
        return False
    blocks, groups, threads = -(-terms // _TERMS), -(-columns // (_VECTORS * LANES)), get_num_threads()
    depth = padded_width(-(-terms // blocks))
    values, at = (workspace.array(name, (blocks, rows, depth), zeros=False) for name in ("values", "at"))
    ends = workspace.array("ends", (blocks, rows), np.int64, zeros=False)
    squares = workspace.array("squares", (threads, LANES * LANES), zeros=False)
    finite = np.empty(-(-right.size // PART), np.bool_)
    _list(left, by_term, right.reshape(-1), _ORDER, squares, values, at, ends, finite)
    if ends.sum() > _DENSITY * rows * terms or not finite.all():
        return False
    panels = workspace.array("panels", (threads, _VECTORS * _TERMS * LANES), zeros=False)
    parts = min(threads // math.gcd(groups, threads), rows)
    _multiply((values, at, ends), right, by_column, start, least, parts, panels, y)
    return True


def _has_zeros(left: NDArray[Any]) -> bool:
    """Whether a look at four rows says that lists may pay."""
    some = left[:: max(1, len(left) // 4)]
    return bool(np.count_nonzero(some) <= _DENSITY * some.size)


@jit_part
def pack_strip(b, by_column, terms, columns, first, depth, j, strip):
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


@parallel_jit
def _list(a, by_term, b, order, squares, values, at, ends, finite):
    """Fill `values`, `ends`, how many there are of each row and block, and `at`: where in a strip each one's term is.

    ``finite[i]`` tells whether part i of `b` is.
    """
    blocks, rows, depth = values.shape
    terms = a.shape[0] if by_term else a.shape[1]
    zero, lanes, step = splat(np.float32(0)), load(address(order), 0), splat(np.float32(LANES))
    for group in prange((rows + LANES - 1) // LANES):
        top = np.intp(group) * LANES
        square = shifted(address(squares), get_thread_id() * squares.shape[1])
        for block in range(blocks):
            for row in range(top, min(top + LANES, rows)):
                ends[block, row] = 0
        for k in range(0, terms, LANES):
            first, block = min(k, terms - LANES), k // depth
            fresh = ~first_lanes(k - first)  # the last vector begins before the end of the one before it
            places = (splat(np.float32(first - block * depth)) + lanes) * step
            if by_term:
                copy_transposed(square, LANES, shifted(address(a), first * rows + top), rows)
            for row in range(top, min(top + LANES, rows)):
                value = load(square, (row - top) * LANES) if by_term else load(address(a), row * terms + first)
                there = ~equal(value, zero) & fresh
                to = (block * rows + row) * depth + ends[block, row]
                store_lanes(address(values), to, there, value)
                store_lanes(address(at), to, there, whole(places))
                ends[block, row] += count_lanes(there)
    for task in prange(parts_of(b)):
        total = np.float32(0)
        numbers = part(b, task)
        for i in range(numbers.size):
            total += numbers[i] * np.float32(0)
        finite[task] = total == total


@parallel_jit
def _multiply(lists, b, by_column, start, least, parts, panels, y):
    """Fill `y` (rows, columns): a task computes a part of the rows of four vectors of columns."""
    values, at, ends = lists
    rows, columns = y.shape
    blocks, _, length = values.shape
    terms = b.shape[1] if by_column else b.shape[0]
    groups = (columns + _VECTORS * LANES - 1) // (_VECTORS * LANES)
    zero = splat(np.float32(0))
    for task_index in prange(parts * groups):
        task = np.intp(task_index)
        j = task % groups * _VECTORS * LANES
        top, bottom = rows * (task // groups) // parts, rows * (task // groups + 1) // parts
        w0 = shifted(address(panels), get_thread_id() * panels.shape[1])
        w1, w2, w3 = shifted(w0, _TERMS * LANES), shifted(w0, 2 * _TERMS * LANES), shifted(w0, 3 * _TERMS * LANES)
        m0, m1 = first_lanes(columns - j), first_lanes(columns - j - LANES)
        m2, m3 = first_lanes(columns - j - 2 * LANES), first_lanes(columns - j - 3 * LANES)
        s0, s1, s2, s3 = zero, zero, zero, zero
        if start.size > 0:
            bias = shifted(address(start), j)
            s0, s1 = load_where(bias, 0, m0), load_where(bias, LANES, m1)
            s2, s3 = load_where(bias, 2 * LANES, m2), load_where(bias, 3 * LANES, m3)
        for block in range(blocks):
            first = block * length
            depth = min(length, terms - first)
            for strip in range(min(_VECTORS, (columns - j + LANES - 1) // LANES)):
                to = shifted(w0, strip * _TERMS * LANES)
                pack_strip(address(b), by_column, terms, columns, first, depth, j + strip * LANES, to)
            floor = splat(least if first + depth == terms else np.float32(-np.inf))
            for row in range(top, bottom):
                to = shifted(address(y), row * columns + j)
                c0, c1, c2, c3 = s0, s1, s2, s3
                if first > 0:
                    c0, c1 = load_where(to, 0, m0), load_where(to, LANES, m1)
                    c2, c3 = load_where(to, 2 * LANES, m2), load_where(to, 3 * LANES, m3)
                list_at = (block * rows + row) * length
                x, places = shifted(address(values), list_at), shifted(address(at), list_at)
                for i in range(ends[block, row]):
                    value, k = splat(x[i]), np.intp(integers(places)[i])
                    c0, c1 = fma(value, load(w0, k), c0), fma(value, load(w1, k), c1)
                    c2, c3 = fma(value, load(w2, k), c2), fma(value, load(w3, k), c3)
                store_where(to, 0, maximum(floor, c0), m0)
                store_where(to, LANES, maximum(floor, c1), m1)
                store_where(to, 2 * LANES, maximum(floor, c2), m2)
                store_where(to, 3 * LANES, maximum(floor, c3), m3)
