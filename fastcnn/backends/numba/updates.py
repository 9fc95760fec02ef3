"""The steps of optimizers as kernels: the formulas of `fastcnn.optimizers` in one pass over memory, on all cores.

numpy takes a pass over memory for each operation of a formula; for Adadelta's step of a million weights that is eleven.
Arguments are flat float32 arrays, changed in place except the gradient, and numbers. `decay` is the share of itself by
which each weight shrinks before the step.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from fastcnn.backends.numba.jit import jit_inline, parallel_jit

_TASK = 8192


@jit_inline
def _part(task_index, size):
    first = np.intp(task_index) * _TASK
    return first, min(first + _TASK, size)


@parallel_jit
def sgd(value, gradient, velocity, decay, rate, momentum, nesterov):
    """`fastcnn.optimizers.SGD`; `velocity` is empty where there is no momentum."""
    rate, decay, momentum = np.float32(rate), np.float32(decay), np.float32(momentum)
    for task_index in prange((value.size + _TASK - 1) // _TASK):
        first, last = _part(task_index, value.size)
        if velocity.size == 0:
            for i in range(first, last):
                value[i] = value[i] - value[i] * decay - rate * gradient[i]
        else:
            for i in range(first, last):
                change = -rate * gradient[i]
                speed = momentum * velocity[i] + change
                velocity[i] = speed
                value[i] = value[i] - value[i] * decay + (momentum * speed + change if nesterov else speed)


@parallel_jit
def adam(value, gradient, momentum, velocity, decay, rate, beta_1, beta_2, epsilon):
    """`fastcnn.optimizers.Adam` without amsgrad; `rate` is the formula's a."""
    rate, decay, epsilon = np.float32(rate), np.float32(decay), np.float32(epsilon)
    share_1, share_2 = np.float32(1 - beta_1), np.float32(1 - beta_2)
    for task_index in prange((value.size + _TASK - 1) // _TASK):
        first, last = _part(task_index, value.size)
        for i in range(first, last):
            m = momentum[i] + (gradient[i] - momentum[i]) * share_1
            v = velocity[i] + (gradient[i] * gradient[i] - velocity[i]) * share_2
            momentum[i], velocity[i] = m, v
            value[i] = value[i] - value[i] * decay - m * rate / (math.sqrt(v) + epsilon)


@parallel_jit
def rmsprop(value, gradient, velocity, decay, rate, rho, epsilon):
    """`fastcnn.optimizers.RMSprop` without momentum, not centered."""
    rate, decay, rho, epsilon = np.float32(rate), np.float32(decay), np.float32(rho), np.float32(epsilon)
    rest = np.float32(1) - rho
    for task_index in prange((value.size + _TASK - 1) // _TASK):
        first, last = _part(task_index, value.size)
        for i in range(first, last):
            v = rho * velocity[i] + rest * (gradient[i] * gradient[i])
            velocity[i] = v
            value[i] = value[i] - value[i] * decay - rate * gradient[i] / math.sqrt(v + epsilon)


@parallel_jit
def adadelta(value, gradient, gradients, changes, decay, rate, rho, epsilon):
    """`fastcnn.optimizers.Adadelta`."""
    rate, decay, rho, epsilon = np.float32(rate), np.float32(decay), np.float32(rho), np.float32(epsilon)
    rest = np.float32(1) - rho
    for task_index in prange((value.size + _TASK - 1) // _TASK):
        first, last = _part(task_index, value.size)
        for i in range(first, last):
            g = rho * gradients[i] + rest * (gradient[i] * gradient[i])
            change = gradient[i] * math.sqrt((changes[i] + epsilon) / (g + epsilon))
            gradients[i] = g
            changes[i] = rho * changes[i] + rest * (change * change)
            value[i] = value[i] - value[i] * decay - rate * change
