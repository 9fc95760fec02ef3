"""The tutorial's network on one image at a time, in double precision: what `fastcnn.blog` runs on.

One small image is too little work for a parallel region. The tutorial computes in float64, and so do these,
so that a script prints what it printed there. All are serial loops over C-contiguous float64 arrays; their
caller has checked the shapes.
"""

from __future__ import annotations

import math

from fastcnn.backends.numba.jit import jit


@jit
def conv3x3_forward(image, filters, y):
    """Filter `image` (h, w) with `filters` (F, 3, 3) into `y` (h-2, w-2, F)."""
    height, width, count = y.shape
    for i in range(height):
        for f in range(count):
            w00, w01, w02 = filters[f, 0, 0], filters[f, 0, 1], filters[f, 0, 2]
            w10, w11, w12 = filters[f, 1, 0], filters[f, 1, 1], filters[f, 1, 2]
            w20, w21, w22 = filters[f, 2, 0], filters[f, 2, 1], filters[f, 2, 2]
            for j in range(width):
                top = image[i, j] * w00 + image[i, j + 1] * w01 + image[i, j + 2] * w02
                middle = image[i + 1, j] * w10 + image[i + 1, j + 1] * w11 + image[i + 1, j + 2] * w12
                bottom = image[i + 2, j] * w20 + image[i + 2, j + 1] * w21 + image[i + 2, j + 2] * w22
                y[i, j, f] = top + middle + bottom


@jit
def conv3x3_backprop(grad_y, image, filters, learn_rate, grad_image):
    """Add the gradient for the image to `grad_image` (h, w), zeros before, and take the filters a step."""
    height, width, count = grad_y.shape
    for f in range(count):
        w00, w01, w02 = filters[f, 0, 0], filters[f, 0, 1], filters[f, 0, 2]
        w10, w11, w12 = filters[f, 1, 0], filters[f, 1, 1], filters[f, 1, 2]
        w20, w21, w22 = filters[f, 2, 0], filters[f, 2, 1], filters[f, 2, 2]
        g00, g01, g02, g10, g11, g12, g20, g21, g22 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(height):
            for j in range(width):
                grad = grad_y[i, j, f]
                if grad == 0:
                    continue
                g00 += grad * image[i, j]
                g01 += grad * image[i, j + 1]
                g02 += grad * image[i, j + 2]
                g10 += grad * image[i + 1, j]
                g11 += grad * image[i + 1, j + 1]
                g12 += grad * image[i + 1, j + 2]
                g20 += grad * image[i + 2, j]
                g21 += grad * image[i + 2, j + 1]
                g22 += grad * image[i + 2, j + 2]
                grad_image[i, j] += grad * w00
                grad_image[i, j + 1] += grad * w01
                grad_image[i, j + 2] += grad * w02
                grad_image[i + 1, j] += grad * w10
                grad_image[i + 1, j + 1] += grad * w11
                grad_image[i + 1, j + 2] += grad * w12
                grad_image[i + 2, j] += grad * w20
                grad_image[i + 2, j + 1] += grad * w21
                grad_image[i + 2, j + 2] += grad * w22
        filters[f, 0, 0] = w00 - learn_rate * g00
        filters[f, 0, 1] = w01 - learn_rate * g01
        filters[f, 0, 2] = w02 - learn_rate * g02
        filters[f, 1, 0] = w10 - learn_rate * g10
        filters[f, 1, 1] = w11 - learn_rate * g11
        filters[f, 1, 2] = w12 - learn_rate * g12
        filters[f, 2, 0] = w20 - learn_rate * g20
        filters[f, 2, 1] = w21 - learn_rate * g21
        filters[f, 2, 2] = w22 - learn_rate * g22


@jit
def maxpool2_forward(x, y, winners):
    """Write the maxima of the 2x2 windows of `x` to `y`; bits 0 to 3 of `winners`: which are equal."""
    height, width, count = y.shape
    for i in range(height):
        for j in range(width):
            for f in range(count):
                a, b = x[2 * i, 2 * j, f], x[2 * i, 2 * j + 1, f]
                c, d = x[2 * i + 1, 2 * j, f], x[2 * i + 1, 2 * j + 1, f]
                upper = a if (a > b) | (a != a) else b
                lower = c if (c > d) | (c != c) else d
                best = upper if (upper > lower) | (upper != upper) else lower
                y[i, j, f] = best
                winners[i, j, f] = (
                    ((a == best) | (a != a))
                    + 2 * ((b == best) | (b != b))
                    + 4 * ((c == best) | (c != c))
                    + 8 * ((d == best) | (d != d))
                )


@jit
def maxpool2_backprop(grad_y, winners, grad_x):
    """Give each winner its window's whole gradient, the others zero; pixels in no window are left alone."""
    height, width, count = grad_y.shape
    for i in range(height):
        for j in range(width):
            for f in range(count):
                grad, bits = grad_y[i, j, f], winners[i, j, f]
                grad_x[2 * i, 2 * j, f] = grad if bits & 1 else 0.0
                grad_x[2 * i, 2 * j + 1, f] = grad if bits & 2 else 0.0
                grad_x[2 * i + 1, 2 * j, f] = grad if bits & 4 else 0.0
                grad_x[2 * i + 1, 2 * j + 1, f] = grad if bits & 8 else 0.0


@jit
def softmax_forward(x, weights, biases, probabilities):
    """Write ``softmax(x @ weights + biases)`` for a vector `x`."""
    inputs, nodes = weights.shape
    probabilities[:] = biases
    for i in range(inputs):
        for k in range(nodes):
            probabilities[k] += x[i] * weights[i, k]
    largest = probabilities[0]
    for k in range(1, nodes):
        if probabilities[k] > largest:
            largest = probabilities[k]
    total = 0.0
    for k in range(nodes):
        probabilities[k] = math.exp(probabilities[k] - largest)
        total += probabilities[k]
    for k in range(nodes):
        probabilities[k] /= total


@jit
def softmax_backprop(grad_p, probabilities, x, weights, biases, learn_rate, grad_z, grad_x):
    """Fill `grad_x` with the gradient under the old weights, and take weights and biases a step.

    ``grad_z[k] = p[k] * (grad_p[k] - sum over m of grad_p[m] * p[m])``: see
    `fastcnn.reference.Softmax.backprop`.
    """
    inputs, nodes = weights.shape
    mean = 0.0
    for k in range(nodes):
        mean += grad_p[k] * probabilities[k]
    for k in range(nodes):
        grad_z[k] = probabilities[k] * (grad_p[k] - mean)
        biases[k] -= learn_rate * grad_z[k]
    for i in range(inputs):
        total, factor = 0.0, learn_rate * x[i]
        for k in range(nodes):
            total += weights[i, k] * grad_z[k]
            weights[i, k] -= factor * grad_z[k]
        grad_x[i] = total
