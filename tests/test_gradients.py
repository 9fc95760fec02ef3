"""The reference's gradients against central differences, and the tutorial's classes against the operations'
meaning.

The loss is ``sum(cotangent * forward(arguments))`` with a random cotangent: all-ones would not notice outputs
in the wrong places. Its derivative by one element is ``(loss(+h) - loss(-h)) / 2h``, with an error of h^2/6
times the third derivative, and of float64's rounding divided by h. Convolution, dense layer and max-pooling
(away from ties) are linear along every single element, so there only the rounding is left.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fastcnn import reference
from fastcnn.reference import Conv3x3, MaxPool2, Softmax

LINEAR_STEP, SMOOTH_STEP = 1e-2, 1e-4

#: Rounding: losses here are below 100, so 100 * 2^-53 * (some ten terms) / LINEAR_STEP = 1e-11.
LINEAR_TOLERANCE = 1e-10
#: Third derivatives here are below 10: 10 / 6 * SMOOTH_STEP^2 = 2e-8, and rounding 1e-9.
SMOOTH_TOLERANCE = 5e-8


def central_difference(loss: Callable[[], float], variable: np.ndarray, h: float) -> np.ndarray:
    """Return the derivative of `loss` by every element of `variable`, which is changed in place and
    restored."""
    derivative = np.empty(variable.shape)
    for index in np.ndindex(variable.shape):
        before = variable[index]
        variable[index] = before + h
        above = loss()
        variable[index] = before - h
        below = loss()
        variable[index] = before
        derivative[index] = (above - below) / (2 * h)
    return derivative


@pytest.mark.parametrize(
    ("image", "kernel", "filters"),
    [
        ((2, 5, 4, 2), (3, 2), 3),
        ((1, 3, 3, 1), (3, 3), 2),
        ((2, 4, 3, 3), (1, 3), 1),
        ((1, 1, 1, 1), (1, 1), 1),
    ],
)
def test_conv2d(image: tuple[int, ...], kernel: tuple[int, int], filters: int) -> None:
    rng = np.random.default_rng(1)
    x, weights = rng.normal(size=image), rng.normal(size=(*kernel, image[3], filters))
    bias = rng.normal(size=filters)
    cotangent = rng.normal(size=reference.conv2d_forward(x, weights, bias).shape)

    def loss() -> float:
        return float((cotangent * reference.conv2d_forward(x, weights, bias)).sum())

    gradients = reference.conv2d_backward(cotangent, x, weights)
    for gradient, variable in zip(gradients, (x, weights, bias), strict=True):
        numeric = central_difference(loss, variable, LINEAR_STEP)
        np.testing.assert_allclose(gradient, numeric, rtol=0, atol=LINEAR_TOLERANCE)


@pytest.mark.parametrize("ties", ["first", "all"])
@pytest.mark.parametrize(
    ("image", "pool_size"),
    [((2, 4, 6, 2), (2, 2)), ((1, 5, 7, 3), (2, 3)), ((2, 3, 3, 1), (3, 3)), ((1, 3, 4, 2), (1, 1))],
)
def test_maxpool2d_away_from_ties(image: tuple[int, int, int, int], pool_size: tuple[int, int], ties: str) -> None:
    rng = np.random.default_rng(2)
    x = rng.permutation(np.arange(np.prod(image)) / 10 - 1).reshape(image)  # 0.1 apart: ten steps
    y, winners = reference.maxpool2d_forward(x, pool_size, ties)
    cotangent = rng.normal(size=y.shape)

    def loss() -> float:
        return float((cotangent * reference.maxpool2d_forward(x, pool_size, ties)[0]).sum())

    gradient = reference.maxpool2d_backward(cotangent, winners, image, pool_size)
    numeric = central_difference(loss, x, LINEAR_STEP)
    np.testing.assert_allclose(gradient, numeric, rtol=0, atol=LINEAR_TOLERANCE)


@pytest.mark.parametrize(("samples", "inputs", "units"), [(3, 5, 4), (1, 1, 1), (2, 7, 1)])
def test_dense(samples: int, inputs: int, units: int) -> None:
    rng = np.random.default_rng(3)
    x, weights = rng.normal(size=(samples, inputs)), rng.normal(size=(inputs, units))
    bias, cotangent = rng.normal(size=units), rng.normal(size=(samples, units))

    def loss() -> float:
        return float((cotangent * reference.dense_forward(x, weights, bias)).sum())

    gradients = reference.dense_backward(cotangent, x, weights)
    for gradient, variable in zip(gradients, (x, weights, bias), strict=True):
        numeric = central_difference(loss, variable, LINEAR_STEP)
        np.testing.assert_allclose(gradient, numeric, rtol=0, atol=LINEAR_TOLERANCE)


STEPS = [
    ((2, 2), ((0, 0), (0, 0))),
    ((1, 1), ((1, 1), (1, 1))),
    ((2, 1), ((1, 0), (0, 1))),
    ((1, 3), ((0, 2), (1, 0))),
]


@pytest.mark.parametrize(("strides", "padding"), STEPS)
def test_conv2d_in_steps(strides: tuple[int, int], padding: tuple[tuple[int, int], tuple[int, int]]) -> None:
    rng = np.random.default_rng(11)
    x, weights, bias = rng.normal(size=(2, 5, 4, 2)), rng.normal(size=(3, 2, 2, 3)), rng.normal(size=3)
    cotangent = rng.normal(size=reference.conv2d_forward(x, weights, bias, strides, padding).shape)

    def loss() -> float:
        return float((cotangent * reference.conv2d_forward(x, weights, bias, strides, padding)).sum())

    gradients = reference.conv2d_backward(cotangent, x, weights, strides, padding)
    for gradient, variable in zip(gradients, (x, weights, bias), strict=True):
        numeric = central_difference(loss, variable, LINEAR_STEP)
        np.testing.assert_allclose(gradient, numeric, rtol=0, atol=LINEAR_TOLERANCE)


@pytest.mark.parametrize("kind", ["first", "all", "average"])
@pytest.mark.parametrize(("strides", "padding"), STEPS)
def test_pooling_in_steps(
    strides: tuple[int, int], padding: tuple[tuple[int, int], tuple[int, int]], kind: str
) -> None:
    """Windows of 3 x 3 pixels: they overlap, and reach into the padding."""
    rng, image, pool_size = np.random.default_rng(12), (2, 6, 5, 2), (3, 3)
    x = rng.permutation(np.arange(120) / 10 - 1).reshape(image)

    def forward() -> np.ndarray:
        if kind == "average":
            return reference.avgpool2d_forward(x, pool_size, strides, padding)
        return reference.maxpool2d_forward(x, pool_size, kind, strides, padding)[0]

    cotangent = rng.normal(size=forward().shape)
    if kind == "average":
        gradient = reference.avgpool2d_backward(cotangent, image, pool_size, strides, padding)
    else:
        winners = reference.maxpool2d_forward(x, pool_size, kind, strides, padding)[1]
        gradient = reference.maxpool2d_backward(cotangent, winners, image, pool_size, strides, padding)
    numeric = central_difference(lambda: float((cotangent * forward()).sum()), x, LINEAR_STEP)
    np.testing.assert_allclose(gradient, numeric, rtol=0, atol=LINEAR_TOLERANCE)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh", "gelu"])
def test_activations(name: str) -> None:
    """At distances of at least 0.1 from the kink of two of them."""
    rng = np.random.default_rng(13)
    x = rng.permutation(np.concatenate([np.linspace(-4, -0.1, 12), np.linspace(0.1, 4, 12)])).reshape(2, 3, 4)
    cotangent = rng.normal(size=x.shape)

    def loss() -> float:
        return float((cotangent * reference.activation_forward(x, name, 0.3)).sum())

    gradient = reference.activation_backward(cotangent, x, name, 0.3)
    numeric = central_difference(loss, x, SMOOTH_STEP)
    np.testing.assert_allclose(gradient, numeric, rtol=0, atol=SMOOTH_TOLERANCE)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2, 2), (1, 5, 1)])
def test_batchnorm(shape: tuple[int, ...], training: bool) -> None:
    """In training the moments depend on x, in inference they are numbers like any other."""
    rng, epsilon = np.random.default_rng(14), 0.5
    x, gamma, beta = rng.normal(size=shape), rng.normal(size=shape[-1]), rng.normal(size=shape[-1])
    fixed = reference.batchnorm_moments(rng.normal(size=shape))
    cotangent = rng.normal(size=shape)

    def moments() -> tuple[np.ndarray, np.ndarray]:
        return reference.batchnorm_moments(x) if training else fixed

    def loss() -> float:
        return float((cotangent * reference.batchnorm_forward(x, gamma, beta, *moments(), epsilon)).sum())

    gradients = reference.batchnorm_backward(cotangent, x, gamma, *moments(), epsilon, training)
    for gradient, variable in zip(gradients, (x, gamma, beta), strict=True):
        numeric = central_difference(loss, variable, SMOOTH_STEP)
        np.testing.assert_allclose(gradient, numeric, rtol=0, atol=SMOOTH_TOLERANCE)


def test_softmax_for_any_gradient() -> None:
    rng = np.random.default_rng(15)
    logits, cotangent = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    gradient = reference.softmax_backward(cotangent, reference.softmax(logits))
    numeric = central_difference(lambda: float((cotangent * reference.softmax(logits)).sum()), logits, SMOOTH_STEP)
    np.testing.assert_allclose(gradient, numeric, rtol=0, atol=SMOOTH_TOLERANCE)


@pytest.mark.parametrize("loss_function", [reference.softmax_cross_entropy_soft, reference.mean_squared_error])
def test_losses_with_targets(loss_function: Callable[..., tuple[np.ndarray, ...]]) -> None:
    """Targets of any sign and sum; the last output is the gradient."""
    rng = np.random.default_rng(16)
    predictions, targets, cotangent = rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), rng.normal(size=3)

    def loss() -> float:
        return float((cotangent * loss_function(predictions, targets)[0]).sum())

    gradient = cotangent[:, None] * loss_function(predictions, targets)[-1]
    numeric = central_difference(loss, predictions, SMOOTH_STEP)
    np.testing.assert_allclose(gradient, numeric, rtol=0, atol=SMOOTH_TOLERANCE)


@pytest.mark.parametrize(("samples", "classes"), [(4, 5), (1, 2), (3, 1)])
def test_softmax_cross_entropy(samples: int, classes: int) -> None:
    rng = np.random.default_rng(4)
    logits, labels = rng.normal(size=(samples, classes)), rng.integers(classes, size=samples)
    cotangent = rng.normal(size=samples)

    def loss() -> float:
        return float((cotangent * reference.softmax_cross_entropy(logits, labels)[0]).sum())

    gradient = cotangent[:, None] * reference.softmax_cross_entropy(logits, labels)[2]
    numeric = central_difference(loss, logits, SMOOTH_STEP)
    np.testing.assert_allclose(gradient, numeric, rtol=0, atol=SMOOTH_TOLERANCE)


@pytest.mark.parametrize("one_hot", [False, True])
def test_softmax_class_for_any_gradient(one_hot: bool) -> None:
    """The tutorial's gradient is zero but for the true class; ours may be any vector. Learning rate 1 shows
    the step."""
    rng = np.random.default_rng(5)
    np.random.seed(5)
    layer = Softmax(6, 4)
    layer.weights += rng.normal(size=(6, 4))
    layer.biases += rng.normal(size=4)
    x = rng.normal(size=(1, 2, 3))
    cotangent = np.array([0.0, 0.0, -1.3, 0.0]) if one_hot else rng.normal(size=4)

    def loss() -> float:
        return float((cotangent * layer.forward(x)).sum())

    numeric = [central_difference(loss, v, SMOOTH_STEP) for v in (x, layer.weights, layer.biases)]
    weights, biases = layer.weights.copy(), layer.biases.copy()
    layer.forward(x)
    gradient = layer.backprop(cotangent, 1.0)
    actual = (gradient, weights - layer.weights, biases - layer.biases)
    for got, expected in zip(actual, numeric, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=SMOOTH_TOLERANCE)


def test_one_step_of_the_tutorials_network() -> None:
    """All three classes in a row: every parameter's step is the learning rate times the loss's derivative."""
    np.random.seed(6)
    conv, pool, softmax = Conv3x3(2), MaxPool2(), Softmax(2 * 3 * 2, 5)
    softmax.weights *= 8  # further from all-equal probabilities
    image, label, rate = np.random.default_rng(6).uniform(-0.5, 0.5, (7, 8)), 3, 0.25

    def forward() -> np.ndarray:
        return softmax.forward(pool.forward(conv.forward(image)))

    def loss() -> float:
        return float(-np.log(forward()[label]))

    variables = (image, conv.filters, softmax.weights, softmax.biases)
    numeric = [central_difference(loss, variable, SMOOTH_STEP) for variable in variables]
    before = [variable.copy() for variable in variables]
    gradient = np.zeros(5)
    gradient[label] = -1 / forward()[label]
    grad_image = conv.backprop(pool.backprop(softmax.backprop(gradient, rate)), rate)
    steps = [(b - variable) / rate for b, variable in zip(before[1:], variables[1:], strict=True)]
    for got, expected in zip([grad_image, *steps], numeric, strict=True):
        assert np.abs(expected).max() > 100 * SMOOTH_TOLERANCE
        np.testing.assert_allclose(got, expected, rtol=0, atol=SMOOTH_TOLERANCE)


def test_classes_start_as_the_tutorials_do() -> None:
    """A seeded script draws the same numbers in the same order from numpy's global generator."""
    np.random.seed(7)
    conv, softmax = Conv3x3(8), Softmax(1352, 10)
    np.random.seed(7)
    np.testing.assert_array_equal(conv.filters, np.random.randn(8, 3, 3) / 9)
    np.testing.assert_array_equal(softmax.weights, np.random.randn(1352, 10) / 1352)
    np.testing.assert_array_equal(softmax.biases, np.zeros(10))


def test_every_maximum_of_a_tie_has_the_whole_gradient() -> None:
    pool = MaxPool2()
    image = np.array([[1.0, 1.0, 0.0, 5.0], [0.0, 1.0, 5.0, 2.0], [9.0, 9.0, 9.0, 9.0]])[:, :, None]
    np.testing.assert_array_equal(pool.forward(image)[:, :, 0], [[1.0, 5.0]])
    np.testing.assert_array_equal(
        pool.backprop(np.array([[[3.0], [7.0]]]))[:, :, 0],
        [[3.0, 3.0, 0.0, 7.0], [0.0, 3.0, 7.0, 0.0], [0.0, 0.0, 0.0, 0.0]],
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Conv3x3(2).forward(np.zeros((4, 4, 1))), r"^image has shape \(4, 4, 1\)"),
        (lambda: MaxPool2().forward(np.zeros((4, 4))), r"^input has shape \(4, 4\)"),
        (lambda: Softmax(6, 2).forward(np.zeros((2, 2))), r"^weights has shape \(6, 2\)"),
    ],
)
def test_classes_refuse_other_shapes(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
