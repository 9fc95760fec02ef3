"""The sizes and the arrays that the fused network's kernels share."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastcnn.backends.numba.jit import jit_inline
from fastcnn.backends.numba.packing import aligned_zeros
from fastcnn.backends.numba.simd import CACHE_LINE, address, shifted

#: Classes that one pass over the pooled activations serves: ten accumulators and ten vectors of weights fit registers.
BLOCK = 10


class Geometry(NamedTuple):
    """The sizes that every kernel needs."""

    height: int
    width: int
    channels: int
    kernel_height: int
    kernel_width: int
    filters: int
    classes: int
    pooled_height: int
    pooled_width: int
    vectors: int  # that hold one filter's windows
    plane: int  # floats from one plane of the image to the next
    planes: int  # floats of all planes
    image: int  # pixels of an image, and behind them what vectors may read too much
    row: int  # floats from one filter's weights to the next
    blocks: int  # of ten classes
    padded: int  # classes, rounded up to whole blocks and whole vectors
    dense: int  # floats of the dense weights
    parameters: int  # floats of all weights
    conv_bias: bool
    first_only: bool  # of several greatest elements the first wins, not all
    train_conv: bool


class Network(NamedTuple):
    """The weights, in the kernels' layout, and the scale and offset of the pixels.

    A filter's weights are one row: its taps, then its bias, padded to whole vectors. Dense weights stand filter by
    filter in blocks of ten classes, ``weights[filter][block][vector][10][LANES]``: one stream of memory, and what one
    filter needs fits the first-level cache.

    The three arrays of weights are parts of one: `weights`, then `filters`, then `bias`.
    """

    filters: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    scaling: NDArray[np.float32]


def task_rows(tasks: int, size: int, dtype: type[np.generic] = np.float32) -> NDArray[Any]:
    """Zeros, a row of at least `size` a task, and an empty cache line between rows.

    A line that two cores write travels between them at each write: where rows touched, two threads were slower than
    one.
    """
    item = np.dtype(dtype).itemsize
    width = (-(-size * item // CACHE_LINE) + 1) * CACHE_LINE // item
    return aligned_zeros((tasks, width), dtype)


@jit_inline
def row_of(array, task):
    """A pointer to row `task` of an array."""
    return shifted(address(array), task * array.shape[1])


@jit_inline
def network_pointers(network):
    """The same tuple with pointers in place of the arrays."""
    return Network(address(network.filters), address(network.weights), address(network.bias), address(network.scaling))


@jit_inline
def is_3x3(g):
    """Whether the quicker kernels for one channel and 3x3 filters apply."""
    return g.kernel_height == 3 and g.kernel_width == 3 and g.channels == 1
