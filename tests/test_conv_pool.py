"""Convolution and pooling in one pass: Winograd's products inside their own rounding bound, and equal maxima."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import winograd_bounds

from fastcnn.backends import im2col
from fastcnn.backends.numba.conv import flat_windows, pooled, pooled_lists, pooled_short
from fastcnn.backends.numba.conv.flat_windows import list_windows
from fastcnn.backends.numba.conv.pooled_vectors import STOPPED
from fastcnn.backends.numba.packing import Workspace
from fastcnn.backends.numba.simd import LANES, address

NONE = ((0, 0), (0, 0))
SHAPES = [
    # images, channels, filters, margin
    ((4, 8, 8), LANES, LANES, NONE),
    ((5, 9, 11), LANES + 1, 2 * LANES + 3, NONE),
    ((5, 12, 12), LANES + LANES // 2, 2 * LANES, NONE),
    ((5, 6, 7), 2 * LANES, LANES, ((1, 1), (1, 1))),
    ((40, 4, 4), LANES + 3, LANES + 1, ((0, 2), (1, 0))),
    ((40, 4, 4), LANES, LANES + 1, NONE),
]


def drawn(size, channels, count):
    """Images as a ReLU leaves them, filters, a bias."""
    rng = np.random.default_rng(channels)
    x = np.maximum(rng.standard_normal((*size, channels)), 0).astype(np.float32)
    return x, rng.standard_normal((3, 3, channels, count)).astype(np.float32), rng.standard_normal(count).astype("f")


def products_bound(x, filters, bias, padding):
    """The greatest rounding bound of each pooling window of Winograd's convolution, (N, OH // 2, OW // 2, F)."""
    rows, columns = ((extent + sum(side) - 2) // 2 for extent, side in zip(x.shape[1:3], padding, strict=True))
    arguments = (part.astype(float) for part in (filters, bias))
    bound = winograd_bounds.pooled(x, np.zeros(x.shape), *arguments, padding, (2 * rows, 2 * columns))
    return bound.reshape(len(x), rows, 2, columns, 2, -1).max(axis=(2, 4))


@pytest.mark.parametrize(("size", "channels", "count", "padding"), SHAPES)
@pytest.mark.parametrize("relu", [True, False])
def test_winograds_maxima_are_within_their_bound(size, channels, count, padding, relu):
    x, filters, bias = drawn(size, channels, count)
    y, winners = pooled.conv_pool_forward(x, filters, bias, padding, relu, Workspace())
    assert pooled.uses_winograd(filters.shape, y.shape)
    exact = im2col.conv2d_forward(x.astype(float), filters.astype(float), bias.astype(float), (1, 1), padding)
    bound = products_bound(x, filters, bias, padding)
    rows, columns = y.shape[1:3]
    windows = exact[:, : 2 * rows, : 2 * columns].reshape(len(x), rows, 2, columns, 2, count)
    windows = windows.transpose(0, 1, 3, 5, 2, 4).reshape(*y.shape, 4)
    top = windows.max(axis=-1)
    assert (np.abs(y - (np.maximum(top, 0) if relu else top)) <= bound).all()
    winners = winners[..., :count]
    np.testing.assert_array_equal(winners == STOPPED, (y == 0) if relu else False)
    won = np.take_along_axis(windows, winners[..., None].astype(int) % STOPPED, axis=-1)[..., 0]
    assert (top - won <= 2 * bound)[winners != STOPPED].all()


@pytest.mark.parametrize(("size", "channels", "count", "padding"), SHAPES)
def test_an_output_that_sees_only_zeros_is_exactly_zero(size, channels, count, padding):
    """So that ReLU stops its gradient, whatever its tile's other pixels are."""
    x, filters, _ = drawn(size, channels, count)
    x *= np.random.default_rng(0).random((*size, 1)) < 0.15
    y, _ = pooled.conv_pool_forward(x, filters, None, padding, False, Workspace())
    exact = im2col.conv2d_forward(x.astype(float), filters.astype(float), None, (1, 1), padding)
    rows, columns = y.shape[1:3]
    windows = exact[:, : 2 * rows, : 2 * columns].reshape(len(x), rows, 2, columns, 2, count)
    top = windows.max(axis=(2, 4))
    partly = (top == 0) & (windows.min(axis=(2, 4)) < 0)
    assert partly.any()
    assert (y[top == 0] == 0).all()


def test_the_bound_can_fail():
    """Results that are rounded to 16 bits do not hold it."""
    x, filters, bias = drawn((4, 8, 8), LANES, LANES)
    y, _ = pooled.conv_pool_forward(x, filters, bias, NONE, False, Workspace())
    rough = np.abs(y - y.astype(np.float16))
    assert (rough > products_bound(x, filters, bias, NONE)).any()


@pytest.mark.parametrize("same", ["everywhere", "along rows", "along columns"])
def test_outputs_that_are_equal_are_found_equal(same):
    """Windows of the same pixels: the first of them wins."""
    x, filters, bias = drawn((3, 12, 12), LANES + 4, LANES)
    if same != "along columns":
        x[:] = x[:, :, :1]
    if same != "along rows":
        x[:] = x[:, :1]
    _, winners = pooled.conv_pool_forward(x, filters, bias, NONE, False, Workspace())
    allowed = {"everywhere": [0], "along rows": [0, 2], "along columns": [0, 1]}[same]
    assert set(np.unique(winners[..., :LANES])) <= set(allowed)


@pytest.mark.parametrize("pixel", [(0, 0), (1, 9), (5, 6), (8, 3), (9, 11), (11, 10)])
@pytest.mark.parametrize("relu", [True, False])
def test_a_pixel_that_is_no_number_is_seen_and_stays_in_its_tiles(pixel, relu):
    """Tiles are two pooling windows high and wide, but for the last of each five."""
    x, filters, bias = drawn((3, 12, 12), LANES + 3, LANES)
    x[1, pixel[0], pixel[1], 2] = np.nan
    y, _ = pooled.conv_pool_forward(x, filters, bias, NONE, relu, Workspace())
    seeing = [{output // 2 for output in range(max(at - 2, 0), min(at, 9) + 1)} for at in pixel]
    tiles = [{window // 2 for window in windows} for windows in seeing]
    for i in range(5):
        for j in range(5):
            if i in seeing[0] and j in seeing[1]:
                assert np.isnan(y[1, i, j]).all()
            elif i // 2 not in tiles[0] or j // 2 not in tiles[1]:
                assert np.isfinite(y[1, i, j]).all()
    assert np.isfinite(y[::2]).all()


def test_threads_dont_change_a_bit():
    x, filters, bias = drawn((33, 12, 12), 2 * LANES, LANES)
    found = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        found.append(pooled.conv_pool_forward(x, filters, bias, NONE, True, Workspace()))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_threads_dont_change_a_bit_of_a_first_layer():
    x = np.repeat(drawings((13, 12), 1, [0.5]), 5, axis=0)
    filters = np.random.default_rng(0).standard_normal((5, 5, 1, LANES + 1)).astype(np.float32)
    found = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        y, winners = pooled.conv_pool_forward(x, filters, None, NONE, True, Workspace())
        grad = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
        gradients = pooled.conv_pool_backward(grad, winners, x, filters, NONE, False, Workspace())
        found.append((y, winners[..., : LANES + 1], *gradients[1:]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("kernel", "channels", "count"),
    [
        ((5, 5), 1, LANES + LANES // 2),
        ((3, 3), 3, LANES + 3),
        ((3, 2), 1, 3),
        ((2, 2), 5, 2 * LANES),
        ((4, 4), 2, LANES - 1),
        ((1, 4), 2, LANES),
        ((7, 7), 1, LANES // 2),
    ],
)
@pytest.mark.parametrize("relu", [True, False])
def test_short_windows_give_the_gradients_that_lists_give(kernel, channels, count, relu):
    """The filters' gradient where the images' is wanted, too, and where it is not: two ways, one sum."""
    rng = np.random.default_rng(count)
    x = rng.standard_normal((37, 13, 12, channels)).astype(np.float32)
    filters = rng.standard_normal((*kernel, channels, count)).astype(np.float32)
    assert pooled_short.is_short(filters.shape) == (channels < 5)
    work = Workspace()
    y, winners = pooled.conv_pool_forward(x, filters, None, ((1, 0), (2, 1)), relu, work)
    grad = rng.standard_normal(y.shape).astype(np.float32)
    both = [
        pooled.conv_pool_backward(grad, winners, x, filters, ((1, 0), (2, 1)), wanted, Workspace())[1:]
        for wanted in (True, False)
    ]
    for one, other in zip(*both, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(one).max())


@pytest.mark.parametrize("count", [3, LANES // 2, LANES + 1, LANES + LANES // 2, 2 * LANES + LANES // 2 + 1, 3 * LANES])
@pytest.mark.parametrize("size", [(5, 5), (8, 11)])
def test_filters_that_fill_half_a_vector_are_multiplied_as_the_others(count, size):
    """Each filter gives the same maxima, to the last bit, and winners wherever it stands among the others."""
    rng = np.random.default_rng(count)
    x = rng.standard_normal((3, *size, 2)).astype(np.float32)
    filters, bias = rng.standard_normal((4, 3, 2, count)).astype(np.float32), rng.standard_normal(count).astype("f")
    y, winners = pooled.conv_pool_forward(x, filters, bias, ((0, 1), (1, 0)), False, Workspace())
    for f in range(count):
        alone = filters[..., f : f + 1], bias[f : f + 1]
        maxima, won = pooled.conv_pool_forward(x, *alone, ((0, 1), (1, 0)), False, Workspace())
        np.testing.assert_array_equal(y[..., f], maxima[..., 0])
        np.testing.assert_array_equal(winners[..., f], won[..., 0])


@pytest.mark.parametrize("channels", [3, LANES])
@pytest.mark.parametrize("relu", [True, False])
def test_lists_of_a_few_rows_give_the_gradients_of_lists_of_all(channels, relu, monkeypatch):
    rng = np.random.default_rng(channels)
    x = rng.standard_normal((19, 11, 12, channels)).astype(np.float32)
    filters = rng.standard_normal((3, 2, channels, LANES + 3)).astype(np.float32)
    y, winners = pooled.conv_pool_forward(x, filters, None, NONE, relu, Workspace())
    grad = (rng.standard_normal(y.shape) * (rng.random(y.shape) < 0.6)).astype(np.float32)
    found = []
    for rows in (4, 2, 1):
        monkeypatch.setattr(pooled_lists, "_STRIP_BYTES", rows * 16 * x[0, 0].size)
        arguments = grad, winners, x, filters, NONE, True, Workspace()
        found.append(pooled.conv_pool_backward(*arguments))
    for one, *others in zip(*found, strict=True):
        for other in others:
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(one).max())


@pytest.mark.parametrize("padding", [NONE, ((1, 0), (0, 1))])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 1), (2, 5)])
@pytest.mark.parametrize("channels", [LANES // 2, LANES + LANES // 2, LANES, 2 * LANES, 3])
def test_windows_of_half_a_vector_and_of_whole_ones_get_exact_gradients(channels, kernel, padding):
    """Of whole numbers: so small that no sum is rounded."""
    rng = np.random.default_rng(channels)
    x = rng.integers(-3, 4, (5, 8, 9, channels)).astype(np.float32)
    filters = rng.integers(-3, 4, (*kernel, channels, LANES + 5)).astype(np.float32)
    y, winners = pooled.conv_pool_forward(x, filters, None, padding, True, Workspace())
    grad = (rng.integers(-2, 3, y.shape) * (rng.random(y.shape) < 0.5)).astype(np.float32)
    whole = np.zeros(im2col.conv2d_forward(x, filters, None, (1, 1), padding).shape, np.float32)
    n, i, j, f = np.nonzero(winners[..., : y.shape[3]] != STOPPED)
    won = winners[n, i, j, f]
    whole[n, 2 * i + won // 2, 2 * j + won % 2, f] = grad[n, i, j, f]
    found = pooled.conv_pool_backward(grad, winners, x, filters, padding, True, Workspace())
    for one, other in zip(found, im2col.conv2d_backward(whole, x, filters, (1, 1), padding), strict=True):
        np.testing.assert_array_equal(one, other)


def pixels_as_they_are(shape, count):
    """Whole numbers, many of them equal, and filters of which each shows one channel: sums are exact."""
    x = np.random.default_rng(count).integers(-1, 2, shape).astype(np.float32)
    return x, np.eye(shape[3], count, dtype=np.float32)[None, None]


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("count", [LANES // 2, LANES + LANES // 2, 2 * LANES - 1])
def test_the_first_of_equal_pixels_wins_unless_relu_stops_it(count, relu):
    x, filters = pixels_as_they_are((50, 7, 10, count), count)
    y, winners = pooled.conv_pool_forward(x, filters, None, NONE, relu, Workspace())
    windows = x[:, :6].reshape(50, 3, 2, 5, 2, count).transpose(0, 1, 3, 5, 2, 4).reshape(*y.shape, 4)
    top, first = windows.max(axis=-1), windows.argmax(axis=-1)
    np.testing.assert_array_equal(y, np.maximum(top, 0) if relu else top)
    np.testing.assert_array_equal(winners[..., :count], np.where((top <= 0) & relu, STOPPED, first))


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("count", [3, LANES, LANES + LANES // 2])
def test_no_number_wins_its_window_and_infinities_don_t_make_one(count, relu):
    """One filter's NaN is nobody else's, and gets no gradient through ReLU."""
    x, filters = np.zeros((5, 6, 8, 1), np.float32), np.ones((1, 1, 1, count), np.float32)
    x[:4, 2, 3:7, 0] = [[np.nan, 1, 1, 1], [1, 1, 1, np.nan], [np.inf, 1, -np.inf, 1], [-1, -np.inf, 1, 1]]
    x[3, 2:4, 2], x[4] = -np.inf, -np.inf
    y, winners = pooled.conv_pool_forward(x, filters, None, NONE, relu, Workspace())
    windows = x.reshape(5, 3, 2, 4, 2).transpose(0, 1, 3, 2, 4).reshape(5, 3, 4, 4)
    top = windows.max(axis=-1)
    np.testing.assert_array_equal(y, np.repeat((np.maximum(top, 0) if relu else top)[..., None], count, axis=3))
    stopped = ~(top > 0) & relu
    assert np.isnan(top).sum() == 2
    known = ~np.isnan(top) | stopped
    first = np.where(stopped, STOPPED, windows.argmax(axis=-1))
    for f in range(count):
        np.testing.assert_array_equal(winners[..., f][known], first[known])


def test_a_gradient_that_is_no_number_is_seen():
    x, filters, _ = drawn((2, 8, 8), 5, 4)
    y, winners = pooled.conv_pool_forward(x, filters, None, NONE, True, Workspace())
    grad = np.zeros_like(y)
    grad[1, 0, 0, 2], winners[1, 0, 0, 2] = np.nan, 1
    grad_x, grad_filters, grad_bias = pooled.conv_pool_backward(grad, winners, x, filters, NONE, True, Workspace())
    assert np.isnan(grad_x).any(axis=(1, 2, 3)).tolist() == [False, True]
    assert np.isnan(grad_filters).any(axis=(0, 1, 2)).tolist() == [False, False, True, False]
    assert np.isnan(grad_bias).tolist() == [False, False, True, False]


FLAT = [
    # size, kernel, channels, filters, margin, background
    ((28, 28), (5, 5), 1, LANES + LANES // 2, NONE, [0.0]),
    ((11, 40), (3, 4), 3, LANES + 3, ((1, 2), (2, 0)), [0.5, -1.0, 3.0]),
    ((9, 8), (2, 1), 4, 5, ((1, 1), (0, 1)), [0.0, 0.0, -0.0, 0.0]),
    ((7, 31), (2, 10), 3, LANES + 1, NONE, [0.5, -1.0, 3.0]),
    ((13, 12), (3, 3), 2, 2 * LANES, ((1, 1), (1, 1)), [0.0, np.nan]),
]


def drawings(size, channels, background):
    """Some dots on a background; the second is one channel's, the third fills its image, the last has none."""
    rng = np.random.default_rng(channels)
    dots = rng.random((13, *size, channels)) < 4 / (size[0] * size[1])
    dots[:, 0, 0], dots[2], dots[-1] = False, True, False
    dots[2, 0, 0], dots[1, :, :, 1:] = False, False
    return np.where(dots, rng.standard_normal(dots.shape), background).astype(np.float32)


@pytest.mark.parametrize(("size", "kernel", "channels", "count", "padding", "background"), FLAT)
@pytest.mark.parametrize("relu", [True, False])
def test_windows_of_nothing_but_background_are_as_the_others(
    size, kernel, channels, count, padding, background, relu, monkeypatch
):
    """One for all gives the same maxima and winners, to the last bit, and the same gradients but for rounding."""
    x, rng = drawings(size, channels, background), np.random.default_rng(count)
    filters, bias = rng.standard_normal((*kernel, channels, count)).astype("f"), rng.standard_normal(count).astype("f")
    grad, found = None, []
    for most in (4, 0):
        monkeypatch.setattr(flat_windows, "_CHANNELS", most)
        y, winners = pooled.conv_pool_forward(x, filters, bias, padding, relu, Workspace())
        grad = rng.standard_normal(y.shape).astype(np.float32) if grad is None else grad
        arguments = grad, winners, x, filters, padding, False, Workspace()
        found.append((y, winners[..., :count], *pooled.conv_pool_backward(*arguments)[1:]))
    for one, other in zip(found[0][:2], found[1][:2], strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(found[0][2:], found[1][2:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.nanmax(np.abs(other), initial=0))


@numba.njit
def _listed(image, size, row, channels, reach, looked, work):
    at = address(image)
    return list_windows(at, size, row, channels, reach, at, looked, address(work))


@pytest.mark.parametrize(("size", "kernel", "channels", "count", "padding", "background"), FLAT)
def test_all_windows_of_nothing_but_background_are_found(size, kernel, channels, count, padding, background):
    rows, columns = ((extent - side + 1) // 2 for extent, side in zip(size, kernel, strict=True))
    reach = flat_windows.reach_of((*kernel, channels, count))
    work = np.zeros(flat_windows.room_for_lists(rows * columns, size[1] * channels, reach), np.float32)
    at = -(-(rows * columns + 2) // LANES) * LANES
    for image in drawings(size, channels, background):
        same = (image.view(np.uint32) == image[0, 0].view(np.uint32)).all(axis=2)
        flat = [
            i * columns + j
            for i in range(rows)
            for j in range(columns)
            if same[2 * i : 2 * i + kernel[0] + 1, 2 * j : 2 * j + kernel[1] + 1].all()
        ]
        there, flats = _listed(image, (rows, columns), size[1] * channels, channels, reach, True, work)
        assert work.view(np.int32)[at : at + flats].tolist() == flat
        live = [p for p in range(rows * columns) if p not in flat]
        assert work.view(np.int32)[:there].tolist() == live + flat[:1]
