"""How kernels want their arrays: of one type, on cache lines, matrices in whole vectors in the order they are read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.backends.numba.simd import CACHE_LINE, LANES

FloatArray = NDArray[np.float32]

#: Rows that a multiplying kernel takes at once: one accumulator each, enough of them to hide the latency of `fma`.
ROWS = 8

#: What takes the place of a mask where everything counts.
EVERYTHING = np.zeros(0, np.float32)


def aligned_zeros(shape: int | tuple[int, ...], dtype: type[np.generic] = np.float32) -> np.ndarray[Any, Any]:
    """Zeros that begin on a cache line: a vector that straddles two lines costs two loads."""
    return _aligned(np.zeros, shape, dtype)


def aligned_empty(shape: int | tuple[int, ...], dtype: type[np.generic] = np.float32) -> np.ndarray[Any, Any]:
    """As `aligned_zeros`, of any content: memory that was used before need not be cleared or mapped anew."""
    return _aligned(np.empty, shape, dtype)


def _aligned(make: Any, shape: int | tuple[int, ...], dtype: type[np.generic]) -> np.ndarray[Any, Any]:
    size = math.prod(shape if isinstance(shape, tuple) else (shape,)) * np.dtype(dtype).itemsize
    buffer = make(size + CACHE_LINE, np.uint8)
    start = -buffer.ctypes.data % CACHE_LINE
    return buffer[start : start + size].view(dtype).reshape(shape)


def float32(array: NDArray[Any]) -> FloatArray:
    """Return `array` as kernels take float32 arrays: itself where it is `plain` already."""
    return plain(array, np.float32)


def plain(array: ArrayLike, dtype: type[np.generic]) -> NDArray[Any]:
    """Return `array`, or a copy of it where it is not C-contiguous, aligned, writeable and of `dtype`.

    To the compiler a read-only or unaligned array is another type, for which it would compile a kernel once more.
    """
    if type(array) is np.ndarray and array.dtype == dtype and array.flags.carray:
        return array  # np.require would take a microsecond to find that out
    return np.require(array, dtype, ["C", "A", "W"])


def padded_width(width: int) -> int:
    """Return `width` rounded up to whole vectors."""
    return -(-width // LANES) * LANES


def in_vectors(values: NDArray[Any] | None, count: int) -> FloatArray:
    """Return `count` values, zeros where there are none, filled up with zeros to whole vectors."""
    padded = np.zeros(padded_width(count), np.float32)
    if values is not None:
        padded[:count] = values
    return padded


class Workspace:
    """Arrays that a caller keeps from one call to the next, so that memory is asked for once.

    An operation that is given a workspace returns arrays of it: they hold until it is called again.
    """

    def __init__(self) -> None:
        self._arrays: dict[tuple[Any, ...], NDArray[Any]] = {}

    def array(
        self, name: str, shape: tuple[int, ...], dtype: type[np.generic] = np.float32, zeros: bool = True
    ) -> NDArray[Any]:
        """Return the array called so, as it was left; at first zeros or, unless `zeros`, anything.

        The first axis may differ from call to call.
        """
        key = (name, *shape[1:])
        kept = self._arrays.get(key)
        if kept is None or len(kept) < shape[0]:
            kept = self._arrays[key] = (aligned_zeros if zeros else aligned_empty)(shape, dtype)
        return kept if len(kept) == shape[0] else kept[: shape[0]]
