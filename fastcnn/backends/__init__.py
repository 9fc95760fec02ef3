"""The contract: every operation under one name and one signature, on three rungs.

=============  ==========================================================================================
``reference``  plain Python loops in float64. Slow, short, and the truth the other two are held against.
``im2col``     numpy only: windows unrolled into a matrix, then one matrix multiply. No compiler, no warm-up.
``numba``      compiled vector kernels in float32, on all cores. What training uses unless told otherwise.
=============  ==========================================================================================

Arrays are channels last: images ``(N, H, W, C)``, filters ``(kh, kw, C, F)``, dense weights ``(inputs, units)``.
`tests/test_contract.py` compares the three by inspection, so a signature can't drift on one of them alone.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from fastcnn.errors import ArgumentError

BACKENDS = ("reference", "im2col", "numba")

#: The operations every backend has, with the arguments in the same order.
OPERATIONS = (
    "conv2d_forward",  # (x, filters, bias) -> y
    "conv2d_backward",  # (grad_y, x, filters) -> grad_x, grad_filters, grad_bias
    "maxpool2d_forward",  # (x, pool_size, ties) -> y, winners
    "maxpool2d_backward",  # (grad_y, winners, input_shape, pool_size) -> grad_x
    "dense_forward",  # (x, weights, bias) -> y
    "dense_backward",  # (grad_y, x, weights) -> grad_x, grad_weights, grad_bias
    "softmax",  # (logits) -> probabilities
    "softmax_cross_entropy",  # (logits, labels) -> losses, probabilities, grad_logits
)


def get(name: str) -> ModuleType:
    """Return the backend module called `name`: ``"reference"``, ``"im2col"`` or ``"numba"``.

    Raises:
        ArgumentError: there is no such backend.
    """
    if name not in BACKENDS:
        raise ArgumentError(f"backend={name!r} is unknown; choose one of {', '.join(map(repr, BACKENDS))}")
    return importlib.import_module(f"fastcnn.backends.{name}")
