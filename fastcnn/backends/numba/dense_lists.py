"""Products with a left matrix of many zeros: those of a dense layer behind ReLU, and its gradients.

What is not zero is listed, row by row and block by block of terms; then four vectors of a row's sums stay in registers
while a block's list goes by. A term takes 1.5 times as long as in `dense`, which multiplies eight rows at once. Where a
sixth of the numbers is not zero, as behind a convolution, ReLU and max-pooling, all takes 0.4 of `dense`'s time.

Terms are added in the order of `dense`, whose result is the same.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, get_thread_id, prange  # type: ignore[attr-defined]

from fastcnn.backends.numba.jit import jit_part, parallel_jit
from fastcnn.backends.numba.lanes import copy_transposed, count_lanes, integers, multiples, store_lanes
from fastcnn.backends.numba.packing import FloatArray, Workspace, padded_width
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
    store_where,
)

#: Vectors of a row that are summed at once, and terms of a block: its part of the right matrix is 24 KB.
VECTORS, _TERMS = 4, 96

#: The greatest share of numbers other than zero for which lists pay, and how many rows are looked at for it, about.
_DENSITY, _LOOKS = 0.5, 8

#: The least products for which looking for zeros pays, and the greatest left matrix: longer lists leave the cache.
_PRODUCTS, _LEFT_FLOATS = 1 << 22, 1 << 19


def lists_of(left: FloatArray, by_term: bool, columns: int, workspace: Workspace) -> FloatArray | None:
    """Return what is not zero of a left matrix, if a product of so many columns is quicker with that.

    Args:
        left: (rows, terms), or (terms, rows) if `by_term`.
        columns: of the right matrix.
        workspace: what the lists are kept in.

    Returns:
        One list after the other (blocks, rows, 2 * length), as `_list` fills them, or None.
    """
    terms, rows = left.shape if by_term else left.shape[::-1]
    if rows * terms * columns < _PRODUCTS or left.size > _LEFT_FLOATS or terms < LANES or (by_term and rows % LANES):
        return None
    blocks = -(-terms // _TERMS)
    length = padded_width(-(-terms // blocks)) + LANES
    lists = workspace.array("lists", (blocks, rows, 2 * length), zeros=False)
    squares = workspace.array("squares", (get_num_threads(), LANES, LANES), zeros=False)
    return lists if _list(left, by_term, squares, lists) else None


@jit_part
def _is_sparse(a):
    """Whether lists pay, by the look of a few rows."""
    found, looks = 0, range(0, a.shape[0], max(1, a.shape[0] // _LOOKS))
    for i in looks:
        row = shifted(address(a), i * a.shape[1])
        for j in range(a.shape[1]):
            found += row[j] != 0
    return found <= _DENSITY * (len(looks) * a.shape[1])


@parallel_jit
def _list(a, by_term, squares, lists):
    """Fill `lists`, if they pay, and return whether they do.

    A list is the numbers, from `length` on where in a strip their terms are, and at the end how many there are. A block
    is of ``length - LANES`` terms; `squares` are scratch, one for each thread.
    """
    if not _is_sparse(a):
        return False
    rows, length = lists.shape[1], lists.shape[2] // 2
    terms, depth = a.shape[0] if by_term else a.shape[1], length - LANES
    zero = splat(np.float32(0))
    for group in prange((rows + LANES - 1) // LANES):
        top = np.intp(group) * LANES
        square = shifted(address(squares), get_thread_id() * LANES * LANES)
        for k in range(0, terms, LANES):
            first, block = min(k, terms - LANES), k // depth
            fresh = ~first_lanes(k - first)  # the last vector begins before the end of the one before it
            places = multiples(first - block * depth)
            source, step = shifted(address(a), top * terms + first), terms
            if by_term:
                copy_transposed(square, LANES, shifted(address(a), first * rows + top), rows)
                source, step = square, np.intp(LANES)
            for row in range(min(LANES, rows - top)):
                value = load(source, row * step)
                there = ~equal(value, zero) & fresh
                values = shifted(address(lists), (block * rows + top + row) * 2 * length)
                at, end = shifted(values, length), integers(shifted(values, 2 * length - 1))
                found = np.intp(0 if k == block * depth else end[0])
                store_lanes(values, found, there, value)
                store_lanes(at, found, there, places)
                end[0] = np.int32(found + count_lanes(there))
    return True


@jit_part
def is_finite(panel, size):
    """Whether whole vectors of floats are: zero times infinity is not zero, and must not be skipped."""
    total, zero = splat(np.float32(0)), splat(np.float32(0))
    for k in range(0, size, LANES):
        total = fma(load(panel, k), zero, total)
    return count_lanes(equal(total, total)) == LANES


@jit_part
def multiply_rows(lists, length, rows, panel, step, first, start, floor, y, columns, lanes):
    """Add a block's products to four vectors of columns, of which the first `lanes` exist, or begin with `start`.

    The block's strips of the right matrix are `step` floats apart.
    """
    w0, w1, w2, w3 = panel, shifted(panel, step), shifted(panel, 2 * step), shifted(panel, 3 * step)
    m0, m1 = first_lanes(lanes), first_lanes(lanes - LANES)
    m2, m3 = first_lanes(lanes - 2 * LANES), first_lanes(lanes - 3 * LANES)
    least = splat(floor)
    for row in range(rows):
        to, values = shifted(y, row * columns), shifted(lists, row * 2 * length)
        begin = start if first else to
        c0, c1 = load_where(begin, 0, m0), load_where(begin, LANES, m1)
        c2, c3 = load_where(begin, 2 * LANES, m2), load_where(begin, 3 * LANES, m3)
        at = integers(shifted(values, length))
        for i in range(np.intp(at[length - 1])):
            value, k = splat(values[i]), np.intp(at[i])
            c0, c1 = fma(value, load(w0, k), c0), fma(value, load(w1, k), c1)
            c2, c3 = fma(value, load(w2, k), c2), fma(value, load(w3, k), c3)
        store_where(to, 0, maximum(least, c0), m0)
        store_where(to, LANES, maximum(least, c1), m1)
        store_where(to, 2 * LANES, maximum(least, c2), m2)
        store_where(to, 3 * LANES, maximum(least, c3), m3)
