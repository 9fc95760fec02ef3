"""The kernels of convolution: how they are called is in `operations`.

A window of an NHWC image is `kernel height` runs of `kernel width * channels` floats that lie one after the
other in memory, and so are the filters' taps: the kernels know runs only, never single channels. No window is
copied; the kernels read images in place. Only where the image needs a margin of zeros is it copied, one sample
at a time, to a workspace that stays in the cache.

That workspace is described by a `frame`, a tuple: its height and width, and the row and column of the image's
first pixel in it. Each chunk of samples has one row of `scratch` for it. A margin is never written to and remains
zero.

The copying helpers are functions of their own: inlined, they doubled the time that compiling takes.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from fastcnn.backends.numba.conv.pooled_vectors import store_winners
from fastcnn.backends.numba.jit import jit_inline, jit_part, parallel_jit
from fastcnn.backends.numba.lanes import count_lanes
from fastcnn.backends.numba.packing import ROWS
from fastcnn.backends.numba.simd import (
    LANES,
    above,
    address,
    equal,
    first_lanes,
    fma,
    line_of,
    load,
    maximum,
    prefetch,
    select,
    shifted,
    splat,
    store,
    store_where,
)

#: Floats of the filters that `convolve` takes an image through at once, at most: 512 KB, so that they stay in the
#: second-level cache.
_PANELS_FLOATS = 1 << 17

#: Vectors of a filter that `add_windows` takes at once, for four pixels.
WINDOW_GROUP = 3


@jit_inline
def fills(frame, height, width):
    """Whether the image is the whole workspace, so that none is needed."""
    return frame == (height, width, 0, 0)


@jit_inline
def ask_for(pointer, first, last, part, parts):
    """Prefetch one of `parts` equal parts of what is between two elements: all at once would wait for memory."""
    size = last - first
    for k in range(first + size * part // parts, first + size * (part + 1) // parts, line_of(pointer)):
        prefetch(pointer, k)


@jit_inline
def ask_for_share(pointer, first, share, part):
    """As `ask_for`, for parts of `share` elements: without its divisions, which a short part has no time for."""
    for k in range(first + share * part, first + share * (part + 1), line_of(pointer)):
        prefetch(pointer, k)


@jit_part
def place(image, height, width, channels, frame, work):
    """Copy an image (height, width, channels) to its place in the workspace."""
    _, work_width, top, left = frame
    run = width * channels
    for i in range(height):
        row, to = shifted(image, i * run), shifted(work, ((top + i) * work_width + left) * channels)
        if run < LANES:
            for k in range(run):
                to[k] = row[k]
        else:  # LLVM's loop for the floats behind the last whole vector would take as long as all the others
            for k in range(0, run - LANES, LANES):
                store(to, k, load(row, k))
            store(to, run - LANES, load(row, run - LANES))


@jit_part
def _place_kept(image, mask, height, width, channels, frame, work):
    """As `place`, but zeros where the mask is not above zero."""
    _, work_width, top, left = frame
    for i in range(height):
        to, at = ((top + i) * work_width + left) * channels, i * width * channels
        for k in range(width * channels):
            work[to + k] = image[at + k] if mask[at + k] > 0 else np.float32(0)


@jit_part
def take_out(work, height, width, channels, frame, image):
    """Copy an image (height, width, channels) back from its place in the workspace."""
    _, work_width, top, left = frame
    for i in range(height):
        at = ((top + i) * work_width + left) * channels
        for k in range(width * channels):
            image[i * width * channels + k] = work[at + k]


@jit_inline
def put(vector, lanes, y, to, edge):
    """Write the first `lanes` of a vector; where that is not all of them, by way of `edge`."""
    if lanes >= LANES:
        store(y, to, vector)
    else:
        store(edge, 0, vector)
        for lane in range(lanes):
            y[to + lane] = edge[lane]


@jit_inline
def pixels_at(image, windows, p):
    """Where the windows of eight pixels begin, from number `p` on."""
    x0, x1 = shifted(image, windows[p]), shifted(image, windows[p + 1])
    x2, x3 = shifted(image, windows[p + 2]), shifted(image, windows[p + 3])
    x4, x5 = shifted(image, windows[p + 4]), shifted(image, windows[p + 5])
    x6, x7 = shifted(image, windows[p + 6]), shifted(image, windows[p + 7])
    return x0, x1, x2, x3, x4, x5, x6, x7


@jit_inline
def sums(pixels, offsets, taps, w, start):
    """The sums of eight pixels, for the vector of filters whose taps are at `w`."""
    x0, x1, x2, x3, x4, x5, x6, x7 = pixels
    a0, a1, a2, a3, a4, a5, a6, a7 = start, start, start, start, start, start, start, start
    for t in range(taps):  # one loop, over a list: one for each row would be too short for one channel's three taps
        at = offsets[t]
        tap = load(w, t * LANES)
        a0 = fma(splat(x0[at]), tap, a0)
        a1 = fma(splat(x1[at]), tap, a1)
        a2 = fma(splat(x2[at]), tap, a2)
        a3 = fma(splat(x3[at]), tap, a3)
        a4 = fma(splat(x4[at]), tap, a4)
        a5 = fma(splat(x5[at]), tap, a5)
        a6 = fma(splat(x6[at]), tap, a6)
        a7 = fma(splat(x7[at]), tap, a7)
    return a0, a1, a2, a3, a4, a5, a6, a7


@jit_part
def _write_panels(image, windows, pixels, taps, panels, packed, bias, least, y, step):
    """Write the sums of eight pixels or more for whole panels of filters, pixels `step` floats apart.

    The last eight may have been among those before. Inlined, dozens of pointers would be kept up to date on the stack:
    that took a sixth of the time of 27 taps, a third of that of nine.
    """
    offsets, taps = taps
    for number in range(0, pixels, ROWS):
        p = min(number, pixels - ROWS)
        eight, out = pixels_at(image, windows, p), shifted(y, p * step)
        for panel in range(panels):
            w = shifted(packed, panel * taps * LANES)
            a0, a1, a2, a3, a4, a5, a6, a7 = sums(eight, offsets, taps, w, load(bias, panel * LANES))
            to = shifted(out, panel * LANES)
            store(to, 0, maximum(least, a0))
            store(to, step, maximum(least, a1))
            store(to, 2 * step, maximum(least, a2))
            store(to, 3 * step, maximum(least, a3))
            store(to, 4 * step, maximum(least, a4))
            store(to, 5 * step, maximum(least, a5))
            store(to, 6 * step, maximum(least, a6))
            store(to, 7 * step, maximum(least, a7))


@jit_part
def _write_lanes(image, windows, pixels, taps, lanes, packed, bias, least, y, step, spare):
    """As `_write_panels`, but the first `lanes` of one panel, and of any number of pixels, by way of `spare`."""
    where, eight, one, side = first_lanes(lanes), np.intp(ROWS), np.intp(1), np.intp(LANES)
    for p in range(0, pixels, ROWS):
        _write_panels(image, shifted(windows, p), eight, taps, one, packed, bias, least, spare, side)
        for k in range(min(ROWS, pixels - p)):
            store_where(y, (p + k) * step, load(spare, k * LANES), where)


@parallel_jit
def convolve(x, kept, frame, packed, offsets, bias, floor, windows, scratch, y):
    """Fill `y` (N, OH, OW, F) with the sums of `x` (N, H, W, C), each image put into its frame, times `packed`.

    Where `kept` is not empty, pixels count only where it is above zero. `packed` (vectors, taps, LANES) are the
    filters in panels, `offsets` where in its window each tap is; `bias` is one number for each lane; `windows` where in
    the workspace each output pixel's window begins, filled up to a multiple of ROWS. No result is less than `floor`.
    """
    samples, height, width, channels = x.shape
    count = y.shape[3]
    pixels = y.shape[1] * y.shape[2]
    panels, taps, _ = packed.shape
    chunks = scratch.shape[0]
    least = splat(floor)
    masked = kept.size > 0
    block = max(1, _PANELS_FLOATS // (taps * LANES))
    at, listed = address(windows), (address(offsets), taps)
    for chunk_index in prange(chunks):
        chunk = np.intp(chunk_index)
        spare = shifted(address(scratch), chunk * scratch.shape[1])
        work = shifted(spare, ROWS * LANES)
        for n in range(samples * chunk // chunks, samples * (chunk + 1) // chunks):
            image = shifted(address(x), n * height * width * channels)
            if masked:
                mask = shifted(address(kept), n * height * width * channels)
                _place_kept(image, mask, height, width, channels, frame, work)
                image = work
            elif not fills(frame, height, width):
                place(image, height, width, channels, frame, work)
                image = work
            out = shifted(address(y), n * pixels * count)
            for first in range(0, panels, block):
                last = min(first + block, panels)
                whole = max(first, min(last, count // LANES if pixels >= ROWS else 0))
                w, start = shifted(address(packed), first * taps * LANES), shifted(address(bias), first * LANES)
                to = shifted(out, first * LANES)
                if whole > first:
                    _write_panels(image, at, pixels, listed, whole - first, w, start, least, to, count)
                for panel in range(whole, last):
                    w, start = shifted(address(packed), panel * taps * LANES), shifted(address(bias), panel * LANES)
                    lanes, to = min(LANES, count - panel * LANES), shifted(out, panel * LANES)
                    _write_lanes(image, at, pixels, listed, lanes, w, start, least, to, count, spare)


@jit_inline
def _larger(a, b):
    """The greater of each pair of lanes; NaN where either is."""
    return select(equal(a, a), maximum(a, b), a)


@jit_part
def _put_any(a0, a1, a2, a3, least, lanes, y, to, winners, to_winner, edge):
    """As `put_pooled`, for numbers and NaN: that is the maximum wherever it is."""
    top, floor = _larger(_larger(a0, a1), _larger(a2, a3)), least - least
    not_first, not_third = ~equal(a0, top), ~equal(a2, top)
    stopped = equal(floor, floor) & ~above(top, floor)
    store_winners(winners, to_winner, not_first, not_third, not_first & ~equal(a1, top), stopped)
    put(maximum(least, top), lanes, y, to, edge)


@jit_inline
def put_pooled(a0, a1, a2, a3, least, lanes, y, to, winners, to_winner, edge):
    """Write the greatest of four vectors, at least `least`, and which of them it is, the first of equals.

    `least` is zero or minus infinity. If it is zero, STOPPED is written for maxima that are not above it.
    """
    total = (a0 + a1) + (a2 + a3)
    if count_lanes(~equal(total, total)) > 0:  # NaN, or infinities that add up to it
        _put_any(a0, a1, a2, a3, least, lanes, y, to, winners, to_winner, edge)
    else:
        upper, lower = maximum(a0, a1), maximum(a2, a3)
        top = maximum(least, maximum(upper, lower))
        stopped = equal(top, least - least)  # that is zero, or NaN
        store_winners(winners, to_winner, above(a1, a0), above(a3, a2), above(lower, upper), stopped)
        put(top, lanes, y, to, edge)


@jit_inline
def _add_group(target, o0, o1, o2, a0, a1, a2):
    """Add three vectors to one window; all are read before one is written, as `grouped_filters` wants it."""
    t0, t1, t2 = load(target, o0) + a0, load(target, o1) + a1, load(target, o2) + a2
    store(target, o0, t0)
    store(target, o1, t1)
    store(target, o2, t2)


@parallel_jit
def add_windows(grad_y, kept, frame, grouped, offsets, windows, scratch, grad_x):
    """Fill `grad_x` (N, H, W, C): add each pixel of `grad_y` times the filters to the pixel's window.

    `grouped` and `offsets` are from `grouped_filters`, with groups of WINDOW_GROUP. Where `kept` is not empty,
    gradients count only where it is above zero.
    """
    samples, height, width, channels = grad_x.shape
    groups, count, _ = grouped.shape
    pixels = grad_y.shape[1] * grad_y.shape[2]
    row = frame[1] * channels
    work_size = frame[0] * row
    zero = splat(np.float32(0))
    masked = kept.size > 0
    chunks = scratch.shape[0]
    for chunk_index in prange(chunks):
        chunk = np.intp(chunk_index)
        work = shifted(address(scratch), chunk * scratch.shape[1])
        copy = shifted(work, scratch.shape[1] - (pixels * count + LANES - 1) // LANES * LANES if masked else 0)
        for n in range(samples * chunk // chunks, samples * (chunk + 1) // chunks):
            for k in range(work_size):
                work[k] = np.float32(0)
            grad = shifted(address(grad_y), n * pixels * count)
            if masked:
                mask = shifted(address(kept), n * pixels * count)
                for k in range(pixels * count):
                    copy[k] = grad[k] if mask[k] > 0 else np.float32(0)
                grad = copy
            for p in range(0, pixels, 4):
                left = min(4, pixels - p)
                g0, g1 = shifted(grad, p * count), shifted(grad, (p + min(1, left - 1)) * count)
                g2, g3 = shifted(grad, (p + min(2, left - 1)) * count), shifted(grad, (p + min(3, left - 1)) * count)
                for group in range(groups):
                    o0, o1, o2 = offsets[3 * group], offsets[3 * group + 1], offsets[3 * group + 2]
                    w = shifted(address(grouped), group * count * 3 * LANES)
                    a0, a1, a2, b0, b1, b2 = zero, zero, zero, zero, zero, zero
                    c0, c1, c2, d0, d1, d2 = zero, zero, zero, zero, zero, zero
                    for f in range(count):
                        w0, w1 = load(w, 3 * f * LANES), load(w, (3 * f + 1) * LANES)
                        w2 = load(w, (3 * f + 2) * LANES)
                        value = splat(g0[f])
                        a0, a1, a2 = fma(value, w0, a0), fma(value, w1, a1), fma(value, w2, a2)
                        value = splat(g1[f])
                        b0, b1, b2 = fma(value, w0, b0), fma(value, w1, b1), fma(value, w2, b2)
                        value = splat(g2[f])
                        c0, c1, c2 = fma(value, w0, c0), fma(value, w1, c1), fma(value, w2, c2)
                        value = splat(g3[f])
                        d0, d1, d2 = fma(value, w0, d0), fma(value, w1, d1), fma(value, w2, d2)
                    _add_group(shifted(work, windows[p]), o0, o1, o2, a0, a1, a2)
                    if left > 1:
                        _add_group(shifted(work, windows[p + 1]), o0, o1, o2, b0, b1, b2)
                    if left > 2:
                        _add_group(shifted(work, windows[p + 2]), o0, o1, o2, c0, c1, c2)
                    if left > 3:
                        _add_group(shifted(work, windows[p + 3]), o0, o1, o2, d0, d1, d2)
            take_out(work, height, width, channels, frame, shifted(address(grad_x), n * height * width * channels))
