"""Every operation of the fast backends against the reference, inside the rounding bound of `tolerance.py`."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from generated import ACTIVATIONS, ARGUMENTS, SHAPES_PER_OPERATION, case, in_float64, shapes
from tolerance import OUTPUTS, Truth, of_numba, results, truths, worst

from fastcnn.backends import BACKENDS, OPERATIONS, get, im2col
from fastcnn.backends.numba.conv import direct_gradient
from fastcnn.backends.numba.conv import operations as conv


@pytest.fixture(params=["im2col", "numba"])
def backend(request: pytest.FixtureRequest) -> ModuleType:
    return get(request.param)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_generated_shapes(backend: ModuleType, operation: str, record_property: Callable[..., None]) -> None:
    ratio = 0.0
    for shape in shapes(operation):
        arguments, expected = case(operation, shape)
        actual = results(backend, operation, arguments)
        expected = of_numba(expected, operation, arguments) if backend is get("numba") else expected
        assert {output.dtype for output in actual} <= {np.dtype(np.float32), np.dtype(np.bool_)}
        ratio = max(ratio, worst(actual, expected, f"{operation} {shape}"))
    record_property("worst error as a fraction of its bound", ratio)


def test_the_shapes_are_of_every_kind() -> None:
    """Each of these is among the generated shapes of a convolution and of a pooling, twenty times at least."""
    assert SHAPES_PER_OPERATION >= 300
    for operation, height, kernel, strides, padding in (
        ("conv2d_forward", slice(1, 3), slice(4, 6), slice(8, 10), slice(10, 14)),
        ("avgpool2d_forward", slice(1, 3), slice(4, 6), slice(6, 8), slice(8, 12)),
    ):
        kinds = np.zeros(7, int)
        for shape in shapes(operation):
            image, window, steps = shape[height], shape[kernel], shape[strides]
            (rows, columns), extents = image, np.add(image, np.reshape(shape[padding], (2, 2)).sum(axis=1))
            kinds += [
                rows == 1 or columns == 1,
                rows != columns and rows * columns % 2,
                window[0] != window[1],
                steps[0] != steps[1],
                max(shape[padding]) > 0 and len(set(shape[padding])) > 1,
                any((extents - window) % steps),  # rows or columns that no window reaches
                tuple(extents) == window,
            ]
        assert kinds.min() >= 20, f"{operation}: {kinds}"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_im2col_stays_in_float64(operation: str) -> None:
    """The same shapes at 2^-53: im2col in float64 is the truth for the larger shapes below."""
    for shape in shapes(operation):
        arguments = [in_float64(argument) for argument in case(operation, shape)[0]]
        actual = results(im2col, operation, arguments)
        assert {output.dtype for output in actual} <= {np.dtype(np.float64), np.dtype(np.bool_)}
        worst(actual, truths(operation, arguments, np.float64), f"{operation} {shape}")


# Lengths below, at and above a vector's 4, 8 and 16 numbers, for main loops with and without a remainder.
LENGTHS = (1, 3, 7, 8, 9, 15, 16, 17, 33)
VALID, SAME = (0, 0, 0, 0), (1, 1, 1, 1)
WINDOWS = [
    (2, 7, width, channels, *pool, *strides, *padding)
    for width in (4, 8, 9, 33, 34, 35)
    for channels in LENGTHS
    for pool, strides, padding in (
        ((2, 2), (2, 2), VALID),
        ((3, 2), (3, 2), VALID),
        ((1, 4), (1, 4), VALID),
        ((3, 3), (2, 2), (0, 1, 0, 1)),
        ((2, 2), (1, 1), (0, 1, 0, 1)),
        ((3, 4), (2, 3), SAME),
    )
] + [(67, 9, 12, 3, 2, 2, 2, 2, *VALID), (67, 9, 12, 3, 3, 3, 2, 2, *SAME)]
#: For 3x3 filters of few channels, whose gradient has a way of its own: images, channels, filters, padding.
FEW_CHANNELS = [
    *(((2, 22, 16), channels, filters, SAME) for channels in (1, 2, 3, 4) for filters in (5, 32, 33)),
    *(((n, 9, 6), 3, 16, (1, 2, 0, 2)) for n in (31, 32, 33, 65)),
    ((3, 32, 56), 4, 8, VALID),
    ((2, 70, 82), 3, 32, SAME),
]
LARGER = {
    "conv2d": [
        (2, 6, width, channels, *kernel, filters, filters % 2, *strides, *padding)
        for width in (5, 8, 10, 18, 35)
        for channels in (1, 3, 16)
        for filters in LENGTHS
        for kernel, strides, padding in (
            ((3, 3), (1, 1), VALID),
            ((1, 3), (1, 1), VALID),
            ((5, 5), (1, 1), VALID),
            ((3, 3), (1, 1), SAME),
            ((5, 5), (1, 1), (2, 2, 2, 2)),
            ((3, 3), (2, 2), (0, 1, 0, 1)),
            ((1, 1), (2, 2), VALID),
            ((4, 3), (2, 3), (1, 2, 1, 1)),
        )
    ]
    + [
        (*image, channels, 3, 3, filters, 1, 1, 1, *padding)
        for image in ((9, 7, 9), (3, 14, 15), (40, 4, 5), (1, 35, 36))
        for channels, filters in ((16, 16), (20, 33), (35, 24), (65, 130))
        for padding in (VALID, SAME, (2, 0, 1, 2))
    ]
    + [(n, 5, 6, 2, 3, 3, 8, 1, *steps) for n in (31, 32, 33, 65, 130) for steps in ((1, 1, *VALID), (2, 1, *SAME))]
    # 27 taps: in more than one block of rows, twice as many, and not in runs of nine
    + [(2, 70, 61, 3, 3, 3, 32, 1, 1, 1, *SAME), (3, 8, 9, 6, 3, 3, 33, 0, 1, 1, *VALID)]
    + [(*size, channels, 3, 3, filters, 1, 1, 1, *padding) for size, channels, filters, padding in FEW_CHANNELS]
    + [(3, 12, 8, 1, 9, 3, 17, 1, *steps) for steps in ((1, 1, *VALID), (2, 2, *SAME))],
    "maxpool2d": [(*windows, windows[3] % 2, 3) for windows in WINDOWS],
    "avgpool2d": WINDOWS,
    "activation": [
        (which, spread, *axes)
        for which in range(len(ACTIVATIONS))
        for spread in (1, 30)
        for axes in ((4097,), (33, 130), (2, 65, 31, 7))
    ],
    "batchnorm": [
        (offset, training, *axes, channels)
        for offset, training in ((0, 1), (50, 1), (1, 0))
        for axes in ((65,), (9, 12, 7), (130, 5, 3))
        for channels in (*LENGTHS, 64)
    ],
    "mean": [(1, 1), (65, 10), (3, 4097), (130, 7, 6, 5)],
    "dense": [
        (samples, inputs, units, units % 2)
        for samples in (1, 2, 5, 6, 8, 9, 33)
        for inputs in (1, 7, 16, 33, 257, 1352)
        for units in (*LENGTHS, 64, 130)
    ]
    + [(260, 300, 19, 1), (7, 1024, 19, 0), (300, 2048, 10, 1)],
    "softmax": [(samples, classes, 5) for samples in (1, 63, 64, 65, 130) for classes in (*LENGTHS, 100)],
}


@pytest.mark.parametrize("operation", ["conv2d_forward", "conv2d_backward"])
def test_winograds_convolutions_are_among_the_larger(operation: str) -> None:
    """Each output whose bound is another one there is so for ten shapes at least, and for as many it is not."""
    counts = np.zeros(len(OUTPUTS[operation]), int)
    shapes = [shape for shape in LARGER["conv2d"] if shape[3] >= 16]
    for shape in shapes:
        arguments = ARGUMENTS[operation][1](shape)
        plain = [
            Truth(name, *np.zeros((2, *output.shape)))
            for name, output in zip(OUTPUTS[operation], results(im2col, operation, arguments), strict=True)
        ]
        counts += [
            after is not before for before, after in zip(plain, of_numba(plain, operation, arguments), strict=True)
        ]
    computed = counts[:2]
    assert ((computed >= 10) & (computed <= len(shapes) - 10)).all(), counts


@pytest.mark.skipif(not direct_gradient.MANY, reason="needs 32 registers of 16 floats")
def test_few_channels_have_a_way_of_their_own_and_may_be_masked() -> None:
    rng = np.random.default_rng(0)
    for (n, height, width), channels, filters, (top, bottom, left, right) in FEW_CHANNELS:
        padding = ((top, bottom), (left, right))
        x = rng.standard_normal((n, height, width, channels), np.float32)
        shape = (n, height + top + bottom - 2, width + left + right - 2, filters)
        assert conv.uses_winograd_channels((3, 3, channels, filters), shape, (1, 1))
        grad_y, kept = rng.standard_normal(shape, np.float32), rng.standard_normal(shape, np.float32)
        masked = conv.filter_gradient(grad_y, x, (3, 3), (1, 1), padding, kept)
        zeroed = conv.filter_gradient(np.where(kept > 0, grad_y, np.float32(0)), x, (3, 3), (1, 1), padding)
        for one, other in zip(masked, zeroed, strict=True):
            np.testing.assert_array_equal(one, other)
        x[-1, 0, 0, 0] = np.nan
        assert np.isnan(conv.filter_gradient(grad_y, x, (3, 3), (1, 1), padding)[0][..., 0, :]).any()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_larger_shapes_in_numba(operation: str) -> None:
    for shape in LARGER[operation.split("_")[0]]:
        arguments = ARGUMENTS[operation][1](shape)
        expected = of_numba(truths(operation, arguments, np.float32, source=im2col), operation, arguments)
        worst(results(get("numba"), operation, arguments), expected, f"{operation} {shape}")


# What is known without computing.


@pytest.mark.parametrize("name", BACKENDS)
def test_known_values(name: str) -> None:
    backend = get(name)
    x = np.arange(6, dtype=backend.DTYPE).reshape(1, 2, 3, 1)  # [[0, 1, 2], [3, 4, 5]]
    filters = np.array([[1, 10], [100, 1000]], backend.DTYPE).reshape(2, 2, 1, 1)  # not flipped
    y = backend.conv2d_forward(x, filters, np.array([0.5], backend.DTYPE))
    np.testing.assert_array_equal(y, np.reshape([4310.5, 5421.5], (1, 1, 2, 1)))
    y, winners = backend.maxpool2d_forward(x, (2, 2), "first")
    np.testing.assert_array_equal(y, np.reshape([4.0], (1, 1, 1, 1)))
    np.testing.assert_array_equal(winners, np.reshape([False, False, False, True], (1, 1, 1, 4, 1)))
    logits = np.log(np.array([[1, 3]], backend.DTYPE))
    losses, probabilities, grad_logits = backend.softmax_cross_entropy(logits, np.array([1]))
    np.testing.assert_allclose(probabilities, [[0.25, 0.75]], rtol=1e-6)
    np.testing.assert_allclose(grad_logits, [[0.25, -0.25]], rtol=1e-6)
    np.testing.assert_allclose(losses, [math.log(4 / 3)], rtol=1e-6)


@pytest.mark.parametrize("ties", ["first", "all"])
@pytest.mark.parametrize("name", BACKENDS)
def test_nan_wins_its_window(name: str, ties: str) -> None:
    """Wherever in the window it is: the output is NaN, and the gradient goes to it. Other windows keep
    theirs."""
    backend = get(name)
    for place in range(4):
        x = np.zeros((1, 4, 2, 1), backend.DTYPE)
        x[0, place // 2, place % 2] = np.nan
        y, winners = backend.maxpool2d_forward(x, (2, 2), ties)
        np.testing.assert_array_equal(y.ravel(), [np.nan, 0])
        np.testing.assert_array_equal(winners[0, 0, 0, :, 0], np.arange(4) == place)
        assert winners[0, 1, 0].sum() == (1 if ties == "first" else 4)


@pytest.mark.parametrize("name", BACKENDS)
def test_nan_is_never_lost(name: str) -> None:
    """One NaN in each argument in turn reaches every output that depends on it."""
    backend = get(name)
    x, filters = np.ones((2, 4, 4, 2), backend.DTYPE), np.ones((3, 3, 2, 3), backend.DTYPE)
    x[1, 1, 1, 1] = np.nan
    assert np.isnan(backend.conv2d_forward(x, filters, None)[1]).all()
    assert not np.isnan(backend.conv2d_forward(x, filters, None)[0]).any()
    grad_filters = backend.conv2d_backward(np.ones((2, 2, 2, 3), backend.DTYPE), x, filters)[1]
    assert np.isnan(grad_filters[:2, :2, 1]).all()
    assert not np.isnan(grad_filters[:, :, 0]).any()
    weights = np.ones((4, 3), backend.DTYPE)
    weights[2, 1] = np.nan
    y = backend.dense_forward(np.zeros((5, 4), backend.DTYPE), weights, None)
    np.testing.assert_array_equal(np.isnan(y), [[False, True, False]] * 5)
    grad_y, x = np.ones((5, 3), backend.DTYPE), np.ones((5, 4), backend.DTYPE)
    grad_x = backend.dense_backward(grad_y, x, weights)[0]
    np.testing.assert_array_equal(np.isnan(grad_x), [[False, False, True, False]] * 5)
    x = np.ones((2, 4, 4, 2), backend.DTYPE)
    x[1, 2, 2, 1] = np.nan
    averages = backend.avgpool2d_forward(x, (2, 2))
    assert np.isnan(averages[1, 1, 1, 1])
    assert np.isnan(averages).sum() == 1
    for activation in ACTIVATIONS:
        np.testing.assert_array_equal(np.isnan(backend.activation_forward(x, activation)), np.isnan(x))
        gradient = backend.activation_backward(x, np.ones_like(x), activation)
        np.testing.assert_array_equal(np.isnan(gradient), np.isnan(x))
    for moment in backend.batchnorm_moments(x):
        np.testing.assert_array_equal(np.isnan(moment), [False, True])
    for column in range(3):
        logits = np.zeros((2, 3), backend.DTYPE)
        logits[1, column] = np.nan
        losses, probabilities, _ = backend.softmax_cross_entropy(logits, np.array([0, 0]))
        np.testing.assert_array_equal(np.isnan(losses), [False, True])
        np.testing.assert_array_equal(np.isnan(probabilities), [[False] * 3, [True] * 3])


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("size", [1e4, 1e30, 3.4e38])
def test_loss_is_finite_for_any_finite_logits(name: str, size: float) -> None:
    backend = get(name)
    logits = np.array([[size, -size, 0], [-size, -size, -size], [size, size, -size]], np.float32)
    losses, probabilities, grad_logits = backend.softmax_cross_entropy(logits, np.array([1, 2, 0]))
    np.testing.assert_allclose(probabilities, [[1, 0, 0], [1 / 3] * 3, [0.5, 0.5, 0]], rtol=1e-6)
    np.testing.assert_array_equal(backend.softmax(logits), probabilities)
    np.testing.assert_allclose(grad_logits, [[1, -1, 0], [1 / 3, 1 / 3, -2 / 3], [-0.5, 0.5, 0]], rtol=1e-6)
    largest = float(np.finfo(backend.DTYPE).max)  # 6.8e38 is more than float32 can hold
    np.testing.assert_allclose(losses, [min(2 * size, largest), math.log(3), math.log(2)], rtol=1e-6)
