"""The tutorial network on many images at once: mini-batch SGD and inference, on all threads.

Images go through in blocks of sixteen, small enough that a block's activations stay in the second-level cache. A batch
is cut into chunks of whole blocks; how many depends on the batch alone. Each chunk sums its own gradient, and the
chunks' gradients are added in pairs, the pairs' in pairs, and so forth: results do not depend on the number of threads.
Where a thread has made both parts of such a sum it makes the sum, too, while they are in its core's cache: with two or
four threads, one gradient a thread crosses to other cores, and not one a chunk.
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
from fastcnn.backends.numba.simd import LANES, address, fma, is_finite, load, shifted, splat, store

#: Blocks in a chunk, while there are fewer than CHUNKS; a batch of two or three blocks is cut, too.
CHUNK_BLOCKS = 2

#: Chunks of a batch at the most, and so threads that one batch can occupy.
CHUNKS = 16


def chunks_of(samples: int) -> int:
    """Into how many chunks a batch of `samples` is cut: a power of two."""
    blocks = -(-samples // IMAGES)
    most = min(max(blocks // CHUNK_BLOCKS, min(blocks, 2)), CHUNKS)
    chunks = 1
    while 2 * chunks <= most:
        chunks *= 2
    return chunks


_chunks_of = jit_inline(chunks_of)


@jit_inline
def _gradient_of(g, gradients, chunk):
    """Pointers into a chunk's row, which has the order of the weights; `scaling`, which isn't learnt, is not there."""
    row = row_of(gradients, chunk)
    filters = shifted(row, g.dense)
    return Network(filters, row, shifted(filters, g.filters * g.row), row)


@jit_inline
def _clear(pointer, size):
    for i in range(0, size, LANES):
        store(pointer, i, splat(np.float32(0.0)))


@jit_inline
def _add(target, source, low, high):
    for i in range(low, high, LANES):
        store(target, i, load(target, i) + load(source, i))


@jit_inline
def _same_task(first, last, chunks, tasks):
    """Whether all chunks from `first` to `last` belong to one task."""
    return ((first + 1) * tasks - 1) // chunks == ((last + 1) * tasks - 1) // chunks


@jit_part
def _learn_chunks(g, images, labels, order, start, stop, task, network, work, gradients, losses, hits):
    """The gradients of task `task`'s chunks of ``order[start:stop]``: forward and backward pass, block by block.

    One call does them all: what is handed over are arrays, whose reference counts all threads write.
    """
    samples = sample_pointers(images, labels, order, losses, hits)
    pointers, weights = task_pointers(work, task), network_pointers(network)
    tasks, chunks, blocks = work.planes.shape[0], _chunks_of(stop - start), -(-(stop - start) // IMAGES)
    for chunk in range(task * chunks // tasks, (task + 1) * chunks // tasks):
        gradient = _gradient_of(g, gradients, chunk)
        _clear(gradient.filters, g.filters * g.row + g.padded)
        low = chunk * blocks // chunks
        for block in range(low, (chunk + 1) * blocks // chunks):
            first = start + block * IMAGES
            count = min(IMAGES, stop - first)
            forward_block(g, samples, first, count, weights, pointers, np.bool_(True))
            backward_block(g, samples, first, count, weights, pointers, gradient, block == low)
        finish_chunk(g, pointers, gradient)
        pair = 2
        while pair < chunks and (chunk + 1) % pair == 0 and _same_task(chunk + 1 - pair, chunk, chunks, tasks):
            left, right = row_of(gradients, chunk + 1 - pair), row_of(gradients, chunk + 1 - pair // 2)
            _add(left, right, 0, g.parameters)
            pair *= 2


@jit_part
def _descend(g, network, gradients, chunks, factor, task, tasks):
    """``weights += factor * sum of the chunks' gradients`` for task `task`'s part of the weights.

    Chunks are added in pairs, then the pairs' sums in pairs, and so forth: most of these sums their task has made.
    """
    vectors = g.parameters // LANES
    low, high = task * vectors // tasks * LANES, (task + 1) * vectors // tasks * LANES
    pair = 2
    while pair < chunks:
        for chunk in range(0, chunks, pair):
            if not _same_task(chunk, chunk + pair - 1, chunks, tasks):
                _add(row_of(gradients, chunk), row_of(gradients, chunk + pair // 2), low, high)
        pair *= 2
    target, one, two = address(network.weights), row_of(gradients, 0), row_of(gradients, chunks // 2)
    factors = splat(factor)
    for i in range(low, high, LANES):
        total = load(one, i)
        if chunks > 1:
            total = total + load(two, i)
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
        for task in prange(tasks):
            _learn_chunks(g, images, labels, order, start, stop, np.intp(task), network, work, gradients, losses, hits)
        for n in range(start, stop):
            if not is_finite(losses[n]):
                return n
        chunks, factor = _chunks_of(stop - start), -rate / np.float32(stop - start)
        for task in prange(tasks):
            _descend(g, network, gradients, chunks, factor, np.intp(task), tasks)
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
