"""Convolution, ReLU where wanted, and 2x2 max-pooling as one operation, forward and backward.

Forward, the four pixels of a pooling window are convolved side by side and leave the registers as one maximum
(`pooled_direct`); for 3x3 filters of many channels `winograd_pooled` does so with fewer multiplications.
Backward, at most one pixel in four has a gradient, and with ReLU often none: both gradients of the convolution are
summed over those alone, exactly, in a quarter of the multiplications of `operations` or less.

That is done by `pooled_lists`; for a network's first layer, of few taps and images that need no gradient, by
`pooled_short`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcnn.backends.numba.conv import pooled_direct, pooled_lists, pooled_short, winograd_pooled, winograd_tiles
from fastcnn.backends.numba.conv.operations import Padding, frame_of
from fastcnn.backends.numba.packing import FloatArray, Workspace, in_vectors, padded_width


def conv_pool_forward(
    x: FloatArray,
    filters: NDArray[Any],
    bias: NDArray[Any] | None,
    padding: Padding,
    relu: bool,
    workspace: Workspace,
) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Convolve images, replace what is negative by zero if `relu`, and take the maxima of 2x2 windows.

    Args:
        x: images (N, H, W, C).
        filters: (kernel height, kernel width, C, F).
        bias: (F,), or None for none.
        padding: rows and columns of zeros added to the images, ((top, bottom), (left, right)).
        relu: whether there is one, before or behind the pooling: that is the same.
        workspace: what the results are kept in.

    Returns:
        The maxima (N, OH // 2, OW // 2, F), where OH and OW are the convolution's output, and which pixel of each
        window it was, 0 to 3, row by row, the first of several; 4 if the maximum is not above zero and `relu` lets no
        gradient pass (N, OH // 2, OW // 2, F in whole vectors).
    """
    frame = frame_of(x.shape, padding)
    height, width = (frame[0] - filters.shape[0] + 1) // 2, (frame[1] - filters.shape[1] + 1) // 2
    count = filters.shape[3]
    y = workspace.array("y", (len(x), height, width, count))
    winners = workspace.array("winners", (len(x), height, width, padded_width(count)), np.uint8)
    least = np.float32(0 if relu else -np.inf)
    start = in_vectors(bias, count)
    if uses_winograd(filters.shape, y.shape):
        winograd_pooled.forward(x, filters, start, least, (-frame[2], -frame[3]), workspace, y, winners)
    else:
        pooled_direct.forward(x, filters, start, least, frame, workspace, y, winners)
    return y, winners


def uses_winograd(kernel: tuple[int, ...], maxima: tuple[int, ...]) -> bool:
    """Whether the maxima of the shape `maxima` are `winograd_pooled`'s, for filters of the shape `kernel`."""
    samples, height, width, count = maxima
    output = (samples, 2 * height, 2 * width, count)
    return winograd_tiles.pays(kernel, output, winograd_pooled.positions_of(maxima))


def conv_pool_backward(
    grad_y: FloatArray,
    winners: NDArray[np.uint8],
    x: FloatArray,
    filters: NDArray[Any],
    padding: Padding,
    wants_input: bool,
    workspace: Workspace,
) -> tuple[FloatArray | None, FloatArray, FloatArray]:
    """Return the gradients of `conv_pool_forward`, summed over the batch.

    Args:
        grad_y: gradient for the maxima (N, OH // 2, OW // 2, F).
        winners: what the forward pass returned: they tell what a ReLU lets pass, too.
        x, filters, padding, workspace: as in the forward pass.
        wants_input: whether the gradient for the images is wanted.

    Returns:
        The gradients for the images (N, H, W, C), or None, for the filters (kernel height, kernel width, C, F) and
        for the bias (F,).
    """
    frame = frame_of(x.shape, padding)
    if wants_input or not pooled_short.is_short(filters.shape):
        return pooled_lists.gradients(grad_y, winners, x, filters, frame, wants_input, workspace)
    kernel = filters.shape[:3]
    grad_filters, grad_bias = pooled_short.filter_gradient(grad_y, winners, x, kernel, frame, workspace)
    return None, grad_filters.reshape(filters.shape), grad_bias
