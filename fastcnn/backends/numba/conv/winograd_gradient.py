"""The gradient of 3x3 filters by Winograd's F(3x3, 2x2): 16 multiplications for 36, as in `winograd`.

A tile's 2x2 gradients and its 4x4 pixels are transformed to 16 positions and multiplied there. At each position
that is, over all tiles, a product of two matrices, (C, tiles) with (tiles, F); their sums become the nine taps.
The plain version is `direct_gradient`. On random numbers the root mean square error is 0.7 to 1.7 of that one's, the
greatest error 0.7 to 1.4.

Tasks share the work by chunks of tiles, and by rows of positions and panels of filters where the sums are many: those
tasks need no sums of their own. The shapes alone decide, so that the result does not depend on the threads.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, get_thread_id, prange  # type: ignore[attr-defined]

from fastcnn.backends.numba.conv.kernels import put
from fastcnn.backends.numba.conv.winograd_tiles import Corner, copy_pixels, next_tile, tile_at
from fastcnn.backends.numba.jit import jit_inline, jit_part, parallel_jit
from fastcnn.backends.numba.packing import ROWS, FloatArray, Workspace, aligned_empty, padded_width
from fastcnn.backends.numba.simd import LANES, address, fma, load, shifted, splat, store

#: Positions of a tile, and of one row of it.
_POSITIONS, _ROW = 16, 4

#: Tiles that are transformed and multiplied together.
_TILES = 64

#: Floats from one panel of transformed gradients to the next: one vector more than its tiles have, since the caches
#: have few places for what is a power of two apart.
_PANEL = (_TILES + 1) * LANES

#: Floats of sums, at all positions, from which on the rows of positions are tasks of their own.
_SUMS_FLOATS = 1 << 16

#: Panels of filters of one task, at most.
_PANELS = 8


def filter_gradient(
    grad_y: FloatArray, kept: FloatArray, x: FloatArray, corner: Corner, workspace: Workspace
) -> tuple[FloatArray, FloatArray]:
    """Return the gradients for the filters (3, 3, C, F) and the bias (F,).

    Args:
        grad_y: gradient for the convolution's output (N, OH, OW, F).
        kept: where this is not empty, gradients count only where it is above zero.
        x: images (N, H, W, C).
        corner: the row and column of the image at which the first window begins.
        workspace: what the transforms and sums are kept in.
    """
    samples, height, width, count = grad_y.shape
    channels, panels = x.shape[3], padded_width(count) // LANES
    taps = -(-channels // ROWS) * ROWS
    tiles = samples * (-(-height // 2) * -(-width // 2))
    few = _POSITIONS * panels * taps * LANES <= _SUMS_FLOATS
    rows, parts = (1, 1) if few else (_ROW, -(-panels // _PANELS))
    chunks = max(1, min(16 // (rows * parts), tiles // _TILES))
    sums = workspace.array("sums", (chunks, _POSITIONS, panels, taps, LANES), zeros=False)
    bias = workspace.array("bias_sums", (chunks, panels * LANES), zeros=False)
    steps = (_TILES * padded_width(channels) + LANES, -(-panels // parts) * _PANEL + LANES)
    window = max(16 * padded_width(channels), 4 * panels * LANES)  # of 4x4 pixels or of 2x2 gradients
    size = _ROW * sum(steps) + window
    scratch = workspace.array("tiles", (get_num_threads(), size), zeros=False)
    _add_tiles(grad_y, kept, x, corner, (chunks, rows, parts), steps, scratch, sums, bias)
    grad_filters, grad_bias = aligned_empty((3, 3, channels, count)), aligned_empty((count,))
    edges = workspace.array("edges", (panels, LANES), zeros=False)
    add_up(sums, bias, edges, grad_filters.reshape(9, channels, count), grad_bias)
    return grad_filters, grad_bias


@jit_inline
def _rows_of(i):
    """The two rows of pixels that make row `i` of the positions."""
    return (0 if i == 0 else 2 if i == 2 else 1), (1 if i == 2 else 3 if i == 3 else 2)


@jit_inline
def _transform_row(i, window, row, pixel, length, step, to):
    """Write row `i` of the positions of a window of 4x4 pixels, `length` floats each."""
    first, second = _rows_of(i)
    sign = splat(np.float32(1 if i == 1 else -1))
    for k in range(0, length, LANES):
        a, b = shifted(window, first * row + k), shifted(window, second * row + k)
        d0, d1 = fma(load(b, 0), sign, load(a, 0)), fma(load(b, pixel), sign, load(a, pixel))
        d2 = fma(load(b, 2 * pixel), sign, load(a, 2 * pixel))
        d3 = fma(load(b, 3 * pixel), sign, load(a, 3 * pixel))
        store(to, k, d0 - d2)
        store(to, step + k, d1 + d2)
        store(to, 2 * step + k, d2 - d1)
        store(to, 3 * step + k, d1 - d3)


@jit_inline
def _spread_row(i, grad, row, pixel, panels, step, to):
    """Write row `i` of the positions of 2x2 gradients; one panel of filters is _PANEL floats behind the other."""
    upper, lower = splat(np.float32(0 if i == 3 else 1)), splat(np.float32(0 if i == 0 else 1 if i == 1 else -1))
    zero = splat(np.float32(0))
    for v in range(panels):
        e = shifted(grad, v * LANES)
        d0 = fma(load(e, row), lower, load(e, 0) * upper)
        d1 = fma(load(e, row + pixel), lower, load(e, pixel) * upper)
        end = shifted(to, v * _PANEL)
        store(end, 0, d0)
        store(end, step, d0 + d1)
        store(end, 2 * step, d0 - d1)
        store(end, 3 * step, zero - d1)


@jit_part
def _multiply(images, length, grads, tiles, taps, fresh, sums):
    """Add the products of all pixels' channels, eight at a time, and one vector of gradients over the tiles."""
    zero = splat(np.float32(0))
    for c in range(0, taps, ROWS):
        w, x = shifted(sums, c * LANES), shifted(images, c)
        a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
        if not fresh:
            a0, a1, a2, a3 = load(w, 0), load(w, LANES), load(w, 2 * LANES), load(w, 3 * LANES)
            a4, a5, a6, a7 = load(w, 4 * LANES), load(w, 5 * LANES), load(w, 6 * LANES), load(w, 7 * LANES)
        for t in range(tiles):
            value, at = load(grads, t * LANES), shifted(x, t * length)
            a0, a1 = fma(splat(at[0]), value, a0), fma(splat(at[1]), value, a1)
            a2, a3 = fma(splat(at[2]), value, a2), fma(splat(at[3]), value, a3)
            a4, a5 = fma(splat(at[4]), value, a4), fma(splat(at[5]), value, a5)
            a6, a7 = fma(splat(at[6]), value, a6), fma(splat(at[7]), value, a7)
        store(w, 0, a0)
        store(w, LANES, a1)
        store(w, 2 * LANES, a2)
        store(w, 3 * LANES, a3)
        store(w, 4 * LANES, a4)
        store(w, 5 * LANES, a5)
        store(w, 6 * LANES, a6)
        store(w, 7 * LANES, a7)


@jit_part
def _images_row(i, x, shape, corner, grid, first, last, window, step, to):
    """Transform row `i` of the positions of tiles number `first` to `last` of the images."""
    samples, height, width, channels = shape
    rows, columns = grid
    length = (channels + LANES - 1) // LANES * LANES
    size = height * width * channels
    n, down, right = tile_at(first, rows, columns)
    for t in range(first, last):
        y, z = 2 * down + corner[0], 2 * right + corner[1]
        at = n * size + (y * width + z) * channels
        end = shifted(to, (t - first) * length)
        # The last vector of the last pixel must not reach beyond the images.
        whole = at + (3 * width + 3) * channels + length <= samples * size
        at_window, row, pixel = shifted(x, at), width * channels, channels
        if y < 0 or z < 0 or y + 4 > height or z + 4 > width or not whole:
            image = shifted(x, n * size)
            for r in _rows_of(i):
                to_row = shifted(window, 4 * r * length)
                copy_pixels(image, image, False, (height, width, channels), y + r, z, 4, length, to_row)
            at_window, row, pixel = window, 4 * length, length
        _transform_row(i, at_window, row, pixel, length, step, end)
        n, down, right = next_tile(n, down, right, rows, columns)


@jit_part
def _gradients_row(i, grad, mask, masked, shape, grid, first, last, part, window, step, to):
    """Transform row `i` of the positions of tiles number `first` to `last`, for some panels of filters."""
    samples, height, width, count = shape
    rows, columns = grid
    panel, panels = part
    length = (count + LANES - 1) // LANES * LANES
    size = height * width * count
    n, down, right = tile_at(first, rows, columns)
    for t in range(first, last):
        top, left = 2 * down, 2 * right
        at = n * size + (top * width + left) * count
        end = shifted(to, (t - first) * LANES)
        at_window, row, pixel = shifted(grad, at), width * count, count
        if masked or top + 2 > height or left + 2 > width or at + (width + 1) * count + length > samples * size:
            image, kept = shifted(grad, n * size), shifted(mask, n * size)
            for r in range(2):
                to_row = shifted(window, 2 * r * length)
                copy_pixels(image, kept, masked, (height, width, count), top + r, left, 2, length, to_row)
            at_window, row, pixel = window, 2 * length, length
        _spread_row(i, shifted(at_window, panel * LANES), row, pixel, panels, step, end)
        n, down, right = next_tile(n, down, right, rows, columns)


@parallel_jit
def _add_tiles(grad_y, kept, x, corner, split, steps, scratch, sums, bias):
    """Fill `sums` (chunks, 16, panels, C, LANES) and `bias` (chunks, F) with what each chunk of tiles gives."""
    samples, out_height, out_width, _ = grad_y.shape
    channels = x.shape[3]
    chunks, row_parts, panel_parts = split
    image_step, grad_step = steps
    _, _, panels, taps, _ = sums.shape
    length = (channels + LANES - 1) // LANES * LANES
    grid = ((out_height + 1) // 2, (out_width + 1) // 2)
    tiles = samples * grid[0] * grid[1]
    for task_index in prange(chunks * row_parts * panel_parts):
        task = np.intp(task_index)
        chunk, row_part = task // (row_parts * panel_parts), task // panel_parts % row_parts
        part = task % panel_parts
        panel, last_panel = panels * part // panel_parts, panels * (part + 1) // panel_parts
        images = shifted(address(scratch), get_thread_id() * scratch.shape[1])
        grads = shifted(images, _ROW * image_step)
        window = shifted(grads, _ROW * grad_step)
        grad_b = shifted(address(bias), chunk * panels * LANES)
        begin, end = tiles * chunk // chunks, tiles * (chunk + 1) // chunks
        for first in range(begin, end, _TILES):
            last = min(first + _TILES, end)
            for i in range(_ROW * row_part // row_parts, _ROW * (row_part + 1) // row_parts):
                _images_row(i, address(x), x.shape, corner, grid, first, last, window, image_step, images)
                _gradients_row(
                    i,
                    address(grad_y),
                    address(kept),
                    kept.size > 0,
                    grad_y.shape,
                    grid,
                    first,
                    last,
                    (panel, last_panel - panel),
                    window,
                    grad_step,
                    grads,
                )
                for j in range(_ROW):
                    for v in range(panel, last_panel):
                        _multiply(
                            shifted(images, j * image_step),
                            length,
                            shifted(grads, j * grad_step + (v - panel) * _PANEL),
                            last - first,
                            taps,
                            first == begin,
                            shifted(address(sums), (((chunk * _POSITIONS + _ROW * i + j) * panels) + v) * taps * LANES),
                        )
                if i == 1:  # position (1, 1) is the sum of all four gradients of a tile
                    for v in range(panel, last_panel):
                        total = splat(np.float32(0)) if first == begin else load(grad_b, v * LANES)
                        for t in range(last - first):
                            total = total + load(grads, grad_step + (v - panel) * _PANEL + t * LANES)
                        store(grad_b, v * LANES, total)


@jit_inline
def _taps(m0, m1, m2, m3):
    half = splat(np.float32(0.5))
    even, odd = half * (m1 + m2), half * (m1 - m2)
    return m0 + even, odd, even + m3


@jit_inline
def _total(sums, at, step, chunks):
    total = load(sums, at)
    for chunk in range(1, chunks):
        total = total + load(sums, chunk * step + at)
    return total


@parallel_jit
def add_up(sums, bias, edges, grad_filters, grad_bias):
    """Add the chunks' sums in order, and transform them to the taps (9, C, F)."""
    chunks, _, panels, taps, _ = sums.shape
    _, channels, count = grad_filters.shape
    step, chunk_step = panels * taps * LANES, _POSITIONS * panels * taps * LANES
    for panel_index in prange(panels):
        panel = np.intp(panel_index)
        edge = shifted(address(edges), panel * LANES)
        lanes = count - panel * LANES
        for c in range(channels):
            at = (panel * taps + c) * LANES
            s = address(sums)
            a0, a1, a2 = _taps(
                _total(s, at, chunk_step, chunks),
                _total(s, at + 4 * step, chunk_step, chunks),
                _total(s, at + 8 * step, chunk_step, chunks),
                _total(s, at + 12 * step, chunk_step, chunks),
            )
            b0, b1, b2 = _taps(
                _total(s, at + step, chunk_step, chunks),
                _total(s, at + 5 * step, chunk_step, chunks),
                _total(s, at + 9 * step, chunk_step, chunks),
                _total(s, at + 13 * step, chunk_step, chunks),
            )
            c0, c1, c2 = _taps(
                _total(s, at + 2 * step, chunk_step, chunks),
                _total(s, at + 6 * step, chunk_step, chunks),
                _total(s, at + 10 * step, chunk_step, chunks),
                _total(s, at + 14 * step, chunk_step, chunks),
            )
            d0, d1, d2 = _taps(
                _total(s, at + 3 * step, chunk_step, chunks),
                _total(s, at + 7 * step, chunk_step, chunks),
                _total(s, at + 11 * step, chunk_step, chunks),
                _total(s, at + 15 * step, chunk_step, chunks),
            )
            to = shifted(address(grad_filters), c * count + panel * LANES)
            tap = channels * count
            a0, b0, c0 = _taps(a0, b0, c0, d0)
            a1, b1, c1 = _taps(a1, b1, c1, d1)
            a2, b2, c2 = _taps(a2, b2, c2, d2)
            put(a0, lanes, to, 0, edge)
            put(b0, lanes, to, tap, edge)
            put(c0, lanes, to, 2 * tap, edge)
            put(a1, lanes, to, 3 * tap, edge)
            put(b1, lanes, to, 4 * tap, edge)
            put(c1, lanes, to, 5 * tap, edge)
            put(a2, lanes, to, 6 * tap, edge)
            put(b2, lanes, to, 7 * tap, edge)
            put(c2, lanes, to, 8 * tap, edge)
        total = _total(address(bias), panel * LANES, panels * LANES, chunks)
        put(total, lanes, address(grad_bias), panel * LANES, edge)
