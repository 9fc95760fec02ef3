"""Per-sample SGD on the tutorial network: the whole pass over the data in one compiled loop, on one core."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastcnn.backends.numba.fused.conv import (
    add_products,
    conv3x3_backward,
    conv3x3_pool_forward,
    conv3x3_taps,
    conv_backward,
    conv_pool_forward,
    no_products,
)
from fastcnn.backends.numba.fused.dense import (
    dense_backward,
    dense_backward_update,
    dense_forward,
    dot,
    finish_logits,
    judge,
    probabilities_to_delta,
    softmax,
)
from fastcnn.backends.numba.fused.geometry import BLOCK, Geometry, is_3x3, network_pointers
from fastcnn.backends.numba.fused.image import fetch, fetch_ahead, split_into_planes
from fastcnn.backends.numba.fused.windows import (
    Windows,
    collect_gradient,
    find_windows,
    spread_tops,
    transform_windows,
    windows_of_image,
    windows_of_task,
    windows_workspace,
)
from fastcnn.backends.numba.jit import jit, jit_inline
from fastcnn.backends.numba.lanes import COMPRESSES, sum_lanes
from fastcnn.backends.numba.packing import aligned_zeros
from fastcnn.backends.numba.simd import (
    LANES,
    address,
    fma,
    is_finite,
    load,
    shifted,
    splat,
    store,
)


class Workspace(NamedTuple):
    """What one thread needs; most of it twice, for this step's image and the next's."""

    image: NDArray[np.uint8] | NDArray[np.float32]
    planes: NDArray[np.float32]
    windows: Windows
    offsets: NDArray[np.int32]
    tops: NDArray[np.float32]
    pooled: NDArray[np.float32]
    winners: NDArray[np.uint16]
    grad_pooled: NDArray[np.float32]
    live_grad: NDArray[np.float32]
    sums: NDArray[np.float32]
    logits: NDArray[np.float32]
    delta: NDArray[np.float32]


def one_image_workspace(g: Geometry, pixel: type) -> Workspace:
    """Room for the steps of one thread on images whose pixels are of type `pixel` (uint8 or float32)."""
    return Workspace(
        image=np.zeros(g.image, pixel),
        planes=aligned_zeros(2 * g.planes),
        windows=windows_workspace(g, 1, 2),
        offsets=np.zeros((g.vectors + 1) * LANES, np.int32),
        tops=aligned_zeros(2 * (g.vectors + 2) * LANES),
        pooled=aligned_zeros(2 * g.filters * g.vectors * LANES),
        winners=np.zeros(4 * g.filters * g.vectors, np.uint16),
        grad_pooled=aligned_zeros(g.vectors * LANES),
        live_grad=aligned_zeros((g.vectors + 2) * LANES),
        sums=aligned_zeros(g.blocks * BLOCK * LANES),
        logits=aligned_zeros(g.padded),
        delta=aligned_zeros(2 * g.padded),
    )


@jit_inline
def _pointers(work):
    """The same tuple with pointers in place of the arrays."""
    return Workspace(
        address(work.image),
        address(work.planes),
        windows_of_task(work.windows, 0),
        address(work.offsets),
        address(work.tops),
        address(work.pooled),
        address(work.winners),
        address(work.grad_pooled),
        address(work.live_grad),
        address(work.sums),
        address(work.logits),
        address(work.delta),
    )


@jit_inline
def _slot(g, work, slot):
    """The workspace of slot 0 or 1."""
    return Workspace(
        work.image,
        shifted(work.planes, slot * g.planes),
        windows_of_image(g, work.windows, slot),
        work.offsets,
        work.tops,
        shifted(work.pooled, slot * g.filters * g.vectors * LANES),
        work.winners,
        work.grad_pooled,
        work.live_grad,
        work.sums,
        work.logits,
        shifted(work.delta, slot * g.padded),
    )


@jit_inline
def _prepare(g, images, index, soon, network, work):
    """Bring image `index` into the planes, and where that pays into its transform; ask the memory for image `soon`."""
    fetch_ahead(g, images, soon)
    fetch(g, images, index, work.image)
    if is_3x3(g):
        find_windows(g, work.image, work.windows, work.offsets)
        transform_windows(g, work.image, network.scaling, work.offsets, work.windows)
    else:
        split_into_planes(g, work.image, network.scaling, work.planes)


@jit_inline
def _filter_weights(g, f, network):
    """Where filter `f`'s dense weights begin."""
    return shifted(network.weights, f * g.blocks * g.vectors * BLOCK * LANES)


@jit_inline
def _of_filter(g, f, pointer, size):
    return shifted(pointer, f * g.vectors * size)


@jit_inline
def _tops(g, f, work, pooled):
    """Where filter `f`'s pooled values go first."""
    return shifted(work.tops, (f & 1) * (g.vectors + 2) * LANES) if COMPRESSES else pooled


@jit_inline
def _forward(g, network, work):
    """Convolution, pooling and the dense sums of one image, two filters at a time."""
    for first in range(0, g.filters, 2):
        last = min(first + 2, g.filters)
        for f in range(first, last):
            pooled, winners = _of_filter(g, f, work.pooled, LANES), _of_filter(g, f, work.winners, 4)
            if is_3x3(g):
                tops = _tops(g, f, work, pooled)
                soon = _filter_weights(g, f, network)
                taps = conv3x3_taps(g, f, network.filters)
                conv3x3_pool_forward(g, taps, work.windows, tops, winners, True, soon, True)
            else:
                conv_pool_forward(g, f, work.planes, network.filters, pooled, winners, True)
        if is_3x3(g):
            for f in range(first, last):
                pooled = _of_filter(g, f, work.pooled, LANES)
                spread_tops(g, work.windows, _tops(g, f, work, pooled), pooled)
        dense_forward(g, first, last, work.pooled, network.weights, work.sums)


@jit_inline
def _backward(g, network, work, held, update, coupling, rate):
    """One image's backward pass; with `update` the dense weights take its step and the held one's, else they wait."""
    for f in range(g.filters - 1, -1, -1):
        if update:
            dense_backward_update(
                g,
                f,
                work.pooled,
                work.delta,
                held.pooled,
                held.delta,
                coupling,
                rate,
                network.weights,
                work.grad_pooled,
            )
        else:
            dense_backward(g, f, work.delta, network.weights, work.grad_pooled)
        if g.train_conv:
            winners = _of_filter(g, f, work.winners, 4)
            if is_3x3(g):
                grad = collect_gradient(g, work.windows, work.grad_pooled, work.live_grad)
                products = add_products(g, work.windows, winners, grad, no_products())
                conv3x3_backward(g, f, products, -rate, network.filters, work.logits)
            else:
                conv_backward(g, f, work.planes, winners, work.grad_pooled, -rate, network.filters)


@jit_inline
def _add_held(g, held, work, rate):
    """What the held step adds to the logits: ``-rate * (held_x . x) * held_d``."""
    factor = splat(-rate * dot(g, held.pooled, work.pooled))
    for k in range(0, g.padded, LANES):
        store(work.logits, k, fma(factor, load(held.delta, k), load(work.logits, k)))


@jit_inline
def _release(g, held, rate, weights):
    """Give the dense weights the step held back."""
    for f in range(g.filters):
        for block in range(g.blocks):
            for v in range(g.vectors):
                x = splat(-rate) * load(held.pooled, (f * g.vectors + v) * LANES)
                w = ((f * g.blocks + block) * g.vectors + v) * BLOCK * LANES
                for k in range(BLOCK):
                    d = splat(held.delta[block * BLOCK + k])
                    store(weights, w + k * LANES, fma(x, d, load(weights, w + k * LANES)))


@jit
def train_each(g, images_array, labels, order, rate, network_arrays, work_arrays):
    """Per-sample SGD: each image sees the weights that the one before it left.

    The dense weights are most of the network, and what limits their part of a step is reading and writing them in the
    first-level cache. So they are written every second step only: one step is held back, the next computes with
    ``W - rate * x * d'`` without writing it, and takes both steps at once. Only rounding differs from the plain order.
    """
    network, workspace = network_pointers(network_arrays), _pointers(work_arrays)
    images = address(images_array)
    loss_sum = 0.0
    correct = 0
    done = 0
    holding = done > 0  # as a literal, False is a type of its own, and `_backward` would be compiled for it, too
    first = _slot(g, workspace, 0)
    _prepare(g, images, order[0], order[min(1, order.size - 1)], network, first)
    _forward(g, network, first)
    for s in range(order.size):
        work, other = _slot(g, workspace, s & 1), _slot(g, workspace, 1 - (s & 1))
        finish_logits(g, work.sums, network.bias, work.logits)
        if holding:
            _add_held(g, other, work, rate)
        label = labels[order[s]]
        top, denominator = softmax(g, work.logits, work.delta)
        loss, hit = judge(work.logits, label, top, denominator)
        if not is_finite(loss):
            break
        loss_sum += loss
        correct += hit
        coupling = np.float32(0.0)
        probabilities_to_delta(g, label, work.delta)
        for k in range(0, g.padded, LANES):
            store(network.bias, k, fma(splat(-rate), load(work.delta, k), load(network.bias, k)))
            coupling -= rate * sum_lanes(load(work.delta, k) * load(other.delta, k))
        last = s + 1 == order.size
        if not last:
            _prepare(g, images, order[s + 1], order[min(s + 2, order.size - 1)], network, other)
        _backward(g, network, work, other, holding, coupling, rate)
        holding = not holding
        if not last:
            _forward(g, network, other)
        done += 1
    if holding:
        _release(g, _slot(g, workspace, (done - 1) & 1), rate, network.weights)
    return loss_sum, correct, done
