"""The tutorial network on many images at once: mini-batch SGD and inference, on all threads.

Images go through in blocks of sixteen, small enough that a block's activations stay in the second-level cache. A batch
is cut into chunks of whole blocks; how many depends on the batch alone. Each chunk sums its own gradient, and the
chunks' gradients are added in their order: results do not depend on the number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastcnn.backends.numba.fused.conv import conv3x3_backward, conv3x3_pool_forward, conv_backward, conv_pool_forward
from fastcnn.backends.numba.fused.dense import (
    dense_backward_block,
    dense_forward,
    finish_logits,
    judge,
    probabilities_to_delta,
    softmax,
)
from fastcnn.backends.numba.fused.geometry import BLOCK, Geometry, is_3x3, network_pointers
from fastcnn.backends.numba.fused.image import fetch, split_into_planes, transform_planes
from fastcnn.backends.numba.jit import jit, jit_inline, jit_part, parallel_jit
from fastcnn.backends.numba.simd import (
    LANES,
    address,
    aligned_zeros,
    fma,
    is_finite,
    load,
    shifted,
    splat,
    store,
)

#: Images in a block.
IMAGES = 16

#: Blocks in a chunk, while there are fewer than CHUNKS. Each chunk's gradient crosses from one core to another: more
#: and smaller chunks cost more in that traffic than they gain in balance.
CHUNK_BLOCKS = 2

#: Chunks of a batch at the most, and so threads that one batch can occupy.
CHUNKS = 16


def chunks_of(samples: int) -> int:
    """Into how many chunks a batch of `samples` is cut."""
    return min(-(-samples // (IMAGES * CHUNK_BLOCKS)), CHUNKS)


_chunks_of = jit_inline(chunks_of)


class BlockWorkspace(NamedTuple):
    """What each task needs for a block of images: one row a task."""

    image: NDArray[np.uint8] | NDArray[np.float32]
    planes: NDArray[np.float32]
    transformed: NDArray[np.float32]
    repeats: NDArray[np.uint16]
    pooled: NDArray[np.float32]
    winners: NDArray[np.uint16]
    grad: NDArray[np.float32]
    sums: NDArray[np.float32]
    logits: NDArray[np.float32]
    delta: NDArray[np.float32]


def block_workspace(g: Geometry, tasks: int, pixel: type) -> BlockWorkspace:
    """Room for `tasks` blocks of images whose pixels are of type `pixel` (uint8 or float32)."""
    activations = g.filters * g.vectors
    return BlockWorkspace(
        image=np.zeros((tasks, g.image), pixel),
        planes=aligned_zeros((tasks, IMAGES * g.planes)),
        transformed=aligned_zeros((tasks, IMAGES * 16 * g.vectors * LANES)),
        repeats=np.zeros((tasks, 2 * g.vectors), np.uint16),
        pooled=aligned_zeros((tasks, IMAGES * activations * LANES)),
        winners=np.zeros((tasks, IMAGES * 4 * activations), np.uint16),
        grad=aligned_zeros((tasks, IMAGES * LANES)),
        sums=aligned_zeros((tasks, IMAGES * g.blocks * BLOCK * LANES)),
        logits=aligned_zeros((tasks, IMAGES * g.padded)),
        delta=aligned_zeros((tasks, IMAGES * g.padded)),
    )


@jit_inline
def _row(array, task):
    return shifted(address(array), task * array.shape[1])


@jit_inline
def _task_pointers(work, task):
    return BlockWorkspace(
        _row(work.image, task),
        _row(work.planes, task),
        _row(work.transformed, task),
        _row(work.repeats, task),
        _row(work.pooled, task),
        _row(work.winners, task),
        _row(work.grad, task),
        _row(work.sums, task),
        _row(work.logits, task),
        _row(work.delta, task),
    )


@jit_part
def _forward_block(g, images, labels, order, first, count, network, work, losses, hits, training):
    """Forward pass of ``order[first : first + count]``; leaves their probabilities in `delta`."""
    activations = g.filters * g.vectors
    for n in range(count):
        fetch(g, images, order[first + n], work.image)
        pooled = shifted(work.pooled, n * activations * LANES)
        winners = shifted(work.winners, 4 * n * activations)
        if is_3x3(g):
            transformed = shifted(work.transformed, 16 * n * g.vectors * LANES)
            split_into_planes(g, work.image, network.scaling, work.planes)
            transform_planes(g, work.planes, transformed, work.repeats)
            for f in range(g.filters):
                conv3x3_pool_forward(
                    g, f, transformed, work.repeats, network.filters, pooled, winners, training, network.weights, False
                )
        else:
            planes = shifted(work.planes, n * g.planes)
            split_into_planes(g, work.image, network.scaling, planes)
            for f in range(g.filters):
                conv_pool_forward(g, f, planes, network.filters, pooled, winners, training)
    for f in range(0, g.filters, 2):
        for n in range(count):
            pooled = shifted(work.pooled, n * activations * LANES)
            sums = shifted(work.sums, n * g.blocks * BLOCK * LANES)
            dense_forward(g, f, min(f + 2, g.filters), pooled, network.weights, sums)
    for n in range(count):
        logits = shifted(work.logits, n * g.padded)
        finish_logits(g, shifted(work.sums, n * g.blocks * BLOCK * LANES), network.bias, logits)
        top, denominator = softmax(g, logits, shifted(work.delta, n * g.padded))
        losses[first + n], hits[first + n] = judge(logits, labels[order[first + n]], top, denominator)


@jit_part
def _backward_block(g, labels, order, first, count, network, work, grad_filters, grad_weights, grad_bias):
    """Add the gradients of the block that `_forward_block` has just seen."""
    activations = g.filters * g.vectors
    for n in range(count):
        delta = shifted(work.delta, n * g.padded)
        probabilities_to_delta(g, labels[order[first + n]], delta)
        for k in range(0, g.padded, LANES):
            store(grad_bias, k, load(grad_bias, k) + load(delta, k))
    for f in range(g.filters):
        dense_backward_block(g, f, count, work.pooled, work.delta, network.weights, grad_weights, work.grad)
    if not g.train_conv:
        return
    one = np.float32(1.0)
    for n in range(count):
        planes = shifted(work.planes, n * g.planes)
        transformed = shifted(work.transformed, 16 * n * g.vectors * LANES)
        winners = shifted(work.winners, 4 * n * activations)
        for f in range(g.filters):
            grad = shifted(work.pooled, (n * activations + f * g.vectors) * LANES)
            if is_3x3(g):
                conv3x3_backward(g, f, transformed, winners, grad, one, grad_filters, work.logits)
            else:
                conv_backward(g, f, planes, winners, grad, one, grad_filters)


@jit_inline
def _clear(pointer, size):
    for i in range(0, size, LANES):
        store(pointer, i, splat(np.float32(0.0)))


@jit_part
def _learn_chunk(g, images, labels, order, start, stop, task, chunk, chunks, network, work, gradients, losses, hits):
    """One chunk's gradient: forward and backward pass of its blocks of ``order[start:stop]``."""
    pointers = _task_pointers(work, task)
    weights = network_pointers(network)
    grad_filters, grad_weights = _row(gradients.filters, chunk), _row(gradients.weights, chunk)
    grad_bias = _row(gradients.bias, chunk)
    _clear(grad_filters, gradients.filters.shape[1])
    _clear(grad_weights, gradients.weights.shape[1])
    _clear(grad_bias, g.padded)
    blocks = -(-(stop - start) // IMAGES)
    for block in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
        first = start + block * IMAGES
        count = min(IMAGES, stop - first)
        _forward_block(g, address(images), labels, order, first, count, weights, pointers, losses, hits, True)
        _backward_block(g, labels, order, first, count, weights, pointers, grad_filters, grad_weights, grad_bias)


@jit_part
def _descend(weights, gradients, chunks, factor, part, parts):
    """``weights += factor * sum of the chunks' gradients``, in the chunks' order; part `part` of `parts`."""
    vectors = weights.size // LANES
    target, source = address(weights), address(gradients)
    factors = splat(factor)
    for i in range(part * vectors // parts * LANES, (part + 1) * vectors // parts * LANES, LANES):
        total = load(source, i)
        for chunk in range(1, chunks):
            total = total + load(source, chunk * weights.size + i)
        store(target, i, fma(factors, total, load(target, i)))


@parallel_jit
def train_batches(g, images, labels, order, batch_size, rate, network, work, gradients, losses, hits):
    """Mini-batch SGD over `order`; `gradients` holds one row a chunk. Returns how many samples were learnt."""
    tasks = work.planes.shape[0]
    for start in range(0, order.size, batch_size):
        stop = min(start + batch_size, order.size)
        chunks = _chunks_of(stop - start)
        for task in prange(tasks):
            for chunk in range(task, chunks, tasks):
                _learn_chunk(
                    g,
                    images,
                    labels,
                    order,
                    start,
                    stop,
                    np.intp(task),  # unsigned in the loop, signed outside: one type, or all is compiled for each
                    chunk,
                    chunks,
                    network,
                    work,
                    gradients,
                    losses,
                    hits,
                )
        for n in range(start, stop):
            if not is_finite(losses[n]):
                return n
        factor = -rate / np.float32(stop - start)
        _descend(network.filters, gradients.filters, chunks, factor, 0, 1)
        _descend(network.bias, gradients.bias, chunks, factor, 0, 1)
        for task in prange(tasks):
            _descend(network.weights, gradients.weights, chunks, factor, np.intp(task), tasks)
    return order.size


@jit
def infer(g, images, labels, order, low, high, task, network, work, probabilities, losses, hits):
    """Probabilities (N, classes), losses and hits of the samples ``order[low:high]``; threads share the arrays."""
    pointers = _task_pointers(work, task)
    for first in range(low, high, IMAGES):
        count = min(IMAGES, high - first)
        _forward_block(
            g, address(images), labels, order, first, count, network_pointers(network), pointers, losses, hits, False
        )
        for n in range(count):
            for k in range(g.classes):
                probabilities[first + n, k] = pointers.delta[n * g.padded + k]
