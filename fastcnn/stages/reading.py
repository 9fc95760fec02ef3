"""How a batch gets from the images into the first stage."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from fastcnn.layers.base import Array


class Reader:
    """Takes a batch out of the images and casts it.

    Args:
        dtype: what the stages compute in.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self._dtype = dtype

    def read(self, images: Array, chosen: Array | slice) -> Array:
        """What the first stage takes, in one piece: ``images[chosen]``."""
        return np.ascontiguousarray(images[chosen], self._dtype)
