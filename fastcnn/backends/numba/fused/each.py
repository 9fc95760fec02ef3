"""Per-sample SGD on the tutorial network: the whole pass over the data in one compiled loop, on one core."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastcnn.backends.numba.fused.conv import conv3x3_backward, conv3x3_pool_forward, conv_backward, conv_pool_forward
from fastcnn.backends.numba.fused.dense import dense_backward_update, dense_forward, finish_logits, judge, softmax
from fastcnn.backends.numba.fused.geometry import is_3x3, network_pointers
from fastcnn.backends.numba.fused.image import fetch, split_into_planes, transform_planes
from fastcnn.backends.numba.jit import jit, jit_inline
from fastcnn.backends.numba.simd import LANES, address, fma, is_finite, load, shifted, splat, store


class Workspace(NamedTuple):
    """What one thread needs; `planes` and `transformed` hold two images, this step's and the next's."""

    image: NDArray[np.uint8] | NDArray[np.float32]
    planes: NDArray[np.float32]
    transformed: NDArray[np.float32]
    repeats: NDArray[np.uint16]
    pooled: NDArray[np.float32]
    winners: NDArray[np.uint16]
    grad_pooled: NDArray[np.float32]
    sums: NDArray[np.float32]
    logits: NDArray[np.float32]
    delta: NDArray[np.float32]


@jit_inline
def _pointers(network, work):
    """The same tuples with pointers in place of the arrays."""
    return (
        network_pointers(network),
        Workspace(
            address(work.image),
            address(work.planes),
            address(work.transformed),
            address(work.repeats),
            address(work.pooled),
            address(work.winners),
            address(work.grad_pooled),
            address(work.sums),
            address(work.logits),
            address(work.delta),
        ),
    )


@jit_inline
def _slot(g, work, slot):
    """Where the planes and the transform of slot 0 or 1 begin."""
    return shifted(work.planes, slot * g.planes), shifted(work.transformed, slot * 16 * g.vectors * LANES)


@jit_inline
def _prepare(g, images, index, network, work, slot):
    """Bring image `index` into the planes, or planes and transform, of slot 0 or 1."""
    planes, transformed = _slot(g, work, slot)
    fetch(g, images, index, work.image)
    split_into_planes(g, work.image, network.scaling, planes)
    if is_3x3(g):
        transform_planes(g, planes, transformed, work.repeats)


@jit_inline
def _forward(g, f, network, work, slot):
    """One filter's part of the forward pass: convolution, pooling, its share of the logits."""
    planes, transformed = _slot(g, work, slot)
    if is_3x3(g):
        conv3x3_pool_forward(g, f, transformed, work.repeats, network.filters, work.pooled, work.winners)
    else:
        conv_pool_forward(g, f, planes, network.filters, work.pooled, work.winners)
    dense_forward(g, f, work.pooled, network.weights, work.sums)


@jit_inline
def _backward(g, f, network, work, slot, rate):
    """One filter's part of the backward pass and of the SGD step."""
    planes, transformed = _slot(g, work, slot)
    dense_backward_update(g, f, work.pooled, work.delta, rate, network.weights, work.grad_pooled)
    if g.train_conv:
        if is_3x3(g):
            conv3x3_backward(g, f, transformed, work.winners, work.grad_pooled, -rate, network.filters, work.logits)
        else:
            conv_backward(g, f, planes, work.winners, work.grad_pooled, -rate, network.filters)


@jit
def train_each(g, images_array, labels, order, rate, network_arrays, work_arrays):
    """Per-sample SGD: each image sees the weights that the one before it left.

    Filter by filter, this image's backward pass is followed by the next image's forward pass: a filter's dense
    weights travel from the second-level cache to the first once a step instead of twice. No step changes by it,
    because a filter's forward pass needs the update of no other filter.
    """
    network, work = _pointers(network_arrays, work_arrays)
    images = address(images_array)
    loss_sum = 0.0
    correct = 0
    _prepare(g, images, order[0], network, work, 0)
    for f in range(g.filters):
        _forward(g, f, network, work, 0)
    for s in range(order.size):
        finish_logits(g, work.sums, network.bias, work.logits)
        label = labels[order[s]]
        top, denominator = softmax(g, work.logits, work.delta)
        loss, hit = judge(work.logits, label, top, denominator)
        if not is_finite(loss):
            return loss_sum, correct, s
        loss_sum += loss
        correct += hit
        for k in range(g.classes, g.padded):
            work.delta[k] = np.float32(0.0)
        work.delta[label] -= np.float32(1.0)
        for k in range(0, g.padded, LANES):
            store(network.bias, k, fma(splat(-rate), load(work.delta, k), load(network.bias, k)))
        last = s + 1 == order.size
        slot = s & 1
        if not last:
            _prepare(g, images, order[s + 1], network, work, 1 - slot)
        for f in range(g.filters):
            _backward(g, f, network, work, slot, rate)
            if not last:
                _forward(g, f, network, work, 1 - slot)
    return loss_sum, correct, order.size
