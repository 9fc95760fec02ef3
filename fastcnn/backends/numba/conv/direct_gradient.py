"""The gradient of a convolution's filters, as plain sums of products.

Nine taps and a vector of filters at a time are summed in registers while the pixels of a block of rows go by: nine is
what 3x3 windows of one channel have, and divides those of three. The tenth register, for the bias, costs nothing, since
additions do not wait for multiplications. With 32 registers three times nine taps are summed, where these lie in runs
of nine: then all of three channels' windows are.

Tasks share the work by chunks of samples where the sums are few, and by panels of filters where they are many: those
tasks need no sums of their own. The shapes alone decide, so that the result does not depend on the threads.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, get_thread_id, prange  # type: ignore[attr-defined]
from numpy.typing import NDArray

from fastcnn.backends.numba.conv.kernels import fills, place
from fastcnn.backends.numba.jit import jit_inline, jit_part, parallel_jit
from fastcnn.backends.numba.packing import FloatArray, Workspace, aligned_empty, padded_width
from fastcnn.backends.numba.runs import fma_run, load_run, store_run
from fastcnn.backends.numba.simd import (
    LANES,
    above,
    address,
    first_lanes,
    fma,
    load,
    load_where,
    prefetch_second,
    select,
    shifted,
    splat,
    store,
    store_where,
)

#: Taps that are summed at once, one accumulator each.
TAPS = 9

#: Whether there are registers for three times as many.
MANY = LANES == 16

#: Floats of the gradient that a block of rows holds, about: 16 KB stay in the first-level cache for all taps. Where
#: each is read but once, larger blocks save a twentieth to a tenth of the time, which loading and storing sums takes.
_BLOCK_FLOATS, _ONCE_FLOATS = 1 << 12, 1 << 16

#: Taps from which on a vector of each pixel's gradients is copied to where these lie one after the other.
_PACKED_TAPS = 64

#: Floats of sums from which on panels of filters are tasks of their own, and that all tasks have together, at most.
_PANELS_FLOATS, _ALL_FLOATS = 1 << 15, 1 << 20

Frame = tuple[int, int, int, int]


def filter_gradient(
    grad_y: FloatArray,
    kept: FloatArray,
    x: FloatArray,
    frame: Frame,
    strides: tuple[int, int],
    offsets: NDArray[np.int64],
    taps: int,
    workspace: Workspace,
) -> tuple[FloatArray, FloatArray]:
    """Return the gradients for the filters (taps, F) and the bias (F,).

    Args:
        grad_y: gradient for the convolution's output (N, OH, OW, F).
        kept: where this is not empty, gradients count only where it is above zero.
        x: images (N, H, W, C).
        frame: where the images lie in their margin.
        strides: pixels from one window to the next.
        offsets: where in its window each tap is, filled up to a multiple of TAPS.
        taps: of a filter.
        workspace: what images, gradients and sums are kept in.
    """
    samples, _, out_width, count = grad_y.shape
    vectors = padded_width(count) // LANES
    private = len(offsets) * vectors * LANES
    parts = 1 if private <= _PANELS_FLOATS else min(16, vectors)
    chunks = min(samples, max(1, min(32 // parts, _ALL_FLOATS // private)))
    sums = workspace.array("sums", (chunks, vectors, len(offsets), LANES), zeros=False)
    bias = workspace.array("bias_sums", (chunks, vectors * LANES), zeros=False)
    block = max(1, _BLOCK_FLOATS // (LANES * out_width)) * out_width * LANES
    image = padded_width(frame[0] * frame[1] * x.shape[3])
    scratch = workspace.array("filter", (get_num_threads(), block + image))
    _add_taps(grad_y, kept, x, frame, strides, offsets, (chunks, parts, taps), scratch, sums, bias)
    grad_filters, grad_bias = aligned_empty((taps, count)), aligned_empty((count,))
    _add_up(sums, bias, grad_filters, grad_bias)
    return grad_filters, grad_bias


@parallel_jit
def _add_taps(grad_y, kept, x, frame, strides, offsets, split, scratch, sums, bias):
    """Fill `sums` and `bias` with what each chunk of samples gives.

    ``sums[chunk, f // LANES, t, f % LANES]`` is the sum of ``x[window of p, tap t] * grad_y[p, f]`` over all pixels p.
    """
    samples, out_height, out_width, count = grad_y.shape
    _, height, width, channels = x.shape
    _, vectors, padded_taps, _ = sums.shape
    chunks, parts, taps = split
    steps = (strides[0] * frame[1] * channels, strides[1] * channels)
    masked = kept.size > 0
    packs = masked or count % LANES != 0 or taps >= _PACKED_TAPS
    at_once = _taps_at_once(offsets)
    once = at_once == padded_taps and not packs
    block_rows = max(1, (_ONCE_FLOATS if once else _BLOCK_FLOATS) // ((LANES if packs else count) * out_width))
    for task_index in prange(chunks * parts):
        chunk, part = np.intp(task_index) // parts, np.intp(task_index) % parts
        work = shifted(address(scratch), get_thread_id() * scratch.shape[1])
        packed = shifted(work, (frame[0] * frame[1] * channels + LANES - 1) // LANES * LANES)
        grad_b = shifted(address(bias), chunk * vectors * LANES)
        begin = samples * chunk // chunks
        for n in range(begin, samples * (chunk + 1) // chunks):
            image = shifted(address(x), n * height * width * channels)
            if not fills(frame, height, width):
                place(image, height, width, channels, frame, work)
                image = work
            for top in range(0, out_height, block_rows):
                rows = min(block_rows, out_height - top)
                first = (n * out_height + top) * out_width * count
                fresh = n == begin and top == 0
                for v in range(vectors * part // parts, vectors * (part + 1) // parts):
                    grad, step = shifted(address(grad_y), first + v * LANES), count
                    ahead = shifted(grad, rows * out_width * count)
                    if packs:
                        mask = shifted(address(kept), first + v * LANES if masked else 0)
                        pack(grad, mask, masked, count, count - v * LANES, rows * out_width, packed)
                        grad, step = packed, np.intp(LANES)
                        ahead = shifted(address(grad_y), first + rows * out_width * (count + v * LANES))
                    for t in range(0, padded_taps, at_once):
                        block = (
                            shifted(image, top * steps[0]),
                            shifted(address(offsets), t),
                            steps,
                            grad,
                            step,
                            (rows, out_width),
                            ahead,
                            fresh,
                            shifted(address(sums), ((chunk * vectors + v) * padded_taps + t) * LANES),
                            shifted(grad_b, v * LANES),
                            t == 0,
                        )
                        if at_once > TAPS:
                            _sum_runs(*block)
                        else:
                            _sum_block(*block)


@jit_inline
def _taps_at_once(offsets):
    """How many taps to sum at once: three times TAPS where they lie in runs of TAPS."""
    if not MANY or len(offsets) % (3 * TAPS) != 0:
        return TAPS
    for t in range(0, len(offsets), TAPS):
        if offsets[t + TAPS - 1] - offsets[t] != TAPS - 1:
            return TAPS
    return 3 * TAPS


@jit_part
def _sum_block(image, offsets, steps, grad, step, size, ahead, fresh, w, bias, sums_bias):
    """Add the products of nine taps and one vector of filters over a block of rows, or write them if `fresh`.

    With each pixel, the floats of the next block that lie as far from `ahead` as its own from `grad` are asked for.
    """
    x0, x1, x2 = shifted(image, offsets[0]), shifted(image, offsets[1]), shifted(image, offsets[2])
    x3, x4, x5 = shifted(image, offsets[3]), shifted(image, offsets[4]), shifted(image, offsets[5])
    x6, x7, x8 = shifted(image, offsets[6]), shifted(image, offsets[7]), shifted(image, offsets[8])
    zero = splat(np.float32(0))
    a0, a1, a2, a3, a4, a5, a6, a7, a8, total = zero, zero, zero, zero, zero, zero, zero, zero, zero, zero
    if not fresh:
        a0, a1, a2, a3, a4 = load(w, 0), load(w, LANES), load(w, 2 * LANES), load(w, 3 * LANES), load(w, 4 * LANES)
        a5, a6, a7, a8 = load(w, 5 * LANES), load(w, 6 * LANES), load(w, 7 * LANES), load(w, 8 * LANES)
        total = load(bias, 0)
    rows, columns = size
    down, right = steps
    for i in range(rows):
        at, end, g = i * down, i * down + columns * right, i * columns * step
        while at != end:  # LLVM would unroll a `for`, and eighteen pointers don't stay in registers
            value = load(grad, g)
            prefetch_second(ahead, g)
            a0, a1 = fma(splat(x0[at]), value, a0), fma(splat(x1[at]), value, a1)
            a2, a3 = fma(splat(x2[at]), value, a2), fma(splat(x3[at]), value, a3)
            a4, a5 = fma(splat(x4[at]), value, a4), fma(splat(x5[at]), value, a5)
            a6, a7 = fma(splat(x6[at]), value, a6), fma(splat(x7[at]), value, a7)
            a8 = fma(splat(x8[at]), value, a8)
            total = total + value
            at += right
            g += step
    store(w, 0, a0)
    store(w, LANES, a1)
    store(w, 2 * LANES, a2)
    store(w, 3 * LANES, a3)
    store(w, 4 * LANES, a4)
    store(w, 5 * LANES, a5)
    store(w, 6 * LANES, a6)
    store(w, 7 * LANES, a7)
    store(w, 8 * LANES, a8)
    if sums_bias:
        store(bias, 0, total)


@jit_part
def _sum_runs(image, offsets, steps, grad, step, size, ahead, fresh, w, bias, sums_bias):
    """As `_sum_block`, for three runs of nine taps that lie one after the other."""
    x0, x1, x2 = shifted(image, offsets[0]), shifted(image, offsets[TAPS]), shifted(image, offsets[2 * TAPS])
    w1, w2 = shifted(w, TAPS * LANES), shifted(w, 2 * TAPS * LANES)
    total = splat(np.float32(0))
    a = (total, total, total, total, total, total, total, total, total)
    b, c = a, a
    if not fresh:
        a, b, c, total = load_run(w, a), load_run(w1, b), load_run(w2, c), load(bias, 0)
    rows, columns = size
    down, right = steps
    for i in range(rows):
        at, end, g = i * down, i * down + columns * right, i * columns * step
        while at != end:
            value = load(grad, g)
            prefetch_second(ahead, g)
            a, b, c = fma_run(x0, at, value, a), fma_run(x1, at, value, b), fma_run(x2, at, value, c)
            total = total + value
            at += right
            g += step
    store_run(w, a)
    store_run(w1, b)
    store_run(w2, c)
    if sums_bias:
        store(bias, 0, total)


@jit_part
def pack(grad, mask, masked, count, lanes, pixels, packed):
    """Copy a vector, or its first `lanes`, of each pixel's gradients (pixels, count) to `packed` (pixels, LANES)."""
    zero, ahead = splat(np.float32(0)), pixels * count
    if lanes >= LANES:
        for p in range(pixels):
            value = load(grad, p * count)
            prefetch_second(grad, ahead + p * count)
            if masked:
                value = select(above(load(mask, p * count), zero), value, zero)
                prefetch_second(mask, ahead + p * count)
            store(packed, p * LANES, value)
    else:
        where = first_lanes(lanes)
        for p in range(pixels):
            value = load_where(grad, p * count, where)
            if masked:
                value = select(above(load_where(mask, p * count, where), zero), value, zero)
            store(packed, p * LANES, value)


@parallel_jit
def _add_up(sums, bias, grad_filters, grad_bias):
    """Add the chunks' sums in order."""
    chunks, vectors, padded_taps, _ = sums.shape
    taps, count = grad_filters.shape
    size = vectors * padded_taps * LANES
    for panel in prange(vectors):
        v = np.intp(panel)
        where = first_lanes(count - v * LANES)
        for t in range(taps):
            at = shifted(address(sums), (v * padded_taps + t) * LANES)
            total = load(at, 0)
            for chunk in range(1, chunks):
                total = total + load(at, chunk * size)
            store_where(address(grad_filters), t * count + v * LANES, total, where)
        total = load(address(bias), v * LANES)
        for chunk in range(1, chunks):
            total = total + load(address(bias), (chunk * vectors + v) * LANES)
        store_where(address(grad_bias), v * LANES, total, where)
