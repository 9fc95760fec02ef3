"""Batches of images, in one pass over memory: taken from all of them, made floats, and rescaled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastcnn.backends.numba.jit import parallel_jit
from fastcnn.backends.numba.packing import FloatArray


def read(images: NDArray[Any], chosen: NDArray[np.int64], scale: float, offset: float, y: FloatArray) -> None:
    """Fill `y` with ``images[chosen] * scale + offset``.

    Args:
        images: (N, ...), bytes or float32, in one piece.
        chosen: numbers of images (M,), which are not checked.
        scale, offset: of every number.
        y: (M, ...).
    """
    _read(images.reshape(len(images), -1), chosen, np.float32(scale), np.float32(offset), y.reshape(len(y), -1))


@parallel_jit
def _read(images, chosen, scale, offset, y):
    for n in prange(chosen.size):
        pixels, to = images[chosen[n]], y[n]
        for i in range(to.size):
            to[i] = np.float32(pixels[i]) * scale + offset
