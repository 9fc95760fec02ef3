"""The tutorial network on many images at once: mini-batch SGD and inference, on all threads.

Images go through in blocks of sixteen, small enough that a block's activations stay in the second-level cache. A batch
is cut into chunks of whole blocks; how many depends on the batch alone. Each chunk sums its own gradient, and the
chunks' gradients are added in their order: results do not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from fastcnn.backends.numba.fused.block import (
    IMAGES,
    backward_block,
    finish_chunk,
    forward_block,
    sample_pointers,
    task_pointers,
)
from fastcnn.backends.numba.fused.geometry import Network, network_pointers, row_of
from fastcnn.backends.numba.jit import jit, jit_inline, jit_part, parallel_jit
from fastcnn.backends.numba.simd import LANES, address, fma, is_finite, load, splat, store

#: Blocks in a chunk, while there are fewer than CHUNKS. Each chunk's gradient crosses from one core to another: more
#: and smaller chunks cost more in that traffic than they gain in balance.
CHUNK_BLOCKS = 2

#: Chunks of a batch at the most, and so threads that one batch can occupy.
CHUNKS = 16


def chunks_of(samples: int) -> int:
    """Into how many chunks a batch of `samples` is cut."""
    return min(-(-samples // (IMAGES * CHUNK_BLOCKS)), CHUNKS)


_chunks_of = jit_inline(chunks_of)


@jit_inline
def _clear(pointer, size):
    for i in range(0, size, LANES):
        store(pointer, i, splat(np.float32(0.0)))


@jit_part
def _learn_chunks(g, images, labels, order, start, stop, task, network, work, gradients, losses, hits):
    """The gradients of task `task`'s chunks of ``order[start:stop]``: forward and backward pass, block by block.

    One call does them all: what is handed over are arrays, whose reference counts all threads write.
    """
    samples = sample_pointers(images, labels, order, losses, hits)
    pointers, weights = task_pointers(work, task), network_pointers(network)
    tasks, chunks, blocks = work.planes.shape[0], _chunks_of(stop - start), -(-(stop - start) // IMAGES)
    for chunk in range(task * chunks // tasks, (task + 1) * chunks // tasks):
        gradient = Network(
            row_of(gradients.filters, chunk),
            row_of(gradients.weights, chunk),
            row_of(gradients.bias, chunk),
            address(gradients.scaling),
        )
        _clear(gradient.filters, gradients.filters.shape[1])
        _clear(gradient.bias, g.padded)
        low = chunk * blocks // chunks
        for block in range(low, (chunk + 1) * blocks // chunks):
            first = start + block * IMAGES
            count = min(IMAGES, stop - first)
            forward_block(g, samples, first, count, weights, pointers, np.bool_(True))
            backward_block(g, samples, first, count, weights, pointers, gradient, block == low)
        finish_chunk(g, pointers, gradient)


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
    samples = sample_pointers(images, labels, order, losses, hits)
    pointers, weights = task_pointers(work, task), network_pointers(network)
    for first in range(low, high, IMAGES):
        count = min(IMAGES, high - first)
        forward_block(g, samples, first, count, weights, pointers, np.bool_(False))
        for n in range(count):
            for k in range(g.classes):
                probabilities[first + n, k] = pointers.delta[n * g.padded + k]
