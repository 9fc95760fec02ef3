"""The dense layer, for the activations of one filter, and softmax: weights in registers ten classes at a time."""

from __future__ import annotations

import math

import numpy as np

from fastcnn.backends.numba.fused.geometry import BLOCK
from fastcnn.backends.numba.fused.image import load4
from fastcnn.backends.numba.jit import jit_inline
from fastcnn.backends.numba.lanes import max_lanes, power_of_two, store_sums, sum_lanes
from fastcnn.backends.numba.simd import LANES, first_lanes, fma, load, maximum, select, shifted, splat, store

#: Added to a float below 2**22, this leaves the nearest integer in the lowest bits of the sum.
_ROUND = np.float32(1.5 * 2**23)
_ZERO = np.float32(0.0)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)


@jit_inline
def _store5(pointer, at, a, b, c, d, e):
    store(pointer, at, a)
    store(pointer, at + LANES, b)
    store(pointer, at + 2 * LANES, c)
    store(pointer, at + 3 * LANES, d)
    store(pointer, at + 4 * LANES, e)


@jit_inline
def _splat5(p, i):
    return splat(p[i]), splat(p[i + 1]), splat(p[i + 2]), splat(p[i + 3]), splat(p[i + 4])


@jit_inline
def dense_forward(g, first, last, pooled, weights, sums):
    """Add the part of filters `first` to `last` - 1 to every class's dot product, ``sums[block][10][LANES]``."""
    for block in range(g.blocks):
        s = block * BLOCK * LANES
        a0, a1, a2, a3 = load4(sums, s, LANES)
        a4, a5, a6, a7 = load4(sums, s + 4 * LANES, LANES)
        a8, a9 = load(sums, s + 8 * LANES), load(sums, s + 9 * LANES)
        for f in range(first, last):
            for v in range(g.vectors):
                x = load(pooled, (f * g.vectors + v) * LANES)
                w = ((f * g.blocks + block) * g.vectors + v) * BLOCK * LANES
                a0 = fma(x, load(weights, w), a0)
                a1 = fma(x, load(weights, w + LANES), a1)
                a2 = fma(x, load(weights, w + 2 * LANES), a2)
                a3 = fma(x, load(weights, w + 3 * LANES), a3)
                a4 = fma(x, load(weights, w + 4 * LANES), a4)
                a5 = fma(x, load(weights, w + 5 * LANES), a5)
                a6 = fma(x, load(weights, w + 6 * LANES), a6)
                a7 = fma(x, load(weights, w + 7 * LANES), a7)
                a8 = fma(x, load(weights, w + 8 * LANES), a8)
                a9 = fma(x, load(weights, w + 9 * LANES), a9)
        _store5(sums, s, a0, a1, a2, a3, a4)
        _store5(sums, s + 5 * LANES, a5, a6, a7, a8, a9)


@jit_inline
def dense_forward_two(g, first, last, pooled, step, weights, sums):
    """As `dense_forward`, for two images whose activations are `step` floats apart: weights are read once for both.

    Five classes at a time, whose ten sums fit the registers of every processor.
    """
    other = g.blocks * BLOCK * LANES
    for half in range(2 * g.blocks):
        s = half * 5 * LANES
        a0, a1, a2, a3 = load4(sums, s, LANES)
        b0, b1, b2, b3 = load4(sums, other + s, LANES)
        a4, b4 = load(sums, s + 4 * LANES), load(sums, other + s + 4 * LANES)
        for f in range(first, last):
            for v in range(g.vectors):
                at = (f * g.vectors + v) * LANES
                x, y = load(pooled, at), load(pooled, at + step)
                w = (((f * g.blocks + (half >> 1)) * g.vectors + v) * BLOCK + (half & 1) * 5) * LANES
                a0, b0 = _both(x, y, weights, w, a0, b0)
                a1, b1 = _both(x, y, weights, w + LANES, a1, b1)
                a2, b2 = _both(x, y, weights, w + 2 * LANES, a2, b2)
                a3, b3 = _both(x, y, weights, w + 3 * LANES, a3, b3)
                a4, b4 = _both(x, y, weights, w + 4 * LANES, a4, b4)
        _store5(sums, s, a0, a1, a2, a3, a4)
        _store5(sums, other + s, b0, b1, b2, b3, b4)


@jit_inline
def _both(x, y, weights, w, a, b):
    weight = load(weights, w)
    return fma(x, weight, a), fma(y, weight, b)


@jit_inline
def finish_logits(g, sums, bias, logits):
    """Fold the sums of `dense_forward` to one logit a class and clear them for the next image."""
    for block in range(g.blocks):
        s = block * BLOCK * LANES
        a0, a1, a2, a3 = load4(sums, s, LANES)
        a4, a5, a6, a7 = load4(sums, s + 4 * LANES, LANES)
        a8, a9 = load(sums, s + 8 * LANES), load(sums, s + 9 * LANES)
        store_sums(logits, block * BLOCK, (a0, a1, a2, a3, a4, a5, a6, a7, a8, a9))
        for k in range(BLOCK):
            store(sums, s + k * LANES, splat(_ZERO))
    for k in range(0, g.padded, LANES):
        store(logits, k, load(logits, k) + load(bias, k))


@jit_inline
def dot(g, a, b):
    """The dot product of two images' pooled activations."""
    one = two = splat(_ZERO)
    vectors = g.filters * g.vectors
    for v in range(0, vectors - 1, 2):
        one = fma(load(a, v * LANES), load(b, v * LANES), one)
        two = fma(load(a, (v + 1) * LANES), load(b, (v + 1) * LANES), two)
    if vectors & 1:
        one = fma(load(a, (vectors - 1) * LANES), load(b, (vectors - 1) * LANES), one)
    return sum_lanes(one + two)


@jit_inline
def dense_backward(g, f, delta, weights, grad_pooled):
    """The gradient of filter `f`'s activations."""
    for block in range(g.blocks):
        d0, d1, d2, d3, d4 = _splat5(delta, block * BLOCK)
        d5, d6, d7, d8, d9 = _splat5(delta, block * BLOCK + 5)
        for v in range(g.vectors):
            w = ((f * g.blocks + block) * g.vectors + v) * BLOCK * LANES
            one = d0 * load(weights, w)
            two = d1 * load(weights, w + LANES)
            one = fma(d2, load(weights, w + 2 * LANES), one)
            two = fma(d3, load(weights, w + 3 * LANES), two)
            one = fma(d4, load(weights, w + 4 * LANES), one)
            two = fma(d5, load(weights, w + 5 * LANES), two)
            one = fma(d6, load(weights, w + 6 * LANES), one)
            two = fma(d7, load(weights, w + 7 * LANES), two)
            one = fma(d8, load(weights, w + 8 * LANES), one)
            two = fma(d9, load(weights, w + 9 * LANES), two)
            if block > 0:
                one = one + load(grad_pooled, v * LANES)
            store(grad_pooled, v * LANES, one + two)


@jit_inline
def _update_pair(weights, w, x, d0, d1, held_x, held_d0, held_d1, grad):
    """Two classes' part of the input gradient, from the weights before their update, and two steps' update."""
    w0, w1 = load(weights, w), load(weights, w + LANES)
    store(weights, w, fma(x, d0, fma(held_x, held_d0, w0)))
    store(weights, w + LANES, fma(x, d1, fma(held_x, held_d1, w1)))
    return fma(d1, w1, fma(d0, w0, grad))


@jit_inline
def dense_backward_update(g, f, pooled, delta, held_pooled, held_delta, coupling, rate, weights, grad_pooled):
    """The gradient of filter `f`'s activations, and the SGD step of this image and of the one held back.

    The gradient is of the weights after the held step, ``W - rate * held_x * held_d'``, which have never been
    written: what the held step adds to it is `coupling`, ``-rate * held_d'd``, times the held activations.
    """
    step, couple = splat(-rate), splat(coupling)
    for block in range(g.blocks):
        k = block * BLOCK
        d0, d1, d2, d3, d4 = _splat5(delta, k)
        d5, d6, d7, d8, d9 = _splat5(delta, k + 5)
        h0, h1, h2, h3, h4 = _splat5(held_delta, k)
        h5, h6, h7, h8, h9 = _splat5(held_delta, k + 5)
        for v in range(g.vectors):
            x = step * load(pooled, (f * g.vectors + v) * LANES)
            held = load(held_pooled, (f * g.vectors + v) * LANES)
            one = couple * held if block == 0 else load(grad_pooled, v * LANES)
            held = step * held
            w = ((f * g.blocks + block) * g.vectors + v) * BLOCK * LANES
            one = _update_pair(weights, w, x, d0, d1, held, h0, h1, one)
            two = _update_pair(weights, w + 2 * LANES, x, d2, d3, held, h2, h3, splat(_ZERO))
            one = _update_pair(weights, w + 4 * LANES, x, d4, d5, held, h4, h5, one)
            two = _update_pair(weights, w + 6 * LANES, x, d6, d7, held, h6, h7, two)
            one = _update_pair(weights, w + 8 * LANES, x, d8, d9, held, h8, h9, one)
            store(grad_pooled, v * LANES, one + two)


@jit_inline
def dense_backward_block(g, f, count, pooled, delta, weights, grad_weights, fresh, grad):
    """Gradients of filter `f`'s dense weights and activations over `count` images.

    The weights' is added to `grad_weights` or, where it is `fresh`, takes its place. The activations' takes the place
    of the activations in `pooled`; `grad` is room for one vector an image.
    """
    activations = g.filters * g.vectors
    for v in range(g.vectors):
        for block in range(g.blocks):
            w = ((f * g.blocks + block) * g.vectors + v) * BLOCK * LANES
            w0, w1, w2, w3 = load4(weights, w, LANES)
            w4, w5, w6, w7 = load4(weights, w + 4 * LANES, LANES)
            w8, w9 = load(weights, w + 8 * LANES), load(weights, w + 9 * LANES)
            a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = a8 = a9 = splat(_ZERO)
            if not fresh:
                a0, a1, a2, a3 = load4(grad_weights, w, LANES)
                a4, a5, a6, a7 = load4(grad_weights, w + 4 * LANES, LANES)
                a8, a9 = load(grad_weights, w + 8 * LANES), load(grad_weights, w + 9 * LANES)
            to, step = grad, LANES
            if block + 1 == g.blocks:
                to, step = shifted(pooled, (f * g.vectors + v) * LANES), activations * LANES
            for n in range(count):
                x = load(pooled, (n * activations + f * g.vectors + v) * LANES)
                k = n * g.padded + block * BLOCK
                d0, d1, d2, d3, d4 = _splat5(delta, k)
                one = fma(d4, w4, fma(d2, w2, d0 * w0))
                two = fma(d3, w3, d1 * w1)
                a0, a1, a2, a3, a4 = (
                    fma(x, d0, a0),
                    fma(x, d1, a1),
                    fma(x, d2, a2),
                    fma(x, d3, a3),
                    fma(x, d4, a4),
                )
                d5, d6, d7, d8, d9 = _splat5(delta, k + 5)
                one = fma(d8, w8, fma(d6, w6, one))
                two = fma(d9, w9, fma(d7, w7, fma(d5, w5, two)))
                a5, a6, a7, a8, a9 = (
                    fma(x, d5, a5),
                    fma(x, d6, a6),
                    fma(x, d7, a7),
                    fma(x, d8, a8),
                    fma(x, d9, a9),
                )
                if block > 0:
                    one = one + load(grad, n * LANES)
                store(to, n * step, one + two)
            _store5(grad_weights, w, a0, a1, a2, a3, a4)
            _store5(grad_weights, w + 5 * LANES, a5, a6, a7, a8, a9)


@jit_inline
def _exp(x):
    """e**x for x <= 0, within two units in the last place: 2**n times a polynomial on [-ln 2 / 2, ln 2 / 2]."""
    lowest = splat(np.float32(-87.0))
    x = maximum(lowest, x)  # in this order a NaN stays one
    rounded = fma(x, splat(np.float32(1.4426950408889634)), splat(_ROUND))
    n = rounded - splat(_ROUND)
    r = fma(n, splat(np.float32(-0.693145751953125)), x)
    r = fma(n, splat(np.float32(-1.428606820309417e-06)), r)
    p = splat(np.float32(1 / 5040))
    p = fma(p, r, splat(np.float32(1 / 720)))
    p = fma(p, r, splat(np.float32(1 / 120)))
    p = fma(p, r, splat(np.float32(1 / 24)))
    p = fma(p, r, splat(np.float32(1 / 6)))
    p = fma(p, r, splat(_HALF))
    p = fma(p, r, splat(_ONE))
    p = fma(p, r, splat(_ONE))
    return p * power_of_two(rounded)


@jit_inline
def softmax(g, logits, probabilities):
    """Probabilities of the padded `logits`; returns the greatest logit and the sum of the exponentials."""
    top = max_lanes(load(logits, 0))
    for k in range(LANES, g.blocks * BLOCK, LANES):
        top = max(top, max_lanes(load(logits, k)))
    total = splat(_ZERO)
    for k in range(0, g.blocks * BLOCK, LANES):
        e = _exp(load(logits, k) - splat(top))
        total = total + e
        store(probabilities, k, e)
    denominator = sum_lanes(total)
    scale = splat(_ONE / denominator)
    for k in range(0, g.blocks * BLOCK, LANES):
        store(probabilities, k, load(probabilities, k) * scale)
    return top, denominator


@jit_inline
def probabilities_to_delta(g, label, delta):
    """The loss's gradient for the logits, ``probabilities - one_hot(label)``; zero behind the classes."""
    for k in range(0, g.padded, LANES):
        store(delta, k, select(first_lanes(g.classes - k), load(delta, k), splat(_ZERO)))
    delta[label] -= _ONE


@jit_inline
def judge(logits, label, top, denominator):
    """The loss of one image, and whether its label has the greatest logit (the first, where several have)."""
    loss = math.log(denominator) - (logits[label] - top)
    best = 0
    while logits[best] < top:
        best += 1
    return loss, best == label
