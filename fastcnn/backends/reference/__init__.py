"""The truth: every operation as plain Python loops, in float64, one number at a time.

Nothing here is clever and nothing is shared: this folder imports numpy, as a container and for nothing else,
and the standard library's `math`. Each family of operations is a file. The loops follow the sums in the
docstrings index by index, so each can be checked by eye, and everything fast in this package is checked
against them. Read it first; the fast backends have the same names and the same arguments.

The letters, here and in all of the documentation: N samples; H, W an image's height and width; C channels; F
filters of KH x KW; D inputs and U units of a dense layer; K classes. Images are (N, H, W, C), channels last.
``grad_x`` is the gradient of the loss for ``x``: one number for each element of x. Gradients are summed over
the batch, never divided by N.

Arguments may be anything that numpy makes an array of; results are float64. The loops run over nested lists
(``tolist``), which Python indexes twice as fast as arrays.
"""

from __future__ import annotations

import numpy as np

from fastcnn.backends.reference.activations import activation_backward, activation_forward
from fastcnn.backends.reference.arrays import FloatArray
from fastcnn.backends.reference.conv import conv2d_backward, conv2d_forward
from fastcnn.backends.reference.dense import dense_backward, dense_forward
from fastcnn.backends.reference.losses import (
    mean_squared_error,
    softmax,
    softmax_backward,
    softmax_cross_entropy,
    softmax_cross_entropy_soft,
)
from fastcnn.backends.reference.normalization import batchnorm_backward, batchnorm_forward, batchnorm_moments
from fastcnn.backends.reference.pool import (
    avgpool2d_backward,
    avgpool2d_forward,
    maxpool2d_backward,
    maxpool2d_forward,
)

#: What a model keeps its weights in on this rung.
DTYPE = np.float64

__all__ = [
    "DTYPE",
    "FloatArray",
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
