"""Convolution, ReLU where wanted, and 2x2 max-pooling for any filters: the plain way, nothing transformed.

Eight pixels, which are two pooling windows, times a vector of filters stay in registers while the taps go by, as in
`kernels.convolve`; the four pixels of a window leave the registers as one maximum. Filters that fill half of the
last vector or less (8 of 24 where a vector is 16) are multiplied as halves, beside the whole vector before them: a
256-bit multiplication takes half of the time of one of 512 bits on processors that run those in two steps. For 5x5x1
to 24 filters that takes 0.82 of the time on Zen 4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core.typing.templates import signature
from numba.extending import intrinsic, models, register_model

from fastcnn.backends.numba.conv.flat_windows import list_windows, lists_at, looks
from fastcnn.backends.numba.conv.kernels import ask_for_share, fills, place, put_pooled, sums
from fastcnn.backends.numba.conv.pooled_vectors import copy_half
from fastcnn.backends.numba.jit import jit_inline, jit_part, parallel_jit
from fastcnn.backends.numba.simd import (
    FLOATS,
    INT_VECTOR,
    LANES,
    address,
    at_index,
    first_lanes,
    fma,
    load,
    load_where,
    multiply_add,
    shifted,
    splat,
    splat_to,
    store_bytes,
    store_where,
    vector,
)

#: Floats of half a vector.
HALF = LANES // 2

_HALF_VECTOR = ir.VectorType(ir.FloatType(), HALF)


class _HalfType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"Float32x{HALF}")


half = _HalfType()


@register_model(_HalfType)
class _HalfModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _HALF_VECTOR)


@intrinsic
def _load_half(typingctx: Any, pointer: Any, index: Any) -> Any:
    """HALF floats from element `index` on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(at_index(builder, args[0], args[1], _HALF_VECTOR), align=4)

    return signature(half, FLOATS, types.intp), codegen


@intrinsic
def _fma_half(typingctx: Any, value: Any, factors: Any, total: Any) -> Any:
    """``value * factors + total``, of one number and two halves."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return multiply_add(builder, splat_to(builder, args[0], HALF), args[1], args[2])

    return signature(half, types.float32, half, half), codegen


@intrinsic
def _join(typingctx: Any, low: Any, high: Any) -> Any:
    """The vector of two halves."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.shuffle_vector(*args, ir.Constant(INT_VECTOR, list(range(LANES))))

    return signature(vector, half, half), codegen


@jit_inline
def _sums_with_half(pixels, offsets, taps, w, next_w, start, next_start):
    """As `sums`, and those of half a vector of filters behind: pixels 0 to 3 in low halves, 4 to 7 in high ones."""
    x0, x1, x2, x3, x4, x5, x6, x7 = pixels
    a0, a1, a2, a3, a4, a5, a6, a7 = start, start, start, start, start, start, start, start
    h0, h1, h2, h3 = next_start, next_start, next_start, next_start
    h4, h5, h6, h7 = next_start, next_start, next_start, next_start
    for t in range(taps):
        at, tap, next_tap = offsets[t], load(w, t * LANES), _load_half(next_w, t * LANES)
        v0, v1, v2, v3, v4, v5, v6, v7 = x0[at], x1[at], x2[at], x3[at], x4[at], x5[at], x6[at], x7[at]
        a0, a1, a2, a3 = (
            fma(splat(v0), tap, a0),
            fma(splat(v1), tap, a1),
            fma(splat(v2), tap, a2),
            fma(splat(v3), tap, a3),
        )
        a4, a5, a6, a7 = (
            fma(splat(v4), tap, a4),
            fma(splat(v5), tap, a5),
            fma(splat(v6), tap, a6),
            fma(splat(v7), tap, a7),
        )
        h0, h1, h2 = _fma_half(v0, next_tap, h0), _fma_half(v1, next_tap, h1), _fma_half(v2, next_tap, h2)
        h3, h4, h5 = _fma_half(v3, next_tap, h3), _fma_half(v4, next_tap, h4), _fma_half(v5, next_tap, h5)
        h6, h7 = _fma_half(v6, next_tap, h6), _fma_half(v7, next_tap, h7)
    return (a0, a1, a2, a3, a4, a5, a6, a7), (_join(h0, h4), _join(h1, h5), _join(h2, h6), _join(h3, h7))


@jit_inline
def _put_half(maxima, source, lanes, y, to):
    """Write `lanes` maxima, at most half a vector."""
    if lanes == HALF:
        copy_half(y, to, maxima, source)
    else:
        for lane in range(lanes):
            y[to + lane] = maxima[source + lane]


@jit_inline
def _pixels_of(window, channels, row):
    """Where the windows of a pooling window's four pixels begin."""
    below = shifted(window, row)
    return window, shifted(window, channels), below, shifted(below, channels)


@jit_part
def _repeat(flat, flats, count, stride, y, winners):
    """Copy the maxima and winners of the first flat window to the others."""
    for f in range(0, count, LANES):
        here, first = first_lanes(count - f), np.intp(flat[0])
        maxima, won = load_where(y, first * count + f, here), load(winners, first * stride + f)
        for m in range(1, flats):
            p = np.intp(flat[m])
            store_where(y, p * count + f, maxima, here)
            store_bytes(winners, p * stride + f, won)


@parallel_jit
def convolve_pooled(x, frame, packed, bias, floor, starts, offsets, reach, room, scratch, y, winners):
    """Fill `y` (N, PH, PW, F) with the maxima of 2x2 windows of a convolution, none less than `floor`.

    While a core multiplies, it asks for the memory of the next image's maxima and winners.

    Args:
        x: images (N, H, W, C), put into their `frame` one by one.
        packed: the filters as `panels` cuts them, (vectors, taps, LANES); `bias` one number for each lane.
        starts: where in the frame each pooling window begins.
        offsets: where in its window each tap is.
        reach: from `reach_of`.
        scratch: a row for each chunk of samples: a vector, `room` for `list_windows`, and an image in its frame.
        winners: which of the four pixels was the maximum, the first of several, or STOPPED if that is not above a
            `floor` of zero (N, PH, PW, F in whole vectors).
    """
    samples, height, width, channels = x.shape
    pooled, count, stride = y.shape[1:3], y.shape[3], winners.shape[3]
    maxima, row = pooled[0] * pooled[1], frame[1] * channels
    panels, taps, _ = packed.shape
    size = taps * LANES
    rest = count - (panels - 1) * LANES
    halved = rest <= HALF and panels > 1
    least = splat(floor)
    for chunk_index in prange(scratch.shape[0]):
        chunk, chunks = np.intp(chunk_index), scratch.shape[0]
        spare = shifted(address(scratch), chunk * scratch.shape[1])
        lists = shifted(spare, LANES)
        work = shifted(lists, room)
        (chosen, flat), flats = lists_at(lists, maxima), 1
        for n in range(samples * chunk // chunks, samples * (chunk + 1) // chunks):
            image = shifted(address(x), n * height * width * channels)
            first = image
            if not fills(frame, height, width):
                place(image, height, width, channels, frame, work)
                image = work
            looked = looks(reach, flats, n)
            there, flats = list_windows(image, pooled, row, channels, reach, first, looked, lists)
            y_n, won_n = shifted(address(y), n * maxima * count), shifted(address(winners), n * maxima * stride)
            pairs = max(1, (there + 1) // 2)
            share, won_share = maxima * count // pairs + 1, maxima * stride // pairs + 1
            for m in range(0, there, 2):
                both = m + 1 < there
                p = np.intp(chosen[m])
                q = np.intp(chosen[m + 1]) if both else p
                x0, x1, x2, x3 = _pixels_of(shifted(image, starts[p]), channels, row)
                x4, x5, x6, x7 = _pixels_of(shifted(image, starts[q]), channels, row)
                pixels = (x0, x1, x2, x3, x4, x5, x6, x7)
                ask_for_share(y_n, maxima * count, share, m // 2)
                ask_for_share(won_n, maxima * stride, won_share, m // 2)
                for panel in range(panels - 2 if halved else panels):
                    w, start = shifted(address(packed), panel * size), load(address(bias), panel * LANES)
                    a0, a1, a2, a3, b0, b1, b2, b3 = sums(pixels, address(offsets), taps, w, start)
                    out, won = shifted(y_n, panel * LANES), shifted(won_n, panel * LANES)
                    lanes = count - panel * LANES
                    put_pooled(a0, a1, a2, a3, least, lanes, out, p * count, won, p * stride, spare)
                    if both:
                        put_pooled(b0, b1, b2, b3, least, lanes, out, q * count, won, q * stride, spare)
                if halved:
                    at = (panels - 2) * LANES
                    w, next_w = shifted(address(packed), at * taps), shifted(address(packed), at * taps + size)
                    start, next_start = load(address(bias), at), _load_half(address(bias), at + LANES)
                    whole, halves = _sums_with_half(pixels, address(offsets), taps, w, next_w, start, next_start)
                    out, won = shifted(y_n, at), shifted(won_n, at)
                    a0, a1, a2, a3, b0, b1, b2, b3 = whole
                    put_pooled(a0, a1, a2, a3, least, LANES, out, p * count, won, p * stride, spare)
                    if both:
                        put_pooled(b0, b1, b2, b3, least, LANES, out, q * count, won, q * stride, spare)
                    out, won = shifted(out, LANES), shifted(won, LANES)
                    a0, a1, a2, a3 = halves
                    put_pooled(a0, a1, a2, a3, least, LANES, spare, 0, won, p * stride, spare)
                    _put_half(spare, 0, rest, out, p * count)
                    if both:
                        _put_half(spare, HALF, rest, out, q * count)
                        for lane in range(HALF):
                            won[q * stride + lane] = won[p * stride + HALF + lane]
            if flats > 1:
                _repeat(flat, flats, count, stride, y_n, won_n)
