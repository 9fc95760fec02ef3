"""The gradient of 3x3 filters of few channels by Winograd's F(3x3, 2x2), one channel after the other.

As in `winograd_gradient`, a tile's 2x2 gradients and its 4x4 pixels become sixteen sums and differences each, and those
are multiplied: 16 multiplications for 36. But there the channels of a pixel fill vectors; here vectors are filters
only, sixteen sums of one channel and a vector of filters stay in registers while tiles go by, and the gradients are
transformed on the way: on many processors additions do not wait for multiplications. The plain version is
`direct_gradient`, which takes 1.35 times as long for 28x28 pixels of three channels and 32 filters on Zen 4.

Images are transformed as whole rows, like a tile so long, at every pixel instead of every other one: that takes no
rearranging. Where a gradient's sum has the other sign than in `winograd_gradient`, its product is subtracted.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, get_thread_id, prange  # type: ignore[attr-defined]

from fastcnn.backends.numba.conv.direct_gradient import MANY, Frame, pack
from fastcnn.backends.numba.conv.kernels import place
from fastcnn.backends.numba.conv.winograd import store_four, transform_tile
from fastcnn.backends.numba.conv.winograd_gradient import add_up
from fastcnn.backends.numba.jit import jit_inline, jit_part, parallel_jit
from fastcnn.backends.numba.packing import FloatArray, Workspace, aligned_empty, padded_width
from fastcnn.backends.numba.simd import LANES, address, fma, fnma, load, prefetch_second, shifted, splat, store

#: Floats from one position of a row of tiles to the next: so many, and those of a vector, may a row of pixels have.
#: A number that the compiler knows spares a pointer for each position.
_STEP = 256 + LANES

#: Channels, at most: the transformed rows of more leave the first-level cache. For eight, this takes 1.4 times as long.
_CHANNELS = 4

#: Positions of a tile.
_POSITIONS = 16

#: Rows of tiles that are transformed and multiplied together: they and their gradients stay in the first-level cache.
_TILE_ROWS = 2

#: Chunks of samples with sums of their own, at most.
_CHUNKS = 32


def pays(kernel: tuple[int, ...], output: tuple[int, ...]) -> bool:
    """Whether this is the quicker way for filters (height, width, C, F) and gradients (N, OH, OW, F)."""
    samples, height, width, _ = output
    return (
        MANY
        and kernel[:2] == (3, 3)
        and kernel[2] <= _CHANNELS
        and height % 2 == 0
        and width % 2 == 0
        and samples * height * width >= 512
        and (width + 2) * kernel[2] <= _STEP - LANES
    )


def filter_gradient(
    grad_y: FloatArray, kept: FloatArray, x: FloatArray, frame: Frame, workspace: Workspace
) -> tuple[FloatArray, FloatArray]:
    """Return the gradients for the filters (3, 3, C, F) and the bias (F,).

    Args:
        grad_y: gradient for the convolution's output (N, OH, OW, F); OH and OW are even.
        kept: where this is not empty, gradients count only where it is above zero.
        x: images (N, H, W, C).
        frame: where the images lie in their margin.
        workspace: what the transforms and sums are kept in.
    """
    samples, _, width, count = grad_y.shape
    channels, panels = x.shape[3], padded_width(count) // LANES
    chunks = min(samples, _CHUNKS)
    sums = workspace.array("sums", (chunks, _POSITIONS, panels, channels, LANES), zeros=False)
    bias = workspace.array("bias_sums", (chunks, panels * LANES), zeros=False)
    image = padded_width(frame[0] * frame[1] * channels + 3 * channels + LANES)
    size = image + _STEP * _POSITIONS * _TILE_ROWS + 2 * _TILE_ROWS * width * LANES
    scratch = workspace.array("rows", (get_num_threads(), size))
    _add_rows(grad_y, kept, x, frame, image, scratch, sums, bias)
    grad_filters, grad_bias = aligned_empty((3, 3, channels, count)), aligned_empty((count,))
    edges = workspace.array("edges", (panels, LANES), zeros=False)
    add_up(sums, bias, edges, grad_filters.reshape(9, channels, count), grad_bias)
    return grad_filters, grad_bias


@jit_inline
def _load_four(at, step):
    return load(at, 0), load(at, step), load(at, 2 * step), load(at, 3 * step)


@jit_part
def _add_tiles(tiles, size, pixel, gradients, asking, fresh, w, apart, bias, sums_bias):
    """Add the products of tiles' pixels of one channel and a vector of gradients; or write them, if `fresh`.

    Args:
        tiles: the first tile's transformed pixels; those of the next are `pixel` floats further on.
        size: rows of tiles, and tiles in a row.
        gradients: where they are, and floats from one pixel to the next.
        asking: how many floats further on the next image's gradients are, the first tile that asks for its own there,
            counted from 1, and how many further on the next one that does.
        w: the sums, `apart` floats from one position to the next.
        bias: where the sum of the gradients is, which is added to if `sums_bias`.
    """
    (grad, step), (far, left, every) = gradients, asking
    zero = splat(np.float32(0))
    a0, a1, a2, a3, b0, b1, b2, b3 = zero, zero, zero, zero, zero, zero, zero, zero
    c0, c1, c2, c3, d0, d1, d2, d3, total = zero, zero, zero, zero, zero, zero, zero, zero, zero
    wb, wc, wd = shifted(w, 4 * apart), shifted(w, 8 * apart), shifted(w, 12 * apart)
    if not fresh:
        a0, a1, a2, a3 = _load_four(w, apart)
        b0, b1, b2, b3 = _load_four(wb, apart)
        c0, c1, c2, c3 = _load_four(wc, apart)
        d0, d1, d2, d3 = _load_four(wd, apart)
        total = load(bias, 0)
    rows, columns = size
    for i in range(rows):
        x = shifted(tiles, i * _POSITIONS * _STEP)
        upper = shifted(grad, 4 * i * columns * step)
        lower, at, g, end = shifted(upper, 2 * columns * step), np.intp(0), np.intp(0), 2 * columns * step
        while g != end:
            left -= 1
            if left == 0:
                left = every
                prefetch_second(upper, g + far)
                prefetch_second(upper, g + far + step)
                prefetch_second(lower, g + far)
                prefetch_second(lower, g + far + step)
            p, q, r, s = load(upper, g), load(upper, g + step), load(lower, g), load(lower, g + step)
            a0, a1 = fma(splat(x[at]), p, a0), fma(splat(x[at + _STEP]), p + q, a1)
            a2, a3 = fma(splat(x[at + 2 * _STEP]), p - q, a2), fnma(splat(x[at + 3 * _STEP]), q, a3)
            d0, d1 = fnma(splat(x[at + 12 * _STEP]), r, d0), fnma(splat(x[at + 13 * _STEP]), r + s, d1)
            d2, d3 = fnma(splat(x[at + 14 * _STEP]), r - s, d2), fma(splat(x[at + 15 * _STEP]), s, d3)
            t, u = p + r, q + s
            b0, b1 = fma(splat(x[at + 4 * _STEP]), t, b0), fma(splat(x[at + 5 * _STEP]), t + u, b1)
            b2, b3 = fma(splat(x[at + 6 * _STEP]), t - u, b2), fnma(splat(x[at + 7 * _STEP]), u, b3)
            total = total + (t + u)
            t, u = p - r, q - s
            c0, c1 = fma(splat(x[at + 8 * _STEP]), t, c0), fma(splat(x[at + 9 * _STEP]), t + u, c1)
            c2, c3 = fma(splat(x[at + 10 * _STEP]), t - u, c2), fnma(splat(x[at + 11 * _STEP]), u, c3)
            at += pixel
            g += 2 * step
    store_four(w, apart, a0, a1, a2, a3)
    store_four(wb, apart, b0, b1, b2, b3)
    store_four(wc, apart, c0, c1, c2, c3)
    store_four(wd, apart, d0, d1, d2, d3)
    if sums_bias:
        store(bias, 0, total)


@parallel_jit
def _add_rows(grad_y, kept, x, frame, room_for_image, scratch, sums, bias):
    """Fill `sums` (chunks, 16, panels, C, LANES) and `bias` (chunks, F) with what each chunk of samples gives."""
    samples, out_height, out_width, count = grad_y.shape
    _, height, width, channels = x.shape
    chunks, _, panels, _, _ = sums.shape
    masked = kept.size > 0
    packs = masked or count % LANES != 0
    row, apart, columns = frame[1] * channels, panels * channels * LANES, out_width // 2
    far = out_height * out_width * count
    for chunk_index in prange(chunks):
        chunk = np.intp(chunk_index)
        image = shifted(address(scratch), get_thread_id() * scratch.shape[1])
        tiles = shifted(image, room_for_image)
        packed = shifted(tiles, _TILE_ROWS * _POSITIONS * _STEP)
        begin = samples * chunk // chunks
        for n in range(begin, samples * (chunk + 1) // chunks):
            place(shifted(address(x), n * height * width * channels), height, width, channels, frame, image)
            for top in range(0, out_height // 2, _TILE_ROWS):
                rows = min(_TILE_ROWS, out_height // 2 - top)
                for i in range(rows):
                    to = shifted(tiles, i * _POSITIONS * _STEP)
                    transform_tile(shifted(image, 2 * (top + i) * row), row, channels, row, np.intp(_STEP), to)
                pixels = 2 * rows * out_width
                first = (n * out_height + 2 * top) * out_width * count
                fresh = n == begin and top == 0
                size = (rows, columns)
                for v in range(panels):
                    gradients, first_asks = (shifted(address(grad_y), first + v * LANES), count), 1
                    if packs:
                        mask = shifted(address(kept), first + v * LANES if masked else 0)
                        pack(gradients[0], mask, masked, count, count - v * LANES, pixels, packed)
                        gradients, first_asks = (packed, np.intp(LANES)), 0  # none does
                    grad_b = shifted(address(bias), (chunk * panels + v) * LANES)
                    for c in range(channels):
                        w = shifted(address(sums), ((chunk * _POSITIONS * panels + v) * channels + c) * LANES)
                        asking = (far, (c + 1) * first_asks, channels)
                        of_channel, is_first = shifted(tiles, c), c == 0
                        _add_tiles(of_channel, size, 2 * channels, gradients, asking, fresh, w, apart, grad_b, is_first)
