"""The tutorial's three classes on compiled kernels: one image at a time, as its scripts use them.

The tutorial is "CNNs, Part 1: An Introduction to Convolutional Neural Networks" and "CNNs, Part 2: Training a
Convolutional Neural Network" (victorzhou.com); its ``cnn.py`` runs here once its imports read::

    from fastcnn.datasets import mnist
    from fastcnn import Conv3x3, MaxPool2, Softmax

Weights, activations and gradients are float64, as in the tutorial, unlike everywhere else on the fast path: a
script that seeds numpy's global generator starts from the tutorial's very weights and differs from its loops
by the last digits of float64 only, so that it prints the same figures, and elements of a pooling window that
tie there tie here. `fastcnn.reference` has the same classes in plain loops; to train on all of MNIST,
thousands of images at a call, use `fastcnn.Sequential` or ``fastcnn train``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.backends.numba import single
from fastcnn.backends.numba.packing import plain
from fastcnn.errors import ArgumentError

Array = NDArray[np.float64]


class Conv3x3:
    """A convolution of one grey image with 3x3 filters, without bias.

    Args:
        num_filters: how many filters.

    Attributes:
        filters: (num_filters, 3, 3) float64, at first normal random numbers from numpy's global generator,
            divided by 9: with nine terms in each sum that keeps the outputs near the size of the pixels.

    Raises:
        ArgumentError: `num_filters` is not a positive integer.
    """

    def __init__(self, num_filters: int) -> None:
        self.num_filters = _positive("num_filters", num_filters)
        self.filters = np.random.randn(num_filters, 3, 3) / 9
        self._image: Array | None = None

    def forward(self, image: ArrayLike) -> Array:
        """Return the filtered image, (h, w) -> (h-2, w-2, num_filters), and keep the image for `backprop`.

        Raises:
            ArgumentError: the image is not a matrix of at least 3x3, or `filters` was given another shape.
        """
        x = _float64("image", image, "(h, w)", copy=True)
        if min(x.shape) < 3:
            raise ArgumentError(f"image has shape {x.shape}; a 3x3 filter needs at least (3, 3)")
        self._adopt_filters()
        y = np.empty((x.shape[0] - 2, x.shape[1] - 2, self.num_filters))
        single.conv3x3_forward(x, self.filters, y)
        self._image = x
        return y

    def backprop(self, d_L_d_out: ArrayLike, learn_rate: float) -> Array:
        """Take one step of gradient descent.

        Args:
            d_L_d_out: the gradient of the loss for what `forward` returned, (h-2, w-2, num_filters).
            learn_rate: the step's length, a factor on the gradient.

        Returns:
            The gradient for the image (h, w), with the filters as they were before the step. (The tutorial's
            returns None, since its convolution comes first.)

        Raises:
            ArgumentError: the gradient has another shape, or `forward` was not called before.
        """
        if self._image is None:
            raise _no_forward("Conv3x3")
        image = self._image
        self._adopt_filters()
        grad_y = _gradient(d_L_d_out, (image.shape[0] - 2, image.shape[1] - 2, self.num_filters))
        grad_image = np.zeros(image.shape)
        single.conv3x3_backprop(grad_y, image, self.filters, float(learn_rate), grad_image)
        return grad_image

    def _adopt_filters(self) -> None:
        self.filters = _weights("filters", self.filters, (self.num_filters, 3, 3))


class MaxPool2:
    """Max-pooling with a window of 2x2; where several elements tie, each receives the whole gradient."""

    def __init__(self) -> None:
        self._winners: NDArray[np.uint8] | None = None
        self._input_shape: tuple[int, ...] = ()

    def forward(self, input: ArrayLike) -> Array:
        """Return the largest of each 2x2 window, (h, w, f) -> (h//2, w//2, f), and remember where they were.

        An odd last row or column is dropped. NaN counts as the largest.

        Raises:
            ArgumentError: the input has not three axes, or is smaller than one window.
        """
        x = _float64("input", input, "(h, w, filters)")
        if min(x.shape[:2]) < 2 or x.shape[2] == 0:
            raise ArgumentError(f"input has shape {x.shape}; a window of 2x2 needs at least (2, 2, 1)")
        y = np.empty((x.shape[0] // 2, x.shape[1] // 2, x.shape[2]))
        self._winners = np.empty(y.shape, np.uint8)
        self._input_shape = x.shape
        single.maxpool2_forward(x, y, self._winners)
        return y

    def backprop(self, d_L_d_out: ArrayLike) -> Array:
        """Return the gradient for the input (h, w, f), given that for the output (h//2, w//2, f).

        Raises:
            ArgumentError: the gradient has another shape, or `forward` was not called before.
        """
        if self._winners is None:
            raise _no_forward("MaxPool2")
        grad_y = _gradient(d_L_d_out, self._winners.shape)
        grad_x = np.zeros(self._input_shape)
        single.maxpool2_backprop(grad_y, self._winners, grad_x)
        return grad_x


class Softmax:
    """A dense layer, then softmax.

    Args:
        input_len: how many numbers come in.
        nodes: how many classes there are.

    Attributes:
        weights: (input_len, nodes) float64, at first normal random numbers from numpy's global generator,
            divided by input_len.
        biases: (nodes,) float64, at first zeros.

    Raises:
        ArgumentError: `input_len` or `nodes` is not a positive integer.
    """

    def __init__(self, input_len: int, nodes: int) -> None:
        self._shape = _positive("input_len", input_len), _positive("nodes", nodes)
        self.weights = np.random.randn(input_len, nodes) / input_len
        self.biases = np.zeros(nodes)
        self._x: Array | None = None
        self._input_shape: tuple[int, ...] = ()
        self._probabilities = np.empty(nodes)

    def forward(self, input: ArrayLike) -> Array:
        """Return the probabilities of the classes (nodes,) for an input of any shape with input_len elements.

        Raises:
            ArgumentError: the input has another number of elements, or a weight array was given another
            shape.
        """
        x = _float64("input", input, copy=True)
        if x.size != self._shape[0]:
            raise ArgumentError(f"input has shape {x.shape}, {x.size} elements; this Softmax takes {self._shape[0]}")
        self._adopt_weights()
        self._x, self._input_shape = x.reshape(-1), x.shape
        single.softmax_forward(self._x, self.weights, self.biases, self._probabilities)
        return self._probabilities.copy()

    def backprop(self, d_L_d_out: ArrayLike, learn_rate: float) -> Array:
        """Take one step of gradient descent.

        Args:
            d_L_d_out: the gradient of the loss for the probabilities (nodes,). In the tutorial it is zero but
                for the true class; here it may be any vector.
            learn_rate: the step's length, a factor on the gradient.

        Returns:
            The gradient for the input, of the input's shape, with the weights as they were before the step.

        Raises:
            ArgumentError: the gradient has another shape, or `forward` was not called before.
        """
        if self._x is None:
            raise _no_forward("Softmax")
        self._adopt_weights()
        grad_p = _gradient(d_L_d_out, self.biases.shape)
        grad_z, grad_x = np.empty(grad_p.shape), np.empty(self._x.shape)
        single.softmax_backprop(
            grad_p, self._probabilities, self._x, self.weights, self.biases, float(learn_rate), grad_z, grad_x
        )
        return grad_x.reshape(self._input_shape)

    def _adopt_weights(self) -> None:
        self.weights = _weights("weights", self.weights, self._shape)
        self.biases = _weights("biases", self.biases, self._shape[1:])


def _positive(name: str, value: int) -> int:
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise ArgumentError(f"{name} is {value!r}; it must be a positive integer")
    return int(value)


def _float64(name: str, value: ArrayLike, axes: str | None = None, copy: bool = False) -> Array:
    """Return `value` as a float64 array with one axis for each name in `axes`, in a copy where asked."""
    try:
        array = np.array(value, np.float64, order="C") if copy else plain(value, np.float64)
    except (TypeError, ValueError) as problem:
        raise ArgumentError(f"{name} is a {type(value).__name__} that is no array of real numbers") from problem
    if axes is not None and array.ndim != axes.count(",") + 1:
        raise ArgumentError(f"{name} has shape {np.shape(value)}; it must be {axes}")
    return array


def _gradient(value: ArrayLike, shape: tuple[int, ...]) -> Array:
    array = _float64("d_L_d_out", value)
    if array.shape != shape:
        raise ArgumentError(f"d_L_d_out has shape {array.shape}; it must be {shape}, as what forward returned")
    return array


def _weights(name: str, value: Array, shape: tuple[int, ...]) -> Array:
    """Return the array, or, where a user put in one of another dtype or order, a float64 copy to keep."""
    array = _float64(name, value)
    if array.shape != shape:
        raise ArgumentError(f"{name} has shape {array.shape}; it must be {shape}")
    return array


def _no_forward(layer: str) -> ArgumentError:
    return ArgumentError(f"{layer}.backprop was called before {layer}.forward; call forward with an image first")
