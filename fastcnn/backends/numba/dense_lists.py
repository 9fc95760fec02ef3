"""Products with a left matrix of many zeros: those of a dense layer behind ReLU, and its gradients.

What is not zero is listed, row by row and block by block of terms; then four vectors of a row's sums stay in registers
while a block's list goes by. A term takes 1.5 times as long as in `dense`, which multiplies eight rows at once. Where a
sixth of the numbers is not zero, as behind a convolution, ReLU and max-pooling, all takes 0.4 of `dense`'s time.

Terms are added in the order of `dense`, whose result is the same.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, get_thread_id, prange  # type: ignore[attr-defined]

from fastcnn.backends.numba.jit import jit_inline, jit_part, parallel_jit
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
        Lists as `_list` fills them, or None.
    """
    terms, rows = left.shape if by_term else left.shape[::-1]
    if rows * terms * columns < _PRODUCTS or left.size > _LEFT_FLOATS or terms < LANES or (by_term and rows % LANES):
        return None
    blocks, groups = -(-terms // _TERMS), -(-rows // LANES)
    depth = padded_width(-(-terms // blocks))
    lists = workspace.array("lists", (blocks, groups, LANES * (2 * depth + 3)), zeros=False)
    copies = workspace.array("copies", (get_num_threads(), LANES * (depth + 1)), zeros=False)
    return lists if _list(left, by_term, copies, lists) else None


@jit_inline
def depth_of(size):
    """How many terms a block has, from the floats that its lists of a group of rows take."""
    return (size // LANES - 3) // 2


@jit_part
def _is_sparse(a):
    """Whether lists pay, by the look of a few rows."""
    found, looks = 0, range(0, a.shape[0], max(1, a.shape[0] // _LOOKS))
    for i in looks:
        row = shifted(address(a), i * a.shape[1])
        for j in range(a.shape[1]):
            found += row[j] != 0
    return found <= _DENSITY * (len(looks) * a.shape[1])


@jit_part
def _list_row(source, begin, end, terms, values, at, found):
    """List what is not zero of a row's terms `begin` to `end` behind `found` numbers, and return how many are there.

    Vectors may be read up to `terms`.
    """
    zero = splat(np.float32(0))
    for k in range(begin, end, LANES):
        first = min(k, terms - LANES)  # the last vector may begin before the end of the one before it
        value = load(source, first - begin)
        there = ~equal(value, zero) & ~first_lanes(k - first)
        store_lanes(values, found, there, value)
        store_lanes(at, found, there, multiples(first - begin))
        found += count_lanes(there)
    return found


@jit_part
def _list_rows(source, step, rows, begin, end, terms, depth, to):
    """List what is not zero of a group of rows, `step` floats apart."""
    values, counts, found = shifted(to, LANES), integers(to), 0
    at = shifted(values, LANES * (depth + 1))
    for row in range(rows):
        count = _list_row(shifted(source, row * step), begin, end, terms, values, at, found)
        counts[row] = np.int32(count - found)
        found = count


@parallel_jit
def _list(a, by_term, copies, lists):
    """Fill `lists` (blocks, groups, LANES * (2 * depth + 3)), if they pay, and return whether they do.

    The lists of LANES rows, which are a group, lie one after the other, so that short ones take little of the cache:
    first how many numbers each has, then all the numbers, and then where in a strip their terms are. `copies` are
    scratch, for each thread.
    """
    if not _is_sparse(a):
        return False
    blocks, groups, size = lists.shape
    terms, rows = (a.shape[0], a.shape[1]) if by_term else (a.shape[1], a.shape[0])
    depth = depth_of(size)
    for index in prange(groups):
        group = np.intp(index)
        top = group * LANES
        copy = shifted(address(copies), get_thread_id() * LANES * (depth + 1) + LANES)
        for block in range(blocks):
            begin, end = block * depth, min(block * depth + depth, terms)
            source, step = shifted(address(a), top * terms + begin), terms
            if by_term:
                for k in range(begin, end, LANES):
                    first = min(k, terms - LANES)
                    copy_transposed(shifted(copy, first - begin), depth, shifted(address(a), first * rows + top), rows)
                source, step = copy, depth
            to = shifted(address(lists), (block * groups + group) * size)
            _list_rows(source, step, min(LANES, rows - top), begin, end, terms, depth, to)
    return True


@jit_part
def is_finite(panel, size):
    """Whether whole vectors of floats are: zero times infinity is not zero, and must not be skipped."""
    total, zero = splat(np.float32(0)), splat(np.float32(0))
    for k in range(0, size, LANES):
        total = fma(load(panel, k), zero, total)
    return count_lanes(equal(total, total)) == LANES


@jit_part
def multiply_rows(lists, size, rows, panel, step, first, start, floor, y, columns, lanes):
    """Add a block's products to four vectors of columns, of which the first `lanes` exist, or begin with `start`.

    Args:
        lists: the block's, `size` floats for each group.
        rows: the first and the last of those that are multiplied.
        step: floats from one of the block's strips of the right matrix to the next.
        y: the four vectors of the matrix' first row.
    """
    w0, w1, w2, w3 = panel, shifted(panel, step), shifted(panel, 2 * step), shifted(panel, 3 * step)
    m0, m1 = first_lanes(lanes), first_lanes(lanes - LANES)
    m2, m3 = first_lanes(lanes - 2 * LANES), first_lanes(lanes - 3 * LANES)
    least, begin, row = splat(floor), rows[0] // LANES * LANES, rows[0]
    while row < rows[1]:
        counts = integers(shifted(lists, begin // LANES * size))
        values = shifted(lists, begin // LANES * size + LANES)
        at = integers(shifted(values, LANES * (depth_of(size) + 1)))
        listed = 0
        for other in range(row - begin):
            listed += np.intp(counts[other])
        while row < min(begin + LANES, rows[1]):
            to = shifted(y, row * columns)
            source = start if first else to
            c0, c1 = load_where(source, 0, m0), load_where(source, LANES, m1)
            c2, c3 = load_where(source, 2 * LANES, m2), load_where(source, 3 * LANES, m3)
            end = listed + np.intp(counts[row - begin])
            for i in range(listed, end):
                value, k = splat(values[i]), np.intp(at[i])
                c0, c1 = fma(value, load(w0, k), c0), fma(value, load(w1, k), c1)
                c2, c3 = fma(value, load(w2, k), c2), fma(value, load(w3, k), c3)
            store_where(to, 0, maximum(least, c0), m0)
            store_where(to, LANES, maximum(least, c1), m1)
            store_where(to, 2 * LANES, maximum(least, c2), m2)
            store_where(to, 3 * LANES, maximum(least, c3), m3)
            listed = end
            row += 1
        begin += LANES
