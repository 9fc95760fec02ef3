"""The tutorial's three classes on compiled kernels, held against the same three in loops."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import Conv3x3, MaxPool2, Softmax, reference
from fastcnn.datasets import mnist
from fastcnn.errors import ArgumentError

# Both sides compute in float64 and differ in the order of sums of at most 1,352 products of numbers near one.
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def image_with(background: str, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Grey values; on a flat background most pooling windows hold ties."""
    image = np.zeros((height, width)) if background != "noise" else rng.uniform(0, 255, (height, width))
    if background == "strokes":
        image[height // 3 : height // 2 + 1, width // 4 : -2] = rng.integers(1, 256)
        image[2:-2, width // 2] = rng.integers(1, 256)
    return image


def network(home: ModuleType, filters: int, inputs: int, classes: int, seed: int) -> tuple[Any, Any, Any]:
    np.random.seed(seed)
    return home.Conv3x3(filters), home.MaxPool2(), home.Softmax(inputs, classes)


@pytest.mark.parametrize("background", ["noise", "strokes", "flat"])
@pytest.mark.parametrize(
    ("height", "width", "filters", "classes"),
    [(28, 28, 8, 10), (9, 12, 3, 4), (7, 23, 1, 1), (4, 4, 17, 2), (12, 37, 5, 3)],
)
def test_steps_agree_with_the_loops(background: str, height: int, width: int, filters: int, classes: int) -> None:
    rng = np.random.default_rng(height * width)
    inputs = (height - 2) // 2 * ((width - 2) // 2) * filters
    fast, loops = (network(home, filters, inputs, classes, seed=5) for home in (fastcnn, reference))
    for _ in range(3):
        image = image_with(background, height, width, rng) / 255 - 0.5
        gradient = rng.standard_normal(classes)  # a general one: not only the true class's is set
        passed = []
        for conv, pool, softmax in (fast, loops):
            filtered = conv.forward(image)
            maxima = pool.forward(filtered)
            probabilities = softmax.forward(maxima)
            grad_maxima = softmax.backprop(gradient, 0.05)
            grad_filtered = pool.backprop(grad_maxima)
            grad_image = conv.backprop(grad_filtered, 0.05)
            passed.append([filtered, maxima, probabilities, grad_maxima, grad_filtered, grad_image])
            passed[-1] += [conv.filters.copy(), softmax.weights.copy(), softmax.biases.copy()]
        for mine, expected in zip(*passed, strict=True):
            assert mine.shape == expected.shape
            assert mine.dtype == np.float64
            np.testing.assert_allclose(mine, expected, **CLOSE)


@pytest.mark.parametrize("shape", [(28, 28), (6, 9), (5, 22)])
def test_a_flat_image_sends_the_gradient_to_every_pixel_of_each_window(shape: tuple[int, int]) -> None:
    np.random.seed(0)
    filtered = Conv3x3(8).forward(np.full(shape, 0.3))
    pool = MaxPool2()
    maxima = pool.forward(filtered)
    grad = pool.backprop(np.ones(maxima.shape))
    rows, columns = 2 * maxima.shape[0], 2 * maxima.shape[1]
    assert (grad[:rows, :columns] == 1).all()
    assert not grad[rows:].any()
    assert not grad[:, columns:].any()


def test_nan_is_not_lost_in_pooling() -> None:
    x = np.zeros((2, 2, 4))
    for element in range(4):
        x[element // 2, element % 2, element] = np.nan
    assert np.isnan(MaxPool2().forward(x)).all()


def test_start_values_are_the_tutorials() -> None:
    np.random.seed(11)
    conv, softmax = Conv3x3(8), Softmax(13 * 13 * 8, 10)
    np.random.seed(11)
    assert (conv.filters == np.random.randn(8, 3, 3) / 9).all()
    assert (softmax.weights == np.random.randn(1352, 10) / 1352).all()
    assert softmax.biases.shape == (10,)
    assert not softmax.biases.any()


def tutorial_script(home: ModuleType, images: np.ndarray, labels: np.ndarray) -> list[tuple[float, int]]:
    """Train as the tutorial's cnn.py does; return each step's loss and whether it was right."""
    np.random.seed(0)
    conv, pool, softmax = home.Conv3x3(8), home.MaxPool2(), home.Softmax(13 * 13 * 8, 10)

    def forward(image: np.ndarray, label: int) -> tuple[np.ndarray, float, int]:
        out = softmax.forward(pool.forward(conv.forward((image / 255) - 0.5)))
        return out, -np.log(out[label]), 1 if np.argmax(out) == label else 0

    def train(image: np.ndarray, label: int, learn_rate: float = 0.005) -> tuple[float, int]:
        out, loss, right = forward(image, label)
        gradient = np.zeros(10)
        gradient[label] = -1 / out[label]
        conv.backprop(pool.backprop(softmax.backprop(gradient, learn_rate)), learn_rate)
        return loss, right

    return [train(image, label) for image, label in zip(images, labels, strict=True)]


def test_the_tutorials_script_learns() -> None:
    history = tutorial_script(fastcnn, mnist.train_images()[:1000], mnist.train_labels()[:1000])
    losses, right = np.array(history).T
    assert losses[:100].mean() > 2.0
    assert losses[-100:].mean() < 0.9
    assert right[-100:].mean() > 0.7


@pytest.mark.slow
def test_the_tutorials_script_prints_what_the_loops_print() -> None:
    images, labels = mnist.train_images()[:100], mnist.train_labels()[:100]
    mine, expected = (np.array(tutorial_script(home, images, labels)) for home in (fastcnn, reference))
    np.testing.assert_allclose(mine[:, 0], expected[:, 0], rtol=1e-9)
    assert (mine[:, 1] == expected[:, 1]).all()


def test_arrays_that_a_user_puts_in_are_used_and_learn() -> None:
    rng = np.random.default_rng(2)
    image, gradient = rng.standard_normal((6, 6)), rng.standard_normal(3)
    filters, weights = rng.standard_normal((2, 3, 3)), rng.standard_normal((8, 3))
    results = []
    for home in (fastcnn, reference):
        conv, pool, softmax = network(home, 2, 8, 3, seed=1)
        conv.filters = np.asfortranarray(filters)
        softmax.weights = weights[::-1].copy()[::-1]
        softmax.biases = np.arange(3.0)
        probabilities = softmax.forward(pool.forward(conv.forward(image)))
        conv.backprop(pool.backprop(softmax.backprop(gradient, 0.1)), 0.1)
        results.append([probabilities, conv.filters, softmax.weights, softmax.biases])
    for mine, expected in zip(*results, strict=True):
        np.testing.assert_allclose(mine, expected, **CLOSE)
    assert np.abs(results[0][1] - filters).min() > 0

    conv = Conv3x3(2)
    conv.filters = filters.astype(np.float32)
    conv.filters.flags.writeable = False
    conv.forward(image)
    conv.backprop(np.ones((4, 4, 2)), 0.1)
    assert conv.filters.dtype == np.float64


def test_what_was_passed_in_may_change_before_backprop() -> None:
    rng = np.random.default_rng(3)
    image, x = rng.standard_normal((5, 5)), rng.standard_normal((2, 2, 2))
    steps = []
    for overwrite in (False, True):
        conv, pool, softmax = network(fastcnn, 2, 8, 3, seed=1)
        mine = image.copy(), x.copy()
        conv.forward(mine[0])
        pool.forward(mine[1])
        softmax.forward(mine[1]).fill(0)
        if overwrite:
            mine[0].fill(7)
            mine[1].fill(7)
        conv.backprop(np.ones((3, 3, 2)), 0.1)
        steps.append((conv.filters, pool.backprop(np.ones((1, 1, 2))), softmax.backprop(np.arange(3.0), 0.1)))
    for before, after in zip(*steps, strict=True):
        assert (before == after).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Conv3x3(0), "num_filters is 0"),
        (lambda: Softmax(8, -1), "nodes is -1"),
        (lambda: Softmax(2.5, 1), "input_len is 2.5"),  # type: ignore[arg-type]
        (lambda: Conv3x3(2).forward(np.zeros((28, 28, 1))), r"image has shape \(28, 28, 1\)"),
        (lambda: Conv3x3(2).forward(np.zeros((2, 28))), r"image has shape \(2, 28\)"),
        (lambda: Conv3x3(2).forward("digit.png"), "image is a str"),
        (lambda: MaxPool2().forward(np.zeros((4, 4))), r"input has shape \(4, 4\)"),
        (lambda: MaxPool2().forward(np.zeros((4, 1, 3))), r"input has shape \(4, 1, 3\)"),
        (lambda: Softmax(8, 2).forward(np.zeros(9)), r"input has shape \(9,\), 9 elements; .* takes 8"),
        (lambda: Conv3x3(2).backprop(np.zeros((4, 4, 2)), 0.1), "Conv3x3.backprop was called before"),
        (lambda: MaxPool2().backprop(np.zeros((4, 4, 2))), "MaxPool2.backprop was called before"),
        (lambda: Softmax(8, 2).backprop(np.zeros(2), 0.1), "Softmax.backprop was called before"),
    ],
)
def test_a_mistake_is_named(wrong: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message) as raised:
        wrong()
    assert "\n" not in str(raised.value)


def test_a_gradient_or_weights_of_another_shape_are_named() -> None:
    conv, pool, softmax = network(fastcnn, 2, 8, 3, seed=1)
    softmax.forward(pool.forward(conv.forward(np.zeros((6, 6)))))
    with pytest.raises(ArgumentError, match=r"d_L_d_out has shape \(4,\); it must be \(3,\)"):
        softmax.backprop(np.zeros(4), 0.1)
    with pytest.raises(ArgumentError, match=r"d_L_d_out has shape \(4, 4, 2\); it must be \(2, 2, 2\)"):
        pool.backprop(np.zeros((4, 4, 2)))
    with pytest.raises(ArgumentError, match=r"d_L_d_out has shape \(2, 2, 2\); it must be \(4, 4, 2\)"):
        conv.backprop(np.zeros((2, 2, 2)), 0.1)
    conv.filters = np.zeros((3, 3, 3))
    with pytest.raises(ArgumentError, match=r"filters has shape \(3, 3, 3\); it must be \(2, 3, 3\)"):
        conv.forward(np.zeros((6, 6)))
    softmax.biases = np.zeros(4)
    with pytest.raises(ArgumentError, match=r"biases has shape \(4,\); it must be \(3,\)"):
        softmax.forward(np.zeros(8))
