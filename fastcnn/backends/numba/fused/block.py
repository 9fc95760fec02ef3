"""The tutorial network on a block of images: forward pass, and the sums of the gradients, on one thread.

A block is small enough that its activations stay in the second-level cache. What convolutions read of an image stays
in the first: images take turns in groups of a few, filter by filter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastcnn.backends.numba.fused.conv import (
    PRODUCTS,
    add_products,
    conv3x3_backward,
    conv3x3_pool_forward,
    conv3x3_taps,
    conv_backward,
    conv_pool_forward,
    no_products,
)
from fastcnn.backends.numba.fused.dense import (
    dense_backward_block,
    dense_forward,
    dense_forward_two,
    finish_logits,
    judge,
    probabilities_to_delta,
    softmax,
)
from fastcnn.backends.numba.fused.geometry import BLOCK, Geometry, is_3x3, row_of, task_rows
from fastcnn.backends.numba.fused.image import fetch, fetch_ahead, split_into_planes
from fastcnn.backends.numba.fused.windows import (
    collect_gradient,
    find_windows,
    spread_tops,
    transform_windows,
    windows_of_image,
    windows_workspace,
)
from fastcnn.backends.numba.jit import jit_inline, jit_part
from fastcnn.backends.numba.lanes import COMPRESSES
from fastcnn.backends.numba.runs import load_run, store_run
from fastcnn.backends.numba.simd import LANES, address, load, shifted, store

#: Images in a block.
IMAGES = 16

#: Images whose windows are in the first-level cache together: what a filter needs is loaded once for them all. (With
#: eight, that cache is too small, and an image took 12 in a hundred longer.)
GROUP = 4 if COMPRESSES else 2

_ONE = np.float32(1.0)


class BlockWorkspace(NamedTuple):
    """What each task needs for a block of images: one row a task."""

    image: NDArray[np.uint8] | NDArray[np.float32]
    planes: NDArray[np.float32]
    transformed: NDArray[np.float32]  # this and the next four: `Windows` (a parallel loop takes no tuples in tuples)
    repeats: NDArray[np.uint16]
    live: NDArray[np.uint16]
    starts: NDArray[np.int32]
    flat: NDArray[np.float32]
    offsets: NDArray[np.int32]
    tops: NDArray[np.float32]
    pooled: NDArray[np.float32]
    winners: NDArray[np.uint16]
    grad: NDArray[np.float32]
    live_grad: NDArray[np.float32]
    products: NDArray[np.float32]
    sums: NDArray[np.float32]
    logits: NDArray[np.float32]
    delta: NDArray[np.float32]


def block_workspace(g: Geometry, tasks: int, pixel: type) -> BlockWorkspace:
    """Room for `tasks` blocks of images whose pixels are of type `pixel` (uint8 or float32)."""
    activations = g.filters * g.vectors
    return BlockWorkspace(
        image=task_rows(tasks, g.image, pixel),
        planes=task_rows(tasks, IMAGES * g.planes),
        **windows_workspace(g, tasks, IMAGES)._asdict(),
        offsets=task_rows(tasks, (g.vectors + 1) * LANES, np.int32),
        tops=task_rows(tasks, GROUP * (g.vectors + 2) * LANES),
        pooled=task_rows(tasks, IMAGES * activations * LANES),
        winners=task_rows(tasks, IMAGES * 4 * activations, np.uint16),
        grad=task_rows(tasks, IMAGES * LANES),
        live_grad=task_rows(tasks, GROUP * (g.vectors + 2) * LANES),
        products=task_rows(tasks, g.filters * PRODUCTS * LANES),
        sums=task_rows(tasks, IMAGES * g.blocks * BLOCK * LANES),
        logits=task_rows(tasks, IMAGES * g.padded),
        delta=task_rows(tasks, IMAGES * g.padded),
    )


@jit_inline
def task_pointers(work, task):
    return BlockWorkspace(
        row_of(work.image, task),
        row_of(work.planes, task),
        row_of(work.transformed, task),
        row_of(work.repeats, task),
        row_of(work.live, task),
        row_of(work.starts, task),
        row_of(work.flat, task),
        row_of(work.offsets, task),
        row_of(work.tops, task),
        row_of(work.pooled, task),
        row_of(work.winners, task),
        row_of(work.grad, task),
        row_of(work.live_grad, task),
        row_of(work.products, task),
        row_of(work.sums, task),
        row_of(work.logits, task),
        row_of(work.delta, task),
    )


class Samples(NamedTuple):
    """Pointers to what is learnt or judged, and where the figures of sample ``order[i]`` go: element i."""

    images: Any
    labels: Any
    order: Any
    last: int  # element of `order`
    losses: Any
    hits: Any


@jit_inline
def sample_pointers(images, labels, order, losses, hits):
    return Samples(address(images), address(labels), address(order), order.size - 1, address(losses), address(hits))


@jit_inline
def _convolve(g, samples, first, count, network, work, training):
    """Convolution and pooling of ``order[first : first + count]`` for any kernel size and any number of channels."""
    for n in range(count):
        fetch_ahead(g, samples.images, samples.order[min(first + n + 1, samples.last)])
        fetch(g, samples.images, samples.order[first + n], work.image)
        planes = shifted(work.planes, n * g.planes)
        split_into_planes(g, work.image, network.scaling, planes)
        for f in range(g.filters):
            at = (n * g.filters + f) * g.vectors
            to, winners = shifted(work.pooled, at * LANES), shifted(work.winners, 4 * at)
            conv_pool_forward(g, f, planes, network.filters, to, winners, training)


@jit_inline
def _convolve3x3(g, samples, first, count, network, work, training):
    """As `_convolve`, for one channel and 3x3 filters."""
    room = (g.vectors + 2) * LANES
    for low in range(0, count, GROUP):
        high = min(low + GROUP, count)
        for n in range(low, high):
            fetch_ahead(g, samples.images, samples.order[min(first + n + 1, samples.last)])
            fetch(g, samples.images, samples.order[first + n], work.image)
            windows = windows_of_image(g, work, n)
            find_windows(g, work.image, windows, work.offsets)
            transform_windows(g, work.image, network.scaling, work.offsets, windows)
        for f in range(g.filters):
            taps = conv3x3_taps(g, f, network.filters)
            for n in range(low, high):
                at = (n * g.filters + f) * g.vectors
                tops = shifted(work.tops, (n - low) * room) if COMPRESSES else shifted(work.pooled, at * LANES)
                winners = shifted(work.winners, 4 * at)
                conv3x3_pool_forward(g, taps, windows_of_image(g, work, n), tops, winners, training, tops, False)
            for n in range(low, high):
                to = shifted(work.pooled, (n * g.filters + f) * g.vectors * LANES)
                spread_tops(g, windows_of_image(g, work, n), shifted(work.tops, (n - low) * room), to)


@jit_part
def forward_block(g, samples, first, count, network, work, training):
    """Forward pass of ``order[first : first + count]``; leaves their probabilities in `delta`."""
    if is_3x3(g):
        _convolve3x3(g, samples, first, count, network, work, training)
    else:
        _convolve(g, samples, first, count, network, work, training)
    activations = g.filters * g.vectors * LANES
    sums_size = g.blocks * BLOCK * LANES
    for f in range(0, g.filters, 2):
        last = min(f + 2, g.filters)
        for n in range(0, count - 1, 2):
            pooled, sums = shifted(work.pooled, n * activations), shifted(work.sums, n * sums_size)
            dense_forward_two(g, f, last, pooled, activations, network.weights, sums)
        if count & 1:
            pooled, sums = shifted(work.pooled, (count - 1) * activations), shifted(work.sums, (count - 1) * sums_size)
            dense_forward(g, f, last, pooled, network.weights, sums)
    for n in range(count):
        logits = shifted(work.logits, n * g.padded)
        finish_logits(g, shifted(work.sums, n * sums_size), network.bias, logits)
        top, denominator = softmax(g, logits, shifted(work.delta, n * g.padded))
        label = samples.labels[samples.order[first + n]]
        samples.losses[first + n], hit = judge(logits, label, top, denominator)
        samples.hits[first + n] = np.uint8(hit)


@jit_part
def backward_block(g, samples, first, count, network, work, gradient, fresh):
    """Add the gradients of the block that `forward_block` has just seen; where they are `fresh`, they are the first.

    The gradient of 3x3 filters waits in `products` until `finish_chunk`.
    """
    for n in range(count):
        delta = shifted(work.delta, n * g.padded)
        probabilities_to_delta(g, samples.labels[samples.order[first + n]], delta)
        for k in range(0, g.padded, LANES):
            store(gradient.bias, k, load(gradient.bias, k) + load(delta, k))
    for f in range(g.filters):
        dense_backward_block(g, f, count, work.pooled, work.delta, network.weights, gradient.weights, fresh, work.grad)
    if not g.train_conv:
        return
    if is_3x3(g):
        _add_products(g, count, work, fresh)
        return
    for n in range(count):
        for f in range(g.filters):
            at = (n * g.filters + f) * g.vectors
            grad, winners = shifted(work.pooled, at * LANES), shifted(work.winners, 4 * at)
            conv_backward(g, f, shifted(work.planes, n * g.planes), winners, grad, _ONE, gradient.filters)


@jit_inline
def _add_products(g, count, work, fresh):
    room = (g.vectors + 2) * LANES
    for low in range(0, count, GROUP):
        high = min(low + GROUP, count)
        for f in range(g.filters):
            for n in range(low, high):
                grad = shifted(work.pooled, (n * g.filters + f) * g.vectors * LANES)
                collect_gradient(g, windows_of_image(g, work, n), grad, shifted(work.live_grad, (n - low) * room))
            sums, products = shifted(work.products, f * PRODUCTS * LANES), no_products()
            if low > 0 or not fresh:
                products = load_run(sums, products)
            for n in range(low, high):
                at = (n * g.filters + f) * g.vectors
                grad = shifted(work.live_grad, (n - low) * room) if COMPRESSES else shifted(work.pooled, at * LANES)
                products = add_products(g, windows_of_image(g, work, n), shifted(work.winners, 4 * at), grad, products)
            store_run(sums, products)


@jit_part
def finish_chunk(g, work, gradient):
    """Bring the gradient of 3x3 filters from `products` to where it belongs."""
    if g.train_conv and is_3x3(g):
        for f in range(g.filters):
            products = load_run(shifted(work.products, f * PRODUCTS * LANES), no_products())
            conv3x3_backward(g, f, products, _ONE, gradient.filters, work.logits)
