"""The contract: every operation under one name and one signature, on three rungs.

=============  ==========================================================================================
``reference``  plain Python loops in float64. Slow, short, and the truth the other two are held against.
``im2col``     numpy only: windows unrolled into a matrix, then one matrix multiply. No compiler, no warm-up.
``numba``      compiled vector kernels in float32, on all cores. What training uses unless told otherwise.
=============  ==========================================================================================

Arrays are channels last: images ``(N, H, W, C)``, filters ``(kh, kw, C, F)``, dense weights ``(inputs, units)``.
Strides are ``(vertical, horizontal)``, padding is ``((top, bottom), (left, right))`` in pixels.
`tests/test_contract.py` compares the three by inspection, so a signature can't drift on one of them alone.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from fastcnn.errors import ArgumentError

BACKENDS = ("reference", "im2col", "numba")

#: The operations every backend has, with the arguments in the same order.
OPERATIONS = (
    "conv2d_forward",  # (x, filters, bias, strides, padding) -> y
    "conv2d_backward",  # (grad_y, x, filters, strides, padding) -> grad_x, grad_filters, grad_bias
    "maxpool2d_forward",  # (x, pool_size, ties, strides, padding) -> y, winners
    "maxpool2d_backward",  # (grad_y, winners, input_shape, pool_size, strides, padding) -> grad_x
    "avgpool2d_forward",  # (x, pool_size, strides, padding) -> y
    "avgpool2d_backward",  # (grad_y, input_shape, pool_size, strides, padding) -> grad_x
    "dense_forward",  # (x, weights, bias) -> y
    "dense_backward",  # (grad_y, x, weights) -> grad_x, grad_weights, grad_bias
    "activation_forward",  # (x, name, slope) -> y
    "activation_backward",  # (grad_y, x, name, slope) -> grad_x
    "batchnorm_forward",  # (x, gamma, beta, mean, variance, epsilon) -> y
    "batchnorm_moments",  # (x) -> mean, variance
    "batchnorm_backward",  # (grad_y, x, gamma, mean, variance, epsilon, training) -> grad_x, grad_gamma, grad_beta
    "softmax",  # (logits) -> probabilities
    "softmax_backward",  # (grad_y, y) -> grad_x
    "softmax_cross_entropy",  # (logits, labels) -> losses, probabilities, grad_logits
    "softmax_cross_entropy_soft",  # (logits, targets) -> losses, probabilities, grad_logits
    "mean_squared_error",  # (predictions, targets) -> losses, grad_predictions
)


def get(name: str) -> ModuleType:
    """Return the backend module called `name`: ``"reference"``, ``"im2col"`` or ``"numba"``.

    Raises:
        ArgumentError: there is no such backend.
    """
    if name not in BACKENDS:
        raise ArgumentError(f"backend={name!r} is unknown; choose one of {', '.join(map(repr, BACKENDS))}")
    return importlib.import_module(f"fastcnn.backends.{name}")
