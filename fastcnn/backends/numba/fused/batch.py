"""The tutorial network on many images at once: mini-batch SGD and inference, on all threads.

Images go through in blocks of sixteen, small enough that a block's activations stay in the second-level cache. A batch
is cut into chunks of whole blocks; how many depends on the batch alone. Each chunk sums its own gradient, and the
chunks' gradients are added in their order: results do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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
from fastcnn.backends.numba.fused.geometry import BLOCK, Geometry, is_3x3, network_pointers, row_of, task_rows
from fastcnn.backends.numba.fused.image import fetch, fetch_ahead, split_into_planes
from fastcnn.backends.numba.fused.windows import (
    collect_gradient,
    find_windows,
    spread_tops,
    transform_windows,
    windows_of_image,
    windows_workspace,
)
from fastcnn.backends.numba.jit import jit, jit_inline, jit_part, parallel_jit
from fastcnn.backends.numba.lanes import COMPRESSES
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
        tops=task_rows(tasks, (g.vectors + 2) * LANES),
        pooled=task_rows(tasks, IMAGES * activations * LANES),
        winners=task_rows(tasks, IMAGES * 4 * activations, np.uint16),
        grad=task_rows(tasks, IMAGES * LANES),
        live_grad=task_rows(tasks, (g.vectors + 2) * LANES),
        sums=task_rows(tasks, IMAGES * g.blocks * BLOCK * LANES),
        logits=task_rows(tasks, IMAGES * g.padded),
        delta=task_rows(tasks, IMAGES * g.padded),
    )


@jit_inline
def _task_pointers(work, task):
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
def _samples(images, labels, order, losses, hits):
    return Samples(address(images), address(labels), address(order), order.size - 1, address(losses), address(hits))


@jit_part
def _forward_block(g, samples, first, count, network, work, training):
    """Forward pass of ``order[first : first + count]``; leaves their probabilities in `delta`."""
    order = samples.order
    activations = g.filters * g.vectors
    for n in range(count):
        fetch_ahead(g, samples.images, order[min(first + n + 1, samples.last)])
        fetch(g, samples.images, order[first + n], work.image)
        pooled = shifted(work.pooled, n * activations * LANES)
        winners = shifted(work.winners, 4 * n * activations)
        if is_3x3(g):
            windows = windows_of_image(g, work, n)
            find_windows(g, work.image, windows, work.offsets)
            transform_windows(g, work.image, network.scaling, work.offsets, windows)
            for f in range(g.filters):
                to = shifted(pooled, f * g.vectors * LANES)
                tops = work.tops if COMPRESSES else to
                of_filter = shifted(winners, 4 * f * g.vectors)
                conv3x3_pool_forward(g, f, windows, network.filters, tops, of_filter, training, tops, False)
                spread_tops(g, windows, tops, to)
        else:
            planes = shifted(work.planes, n * g.planes)
            split_into_planes(g, work.image, network.scaling, planes)
            for f in range(g.filters):
                to, of_filter = shifted(pooled, f * g.vectors * LANES), shifted(winners, 4 * f * g.vectors)
                conv_pool_forward(g, f, planes, network.filters, to, of_filter, training)
    for f in range(0, g.filters, 2):
        for n in range(count):
            pooled = shifted(work.pooled, n * activations * LANES)
            sums = shifted(work.sums, n * g.blocks * BLOCK * LANES)
            dense_forward(g, f, min(f + 2, g.filters), pooled, network.weights, sums)
    for n in range(count):
        logits = shifted(work.logits, n * g.padded)
        finish_logits(g, shifted(work.sums, n * g.blocks * BLOCK * LANES), network.bias, logits)
        top, denominator = softmax(g, logits, shifted(work.delta, n * g.padded))
        label = samples.labels[order[first + n]]
        samples.losses[first + n], hit = judge(logits, label, top, denominator)
        samples.hits[first + n] = np.uint8(hit)


@jit_part
def _backward_block(g, samples, first, count, network, work, grad_filters, grad_weights, grad_bias):
    """Add the gradients of the block that `_forward_block` has just seen."""
    activations = g.filters * g.vectors
    for n in range(count):
        delta = shifted(work.delta, n * g.padded)
        probabilities_to_delta(g, samples.labels[samples.order[first + n]], delta)
        for k in range(0, g.padded, LANES):
            store(grad_bias, k, load(grad_bias, k) + load(delta, k))
    for f in range(g.filters):
        dense_backward_block(g, f, count, work.pooled, work.delta, network.weights, grad_weights, work.grad)
    if not g.train_conv:
        return
    one = np.float32(1.0)
    for n in range(count):
        planes = shifted(work.planes, n * g.planes)
        windows = windows_of_image(g, work, n)
        for f in range(g.filters):
            grad = shifted(work.pooled, (n * activations + f * g.vectors) * LANES)
            winners = shifted(work.winners, 4 * (n * activations + f * g.vectors))
            if is_3x3(g):
                grad = collect_gradient(g, windows, grad, work.live_grad)
                conv3x3_backward(g, f, windows, winners, grad, one, grad_filters, work.logits)
            else:
                conv_backward(g, f, planes, winners, grad, one, grad_filters)


@jit_inline
def _clear(pointer, size):
    for i in range(0, size, LANES):
        store(pointer, i, splat(np.float32(0.0)))


@jit_part
def _learn_chunks(g, images, labels, order, start, stop, task, network, work, gradients, losses, hits):
    """The gradients of task `task`'s chunks of ``order[start:stop]``: forward and backward pass, block by block.

    One call does them all: what is handed over are arrays, whose reference counts all threads write.
    """
    samples = _samples(images, labels, order, losses, hits)
    pointers, weights = _task_pointers(work, task), network_pointers(network)
    tasks, chunks, blocks = work.planes.shape[0], _chunks_of(stop - start), -(-(stop - start) // IMAGES)
    for chunk in range(task * chunks // tasks, (task + 1) * chunks // tasks):
        grad_filters, grad_weights = row_of(gradients.filters, chunk), row_of(gradients.weights, chunk)
        grad_bias = row_of(gradients.bias, chunk)
        _clear(grad_filters, gradients.filters.shape[1])
        _clear(grad_weights, gradients.weights.shape[1])
        _clear(grad_bias, g.padded)
        for block in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
            first = start + block * IMAGES
            count = min(IMAGES, stop - first)
            _forward_block(g, samples, first, count, weights, pointers, np.bool_(True))
            _backward_block(g, samples, first, count, weights, pointers, grad_filters, grad_weights, grad_bias)


@jit_part
def _descend(weights, gradients, chunks, factor, part, parts):
    """``weights += factor * sum of the chunks' gradients``, in the chunks' order; part `part` of `parts`."""
    vectors = weights.size // LANES
    target, source = address(weights), address(gradients)
    factors = splat(factor)
    for i in range(part * vectors // parts * LANES, (part + 1) * vectors // parts * LANES, LANES):
        total = load(source, i)
        for chunk in range(1, chunks):
            total = total + load(source, chunk * gradients.shape[1] + i)
        store(target, i, fma(factors, total, load(target, i)))


@parallel_jit
def train_batches(g, images, labels, order, batch_size, rate, network, work, gradients, losses, hits):
    """Mini-batch SGD over `order`; `gradients` holds one row a chunk. Returns how many samples were learnt.

    Arguments are made np.intp and np.bool_ because a constant, or the unsigned index of a parallel loop, is a type of
    its own, for which the kernel would be compiled once more.
    """
    tasks = work.planes.shape[0]
    for start in range(0, order.size, batch_size):
        stop = min(start + batch_size, order.size)
        chunks = _chunks_of(stop - start)
        for task in prange(tasks):
            _learn_chunks(g, images, labels, order, start, stop, np.intp(task), network, work, gradients, losses, hits)
        for n in range(start, stop):
            if not is_finite(losses[n]):
                return n
        factor = -rate / np.float32(stop - start)
        _descend(network.filters, gradients.filters, chunks, factor, np.intp(0), np.intp(1))
        _descend(network.bias, gradients.bias, chunks, factor, np.intp(0), np.intp(1))
        for task in prange(tasks):
            _descend(network.weights, gradients.weights, chunks, factor, np.intp(task), tasks)
    return order.size


@jit
def infer(g, images, labels, order, low, high, task, network, work, probabilities, losses, hits):
    """Probabilities (N, classes), losses and hits of the samples ``order[low:high]``; threads share the arrays."""
    samples = _samples(images, labels, order, losses, hits)
    pointers, weights = _task_pointers(work, task), network_pointers(network)
    for first in range(low, high, IMAGES):
        count = min(IMAGES, high - first)
        _forward_block(g, samples, first, count, weights, pointers, np.bool_(False))
        for n in range(count):
            for k in range(g.classes):
                probabilities[first + n, k] = pointers.delta[n * g.padded + k]
