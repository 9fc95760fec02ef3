"""The fast rung: compiled vector kernels in float32, on all cores.

The operations have the names and arguments of `fastcnn.backends.reference` and compute in float32 whatever
they are given. Results are the same bit for bit on any number of threads. Kernels are compiled at their first
call and kept on
disk: `fastcnn.backends.numba.jit` says where.
"""

from __future__ import annotations

import numpy as np

from fastcnn.backends.numba.conv import conv2d_backward, conv2d_forward
from fastcnn.backends.numba.dense import dense_backward, dense_forward
from fastcnn.backends.numba.pool import maxpool2d_backward, maxpool2d_forward
from fastcnn.backends.numba.softmax import softmax, softmax_cross_entropy

#: What a model keeps its weights in on this rung.
DTYPE = np.float32

__all__ = [
    "DTYPE",
    "conv2d_backward",
    "conv2d_forward",
    "dense_backward",
    "dense_forward",
    "maxpool2d_backward",
    "maxpool2d_forward",
    "softmax",
    "softmax_cross_entropy",
]
