"""The fast rung: compiled vector kernels in float32, on all cores.

The operations have the names and arguments of `fastcnn.backends.reference` and compute in float32 whatever
they are given. Results are the same bit for bit on any number of threads. Kernels are compiled at their first
call and kept on disk: `fastcnn.backends.numba.jit` says where.
"""

from __future__ import annotations

import numpy as np

from fastcnn.backends.numba.activations import activation_backward, activation_forward
from fastcnn.backends.numba.conv.operations import conv2d_backward, conv2d_forward
from fastcnn.backends.numba.dense import dense_backward, dense_forward
from fastcnn.backends.numba.losses import mean_squared_error
from fastcnn.backends.numba.normalization import batchnorm_backward, batchnorm_forward, batchnorm_moments
from fastcnn.backends.numba.pool import avgpool2d_backward, avgpool2d_forward, maxpool2d_backward, maxpool2d_forward
from fastcnn.backends.numba.softmax import (
    softmax,
    softmax_backward,
    softmax_cross_entropy,
    softmax_cross_entropy_soft,
)

#: What a model keeps its weights in on this rung.
DTYPE = np.float32

__all__ = [
    "DTYPE",
    "activation_backward",
    "activation_forward",
    "avgpool2d_backward",
    "avgpool2d_forward",
    "batchnorm_backward",
    "batchnorm_forward",
    "batchnorm_moments",
    "conv2d_backward",
    "conv2d_forward",
    "dense_backward",
    "dense_forward",
    "maxpool2d_backward",
    "maxpool2d_forward",
    "mean_squared_error",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_soft",
]
