"""One step of training the tutorial's network, on any backend, and how far float32 arithmetic may be from it.

Rounding has a bound, which is computed here element by element and not chosen:

* A sum of n products in floating point, in whatever order, is off by at most gamma(n) * sum |a||b| with
  gamma(n) = n u / (1 - n u), u = 2^-24 for float32 (N. Higham, "Accuracy and Stability of Numerical
  Algorithms", 2002, section 3.1). Where the factors carry errors da and db of their own, the whole is off by
  at most (1 + gamma(n)) sum (|a| + da)(|b| + db) - sum |a||b|. Both sums are the reference's own operation,
  run on absolute values.
* Max-pooling passes on the greatest error of its window. Two elements of a window that are closer to each
  other than their errors may win either way, so there the gradient is uncertain by the whole of itself; but
  not where both see equal pixels, because equal sums must tie.
* Softmax: an error of d in the logits changes a probability by a factor of at most exp(2 d).
* The fused kernel computes 3x3 convolutions and their filter gradients by minimal filtering, F(2x2, 3x3) (S. Winograd,
  "Arithmetic Complexity of Computations", 1980). Its sums and differences of neighbours add up to at most 4 x 4 times
  the magnitudes of a plain sum of products, and all of a window's pixels, or a filter's taps, share in them.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fastcnn.backends import reference

Array = NDArray[Any]

UNIT_ROUNDOFF = 2.0**-24
POOL = (2, 2)
TIES: Literal["all"] = "all"
#: Roundings of exp, log and a division, together.
ELEMENTARY = 8
#: What minimal filtering adds to the magnitudes of a sum of products.
MINIMAL_FILTERING = 16


class Weights(NamedTuple):
    """The network's weights: filters (kh, kw, 1, F), weights (D, K), bias (K,)."""

    filters: Array
    weights: Array
    bias: Array

    def cast(self, dtype: Any) -> Weights:
        return Weights(*(array.astype(dtype) for array in self))


class Step(NamedTuple):
    """Everything that one step computes for one image; or for each number of it, its bound."""

    conv: Array
    pool: Array
    logits: Array
    losses: Array
    probabilities: Array
    grad_logits: Array
    grad_pool: Array
    grad_weights: Array
    grad_bias: Array
    grad_conv: Array
    grad_filters: Array
    after: Weights


def step(ops: ModuleType, x: Array, label: Array, net: Weights, learning_rate: float) -> Step:
    """Train on one image, one operation after another.

    Args:
        ops: a backend's module.
        x: the image (1, H, W, 1), scaled.
        label: (1,).
        net: the weights before the step.
        learning_rate: of plain SGD.
    """
    conv = ops.conv2d_forward(x, net.filters, None)
    pool, winners = ops.maxpool2d_forward(conv, POOL, TIES)
    flat = pool.reshape(1, -1)
    logits = ops.dense_forward(flat, net.weights, net.bias)
    losses, probabilities, grad_logits = ops.softmax_cross_entropy(logits, label)
    grad_flat, grad_weights, grad_bias = ops.dense_backward(grad_logits, flat, net.weights)
    grad_pool = grad_flat.reshape(pool.shape)
    grad_conv = ops.maxpool2d_backward(grad_pool, winners, conv.shape, POOL)
    _, grad_filters, _ = ops.conv2d_backward(grad_conv, x, net.filters)
    gradients = (grad_filters, grad_weights, grad_bias)
    after = Weights(*(w - w.dtype.type(learning_rate) * g for w, g in zip(net, gradients, strict=True)))
    return Step(
        conv, pool, logits, losses, probabilities, grad_logits, grad_pool, grad_weights, grad_bias, grad_conv,
        grad_filters, after,
    )  # fmt: skip


def step_bounds(
    truth: Step, x: Array, offset: float, net: Weights, learning_rate: float, *, fused: bool = False
) -> Step:
    """For every number of a step, how far float32 arithmetic may be from it.

    Args:
        truth: what the reference computed.
        x: the image of that step (1, H, W, 1) in float64, scaled, and `offset` added to it.
        offset: what was added, in float32 a rounding of its own.
        net: the weights before the step; float32 holds them exactly.
        learning_rate: of plain SGD.
        fused: whether 3x3 convolutions are computed by minimal filtering.
    """
    dx = gamma(3) * (np.abs(x - offset) + abs(offset))
    size, filters = np.abs(net.filters), net.filters
    taps, inputs, classes = filters[..., 0].size, len(net.weights), len(net.bias)

    conv = reference.conv2d_forward(np.abs(x), size, None)
    largest = reference.conv2d_forward(np.abs(x) + dx, size, None)
    if fused:
        shared = (np.abs(x) + dx).max() * size.sum(axis=(0, 1, 2))
        d_conv = largest - conv + MINIMAL_FILTERING * gamma(taps + ELEMENTARY) * shared
    else:
        d_conv = spread(conv, largest, taps)
    d_pool, _ = reference.maxpool2d_forward(d_conv, POOL, "first")

    flat, d_flat = np.abs(truth.pool).reshape(1, -1), d_pool.reshape(1, -1)
    matrix, bias = np.abs(net.weights), np.abs(net.bias)
    logits = reference.dense_forward(flat, matrix, bias)
    d_logits = spread(logits, reference.dense_forward(flat + d_flat, matrix, bias), inputs + 1)

    distance = np.abs(truth.logits - truth.logits.max())
    relative = np.expm1(2.0 * d_logits.max() + gamma(classes + ELEMENTARY) + gamma(4) * distance.max())
    d_probabilities = relative * truth.probabilities
    d_losses = relative + gamma(4) * (truth.losses + distance.max() + np.log(classes))
    grad_logits = np.abs(truth.grad_logits)
    d_grad_logits = d_probabilities + gamma(1) * grad_logits

    low = reference.dense_backward(grad_logits, flat, matrix)
    high = reference.dense_backward(grad_logits + d_grad_logits, flat + d_flat, matrix)
    d_grad_flat, d_grad_weights, d_grad_bias = map(spread, low, high, (classes, 1, 1))

    d_grad_pool = d_grad_flat.reshape(truth.pool.shape)
    d_grad_conv = _pool_gradient_bound(truth, x, filters.shape, d_conv, d_grad_pool)

    outputs = conv[..., 0].size
    _, grad_filters, _ = reference.conv2d_backward(np.abs(truth.grad_conv), np.abs(x), filters)
    _, largest, _ = reference.conv2d_backward(np.abs(truth.grad_conv) + d_grad_conv, np.abs(x) + dx, filters)
    if fused:
        shared = largest.max(axis=(0, 1))
        d_grad_filters = largest - grad_filters + MINIMAL_FILTERING * gamma(outputs + ELEMENTARY) * shared
    else:
        d_grad_filters = spread(grad_filters, largest, outputs)

    errors = (d_grad_filters, d_grad_weights, d_grad_bias)
    gradients = (truth.grad_filters, truth.grad_weights, truth.grad_bias)
    after = (
        learning_rate * error + gamma(3) * (np.abs(w) + learning_rate * np.abs(gradient))
        for w, gradient, error in zip(net, gradients, errors, strict=True)
    )
    return Step(
        d_conv, d_pool, d_logits, d_losses, d_probabilities, d_grad_logits, d_grad_pool, d_grad_weights,
        d_grad_bias, d_grad_conv, d_grad_filters, Weights(*after),
    )  # fmt: skip


def spread(magnitude: Array, largest: Array, terms: int) -> Array:
    """The bound of a sum of `terms` products, from sum |a||b| and from sum (|a| + da)(|b| + db)."""
    return (1.0 + gamma(terms)) * largest - magnitude


def gamma(roundings: int) -> float:
    """The greatest relative error of a number that went through so many roundings to float32."""
    return roundings * UNIT_ROUNDOFF / (1.0 - roundings * UNIT_ROUNDOFF)


def _pool_gradient_bound(
    truth: Step, x: Array, filters_shape: tuple[int, ...], d_conv: Array, d_grad_pool: Array
) -> Array:
    """The bound of max-pooling's input gradient; the whole gradient where float32 may choose another
    winner."""
    shape = truth.conv.shape
    largest, winners = reference.maxpool2d_forward(truth.conv, POOL, TIES)
    d_largest, _ = reference.maxpool2d_forward(d_conv, POOL, TIES)
    gap, error = largest[:, :, :, None] - _windows(truth.conv), _windows(d_conv) + d_largest[:, :, :, None]
    rivals = gap <= error  # N, OH, OW, elements of a window, F

    patches = sliding_window_view(x[..., 0], filters_shape[:2], axis=(1, 2))  # N, H, W, kh, kw
    patches = _windows(patches.reshape(*patches.shape[:3], -1))
    equal = (patches[:, :, :, :, None] == patches[:, :, :, None]).all(axis=-1)  # of each two elements of a window
    first = winners.argmax(axis=3)
    as_the_winner = np.take_along_axis(equal, first[..., None], axis=3).swapaxes(3, 4)
    uncertain = rivals & (rivals & ~as_the_winner).any(axis=3, keepdims=True)

    certain = reference.maxpool2d_backward(d_grad_pool, winners, shape, POOL)
    whole = reference.maxpool2d_backward(np.abs(truth.grad_pool) + d_grad_pool, uncertain, shape, POOL)
    return np.maximum(certain, whole)


def _windows(x: Array) -> Array:
    """Lay out the pooling windows of (N, H, W, C) as (N, OH, OW, elements of a window, C)."""
    (n, h, w, c), (ph, pw) = x.shape, POOL
    oh, ow = h // ph, w // pw
    blocks = x[:, : oh * ph, : ow * pw].reshape(n, oh, ph, ow, pw, c)
    return blocks.swapaxes(2, 3).reshape(n, oh, ow, ph * pw, c)
