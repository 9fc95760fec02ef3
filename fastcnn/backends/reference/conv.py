"""Convolution in loops, with strides and zero padding."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.backends.reference.arrays import FloatArray, Padding, array, output_size


def conv2d_forward(
    x: ArrayLike,
    filters: ArrayLike,
    bias: ArrayLike | None,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
) -> FloatArray:
    """Slide every filter over every image, SY pixels down and SX pixels right at a time.

    ``y[n,i,j,f] = bias[f] + sum over a,b,c of x[n,i*SY+a-top,j*SX+b-left,c] * filters[a,b,c,f]``

    where pixels outside the image are zero. The filter is not flipped: strictly this is a cross-correlation,
    which deep learning calls convolution (Goodfellow, Bengio, Courville, "Deep Learning", 2016, equations 9.6
    and, with strides, 9.8).

    Args:
        x: images (N, H, W, C).
        filters: (KH, KW, C, F), not larger than the padded images.
        bias: (F,), or None for none.
        strides: (SY, SX), the steps from one window to the next.
        padding: ((top, bottom), (left, right)), how many zeros lie around the images.

    Returns:
        (N, OH, OW, F), where OH is (top+H+bottom-KH)//SY+1 and OW is (left+W+right-KW)//SX+1.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    x, filters = array("x", x, "N H W C"), array("filters", filters, "KH KW C F")
    OH, OW = _output_size(x, filters, strides, padding)
    (N, H, W, C), (KH, KW, _, F) = x.shape, filters.shape
    offsets = [0.0] * F if bias is None else array("bias", bias, "F", (F,)).tolist()
    pixels, taps = x.tolist(), filters.tolist()
    (SY, SX), (top, left) = strides, (padding[0][0], padding[1][0])
    y = np.empty((N, OH, OW, F))
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                for f in range(F):
                    total = offsets[f]
                    for a in range(KH):
                        row = i * SY + a - top
                        if not 0 <= row < H:
                            continue
                        for b in range(KW):
                            column = j * SX + b - left
                            if not 0 <= column < W:
                                continue
                            for c in range(C):
                                total += pixels[n][row][column][c] * taps[a][b][c][f]
                    y[n, i, j, f] = total
    return y


def conv2d_backward(
    grad_y: ArrayLike,
    x: ArrayLike,
    filters: ArrayLike,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Carry the gradient of a convolution's output back to its images, filters and bias.

    Every product ``x * filters`` of the forward sum hands the output's gradient to each factor, times the
    other factor ("Deep Learning", equations 9.11 and 9.13):

    ``grad_x[n,i*SY+a-top,j*SX+b-left,c] += grad_y[n,i,j,f] * filters[a,b,c,f]``
    ``grad_filters[a,b,c,f] += grad_y[n,i,j,f] * x[n,i*SY+a-top,j*SX+b-left,c]``
    ``grad_bias[f] += grad_y[n,i,j,f]``

    Pixels outside the image are zero and get no gradient.

    Args:
        grad_y: (N, OH, OW, F), the shape of what `conv2d_forward` returned.
        x: the images of the forward pass (N, H, W, C).
        filters: (KH, KW, C, F).
        strides: (SY, SX) of the forward pass.
        padding: ((top, bottom), (left, right)) of the forward pass.

    Returns:
        (grad_x, grad_filters, grad_bias), of the shapes of x, filters and (F,).

    Raises:
        ValueError: the shapes do not fit each other.
    """
    x, filters = array("x", x, "N H W C"), array("filters", filters, "KH KW C F")
    OH, OW = _output_size(x, filters, strides, padding)
    (N, H, W, C), (KH, KW, _, F) = x.shape, filters.shape
    grads = array("grad_y", grad_y, "N OH OW F", (N, OH, OW, F)).tolist()
    pixels, taps = x.tolist(), filters.tolist()
    grad_pixels, grad_taps = np.zeros_like(x).tolist(), np.zeros_like(filters).tolist()
    grad_bias = np.zeros(F)
    (SY, SX), (top, left) = strides, (padding[0][0], padding[1][0])
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                for f in range(F):
                    grad = grads[n][i][j][f]
                    grad_bias[f] += grad
                    for a in range(KH):
                        row = i * SY + a - top
                        if not 0 <= row < H:
                            continue
                        for b in range(KW):
                            column = j * SX + b - left
                            if not 0 <= column < W:
                                continue
                            for c in range(C):
                                grad_pixels[n][row][column][c] += grad * taps[a][b][c][f]
                                grad_taps[a][b][c][f] += grad * pixels[n][row][column][c]
    return np.array(grad_pixels), np.array(grad_taps), grad_bias


def _output_size(x: FloatArray, filters: FloatArray, strides: tuple[int, int], padding: Padding) -> tuple[int, int]:
    KH, KW, channels, _ = filters.shape
    if channels != x.shape[3]:
        raise ValueError(f"filters has shape {filters.shape}; it must be (KH, KW, {x.shape[3]}, F)")
    return output_size("filters", (KH, KW), x.shape, strides, padding)
