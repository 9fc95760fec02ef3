"""The reference implementation's public address: the operations and the tutorial's three classes, in loops.

The operations are those of `fastcnn.backends.reference`, where the loops are. On top of them here are the
classes of the tutorial "CNNs, Part 1 and 2: An Introduction to / Training a Convolutional Neural Network"
(victorzhou.com): one image at a time, gradient descent inside ``backprop``. `fastcnn.Conv3x3`,
`fastcnn.MaxPool2` and `fastcnn.Softmax` are the same three on the fast kernels; these are what they are
compared with, and where to read how such a network learns::

    conv, pool, softmax = Conv3x3(8), MaxPool2(), Softmax(13 * 13 * 8, 10)  # 28x28, 26x26x8, 13x13x8, 10
    probabilities = softmax.forward(pool.forward(conv.forward(image / 255 - 0.5)))
    gradient = np.zeros(10)
    gradient[label] = -1 / probabilities[label]  # of the loss, -log(probabilities[label])
    conv.backprop(pool.backprop(softmax.backprop(gradient, 0.005)), 0.005)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.backends.reference import (
    FloatArray,
    activation_backward,
    activation_forward,
    avgpool2d_backward,
    avgpool2d_forward,
    batchnorm_backward,
    batchnorm_forward,
    batchnorm_moments,
    conv2d_backward,
    conv2d_forward,
    dense_backward,
    dense_forward,
    maxpool2d_backward,
    maxpool2d_forward,
    mean_squared_error,
    softmax,
    softmax_backward,
    softmax_cross_entropy,
    softmax_cross_entropy_soft,
)

__all__ = [
    "Conv3x3",
    "MaxPool2",
    "Softmax",
    "activation_backward",
    "activation_forward",
    "avgpool2d_backward",
    "avgpool2d_forward",
    "batchnorm_backward",
    "batchnorm_forward",
    "batchnorm_moments",
    "conv2d_backward",
    "conv2d_forward",
    "dense_backward",
    "dense_forward",
    "maxpool2d_backward",
    "maxpool2d_forward",
    "mean_squared_error",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_soft",
]


class Conv3x3:
    """A convolution of one grey image with 3x3 filters, without bias.

    Args:
        num_filters: how many filters.

    Attributes:
        filters: (num_filters, 3, 3), at first normal random numbers from numpy's global generator, divided by
            9: with nine terms in each sum that keeps the outputs near the size of the pixels.
    """

    def __init__(self, num_filters: int) -> None:
        self.filters = np.random.randn(num_filters, 3, 3) / 9  # noqa: NPY002 - as the tutorial

    def forward(self, image: ArrayLike) -> FloatArray:
        """Return the filtered image, (h, w) -> (h-2, w-2, num_filters), and keep the image for `backprop`.

        Raises:
            ValueError: the image is not a matrix of at least 3x3.
        """
        self._x = _with_axes(image, "image", "(h, w)")[None, :, :, None]
        y = conv2d_forward(self._x, self._filters(), None)
        return y.reshape(y.shape[1:])

    def backprop(self, d_L_d_out: ArrayLike, learn_rate: float) -> FloatArray:
        """Take one step of gradient descent.

        Args:
            d_L_d_out: the gradient of the loss for what `forward` returned, (h-2, w-2, num_filters).
            learn_rate: the step's length, a factor on the gradient.

        Returns:
            The gradient for the image (h, w), with the filters as they were before the step. (The tutorial's
            returns None, since its convolution comes first.)

        Raises:
            ValueError: the gradient has another shape.
        """
        grad_y = _with_axes(d_L_d_out, "d_L_d_out", "(h, w, filters)")[None]
        grad_x, grad_filters, _ = conv2d_backward(grad_y, self._x, self._filters())
        self.filters -= learn_rate * grad_filters[:, :, 0, :].transpose(2, 0, 1)
        return grad_x.reshape(grad_x.shape[1:3])

    def _filters(self) -> FloatArray:
        """Return the filters in the operations' layout, (3, 3, 1, num_filters)."""
        return self.filters.transpose(1, 2, 0)[:, :, None, :]


class MaxPool2:
    """Max-pooling with a window of 2x2; where several elements are largest, each receives the gradient."""

    def forward(self, input: ArrayLike) -> FloatArray:
        """Return the largest of each 2x2 window, (h, w, f) -> (h//2, w//2, f), and remember where they were.

        Raises:
            ValueError: the input has not three axes, or is smaller than one window.
        """
        x = _with_axes(input, "input", "(h, w, filters)")[None]
        self._input_shape = (1, x.shape[1], x.shape[2], x.shape[3])
        y, self._winners = maxpool2d_forward(x, (2, 2), "all")
        return y.reshape(y.shape[1:])

    def backprop(self, d_L_d_out: ArrayLike) -> FloatArray:
        """Return the gradient for the input (h, w, f), given that for the output (h//2, w//2, f).

        Raises:
            ValueError: the gradient has another shape.
        """
        grad_y = _with_axes(d_L_d_out, "d_L_d_out", "(h//2, w//2, filters)")[None]
        grad_x = maxpool2d_backward(grad_y, self._winners, self._input_shape, (2, 2))
        return grad_x.reshape(grad_x.shape[1:])


class Softmax:
    """A dense layer, then softmax.

    Args:
        input_len: how many numbers come in.
        nodes: how many classes there are.

    Attributes:
        weights: (input_len, nodes), at first normal random numbers from numpy's global generator, divided by
            input_len.
        biases: (nodes,), at first zeros.
    """

    def __init__(self, input_len: int, nodes: int) -> None:
        self.weights = np.random.randn(input_len, nodes) / input_len  # noqa: NPY002 - as the tutorial
        self.biases = np.zeros(nodes)

    def forward(self, input: ArrayLike) -> FloatArray:
        """Return the probabilities of the classes (nodes,) for an input of any shape with input_len elements.

        Raises:
            ValueError: the input has another number of elements.
        """
        x = np.asarray(input, np.float64)
        self._input_shape = x.shape
        self._x = x.reshape(1, -1)
        self._probabilities = softmax(dense_forward(self._x, self.weights, self.biases)).reshape(-1)
        return self._probabilities.copy()

    def backprop(self, d_L_d_out: ArrayLike, learn_rate: float) -> FloatArray:
        """Take one step of gradient descent.

        Softmax ties the classes together: raising one score lowers all other probabilities,
        ``dp[k]/dz[m] = p[k] * ((k == m) - p[m])`` (Bishop, "Pattern Recognition and Machine Learning", 2006,
        equation 4.106). Summed over k, ``grad_z[m] = p[m] * (grad_p[m] - sum over k of grad_p[k] * p[k])``.

        Args:
            d_L_d_out: the gradient of the loss for the probabilities (nodes,). In the tutorial it is zero but
                for the true class; here it may be any vector.
            learn_rate: the step's length, a factor on the gradient.

        Returns:
            The gradient for the input, of the input's shape, with the weights as they were before the step.

        Raises:
            ValueError: the gradient has another shape.
        """
        p, grad_p = self._probabilities, _with_axes(d_L_d_out, "d_L_d_out", "(nodes)")
        if grad_p.shape != p.shape:
            raise ValueError(f"d_L_d_out has shape {grad_p.shape}; it must be {p.shape}")
        mean = 0.0
        for k in range(len(p)):
            mean += grad_p[k] * p[k]
        grad_z = np.empty((1, len(p)))
        for m in range(len(p)):
            grad_z[0, m] = p[m] * (grad_p[m] - mean)
        grad_x, grad_weights, grad_biases = dense_backward(grad_z, self._x, self.weights)
        self.weights -= learn_rate * grad_weights
        self.biases -= learn_rate * grad_biases
        return grad_x.reshape(self._input_shape)


def _with_axes(values: ArrayLike, name: str, axes: str) -> FloatArray:
    array = np.array(values, np.float64)  # a copy: the caller may change its own before `backprop`
    if array.ndim != axes.count(",") + 1:
        raise ValueError(f"{name} has shape {array.shape}; it must be {axes}")
    return array
