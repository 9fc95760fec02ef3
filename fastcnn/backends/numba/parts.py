"""How kernels that take each number by itself divide flat arrays into tasks."""

from __future__ import annotations

import numpy as np

from fastcnn.backends.numba.jit import jit_inline

#: Numbers of a task.
PART = 8192


@jit_inline
def parts_of(array):
    """How many parts an array has."""
    return (array.size + PART - 1) // PART


@jit_inline
def part(array, index):
    """Part `index` of an array, for a loop from 0 to its size.

    That loop LLVM compiles to vectors. Over a range of the whole array's indices it does not, since one of them might
    be negative and count from the end: a step of Adam, or ReLU, then takes six times as long.
    """
    first = np.intp(index) * PART
    return array[first : first + PART]
