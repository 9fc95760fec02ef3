"""How kernels want their arrays: of one type, and matrices in whole vectors, in the order they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.backends.numba.simd import LANES, aligned_zeros

FloatArray = NDArray[np.float32]

#: Rows that a multiplying kernel takes at once: one accumulator each, enough of them to hide the latency of
#: `fma`.
ROWS = 8


def float32(array: NDArray[Any]) -> FloatArray:
    """Return `array` as kernels take float32 arrays: itself where it is `plain` already."""
    return plain(array, np.float32)


def plain(array: ArrayLike, dtype: type[np.generic]) -> NDArray[Any]:
    """Return `array`, or a copy of it where it is not C-contiguous, aligned, writeable and of `dtype`.

    To the compiler a read-only or unaligned array is another type, for which it would compile a kernel once
    more.
    """
    return np.require(array, dtype, ["C", "A", "W"])


def padded_width(width: int) -> int:
    """Return `width` rounded up to whole vectors."""
    return -(-width // LANES) * LANES


def panels(matrix: FloatArray) -> FloatArray:
    """Cut a matrix (rows, columns) into vertical strips one vector wide, (strips, rows, LANES)."""
    rows, columns = matrix.shape
    packed = aligned_zeros((padded_width(columns) // LANES, rows, LANES))
    whole = columns // LANES
    packed[:whole] = matrix[:, : whole * LANES].reshape(rows, whole, LANES).swapaxes(0, 1)
    if whole < len(packed):
        packed[whole, :, : columns - whole * LANES] = matrix[:, whole * LANES :]
    return packed


def padded_rows(matrix: FloatArray) -> FloatArray:
    """Pad each row of a matrix (rows, columns) with zeros to whole vectors."""
    padded = aligned_zeros((matrix.shape[0], padded_width(matrix.shape[1])))
    padded[:, : matrix.shape[1]] = matrix
    return padded
