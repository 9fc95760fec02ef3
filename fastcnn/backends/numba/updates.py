"""The steps of optimizers as kernels: the formulas of `fastcnn.optimizers` in one pass over memory, on all cores.

numpy takes a pass over memory for each operation of a formula; for Adadelta's step of a million weights that is eleven.
Arguments are flat float32 arrays, changed in place except the gradient, and numbers. `decay` is the share of itself by
which each weight shrinks before the step.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from fastcnn.backends.numba.jit import parallel_jit
from fastcnn.backends.numba.parts import part, parts_of


@parallel_jit
def sgd(value, gradient, velocity, decay, rate, momentum, nesterov):
    """`fastcnn.optimizers.SGD`; `velocity` is empty where there is no momentum."""
    rate, decay, momentum = np.float32(rate), np.float32(decay), np.float32(momentum)
    for task in prange(parts_of(value)):
        w, g, v = part(value, task), part(gradient, task), part(velocity, task)
        if v.size == 0:
            for i in range(w.size):
                w[i] = w[i] - w[i] * decay - rate * g[i]
        else:
            for i in range(w.size):
                change = -rate * g[i]
                speed = momentum * v[i] + change
                v[i] = speed
                w[i] = w[i] - w[i] * decay + (momentum * speed + change if nesterov else speed)


@parallel_jit
def adam(value, gradient, momentum, velocity, decay, rate, beta_1, beta_2, epsilon):
    """`fastcnn.optimizers.Adam` without amsgrad; `rate` is the formula's a."""
    rate, decay, epsilon = np.float32(rate), np.float32(decay), np.float32(epsilon)
    share_1, share_2 = np.float32(1 - beta_1), np.float32(1 - beta_2)
    for task in prange(parts_of(value)):
        w, g = part(value, task), part(gradient, task)
        m, v = part(momentum, task), part(velocity, task)
        for i in range(w.size):
            m_i = m[i] + (g[i] - m[i]) * share_1
            v_i = v[i] + (g[i] * g[i] - v[i]) * share_2
            m[i], v[i] = m_i, v_i
            w[i] = w[i] - w[i] * decay - m_i * rate / (math.sqrt(v_i) + epsilon)


@parallel_jit
def rmsprop(value, gradient, velocity, decay, rate, rho, epsilon):
    """`fastcnn.optimizers.RMSprop` without momentum, not centered."""
    rate, decay, rho, epsilon = np.float32(rate), np.float32(decay), np.float32(rho), np.float32(epsilon)
    rest = np.float32(1) - rho
    for task in prange(parts_of(value)):
        w, g, v = part(value, task), part(gradient, task), part(velocity, task)
        for i in range(w.size):
            v_i = rho * v[i] + rest * (g[i] * g[i])
            v[i] = v_i
            w[i] = w[i] - w[i] * decay - rate * g[i] / math.sqrt(v_i + epsilon)


@parallel_jit
def adadelta(value, gradient, gradients, changes, decay, rate, rho, epsilon):
    """`fastcnn.optimizers.Adadelta`."""
    rate, decay, rho, epsilon = np.float32(rate), np.float32(decay), np.float32(rho), np.float32(epsilon)
    rest = np.float32(1) - rho
    for task in prange(parts_of(value)):
        w, g = part(value, task), part(gradient, task)
        a, u = part(gradients, task), part(changes, task)
        for i in range(w.size):
            a_i = rho * a[i] + rest * (g[i] * g[i])
            change = g[i] * math.sqrt((u[i] + epsilon) / (a_i + epsilon))
            a[i] = a_i
            u[i] = rho * u[i] + rest * (change * change)
            w[i] = w[i] - w[i] * decay - rate * change


@parallel_jit
def average(mean, value, share):
    """The moving average that `use_ema` keeps: `mean` comes nearer to `value` by a share of the distance."""
    share = np.float32(share)
    for task in prange(parts_of(mean)):
        a, w = part(mean, task), part(value, task)
        for i in range(a.size):
            a[i] = a[i] + (w[i] - a[i]) * share
