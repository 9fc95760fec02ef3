"""The truth: every operation as plain Python loops, in float64, one number at a time.

Nothing here is clever and nothing is shared: this file imports numpy, as a container and for nothing else,
and the standard library's `math`. The loops follow the sums in the docstrings index by index, so each can be
checked by eye, and everything fast in this package is checked against them. Read it first; the fast backends
have the same names and the same arguments.

The letters, here and in all of the documentation: N samples; H, W an image's height and width; C channels; F
filters; D inputs and U units of a dense layer; K classes. Images are (N, H, W, C), channels last. ``grad_x``
is the gradient of the loss for ``x``: one number for each element of x. Gradients are summed over the batch,
never divided by N.

Arguments may be anything that numpy makes an array of; results are float64. The loops run over nested lists
(``tolist``), which Python indexes twice as fast as arrays.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: What a model keeps its weights in on this rung.
DTYPE = np.float64


def conv2d_forward(x: ArrayLike, filters: ArrayLike, bias: ArrayLike | None) -> FloatArray:
    """Slide every filter over every image, pixel by pixel (stride 1), where it fits whole ("valid").

    ``y[n,i,j,f] = bias[f] + sum over a,b,c of x[n,i+a,j+b,c] * filters[a,b,c,f]``

    The filter is not flipped: strictly this is a cross-correlation, which deep learning calls convolution
    (Goodfellow, Bengio, Courville, "Deep Learning", 2016, equation 9.6).

    Args:
        x: images (N, H, W, C).
        filters: (KH, KW, C, F), not larger than the images.
        bias: (F,), or None for none.

    Returns:
        (N, H-KH+1, W-KW+1, F).

    Raises:
        ValueError: the shapes do not fit each other.
    """
    x, filters = _array("x", x, "N H W C"), _array("filters", filters, "KH KW C F")
    N, OH, OW, F = _conv2d_output_shape(x, filters)
    KH, KW, C, _ = filters.shape
    offsets = [0.0] * F if bias is None else _array("bias", bias, "F", (F,)).tolist()
    pixels, taps = x.tolist(), filters.tolist()
    y = np.empty((N, OH, OW, F))
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                for f in range(F):
                    total = offsets[f]
                    for a in range(KH):
                        for b in range(KW):
                            for c in range(C):
                                total += pixels[n][i + a][j + b][c] * taps[a][b][c][f]
                    y[n, i, j, f] = total
    return y


def conv2d_backward(grad_y: ArrayLike, x: ArrayLike, filters: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Carry the gradient of a convolution's output back to its images, filters and bias.

    Every product ``x * filters`` of the forward sum hands the output's gradient to each factor, times the
    other factor ("Deep Learning", equations 9.11 and 9.13):

    ``grad_x[n,i+a,j+b,c] += grad_y[n,i,j,f] * filters[a,b,c,f]``
    ``grad_filters[a,b,c,f] += grad_y[n,i,j,f] * x[n,i+a,j+b,c]``
    ``grad_bias[f] += grad_y[n,i,j,f]``

    Args:
        grad_y: (N, H-KH+1, W-KW+1, F).
        x: the images of the forward pass (N, H, W, C).
        filters: (KH, KW, C, F).

    Returns:
        (grad_x, grad_filters, grad_bias), of the shapes of x, filters and (F,).

    Raises:
        ValueError: the shapes do not fit each other.
    """
    x, filters = _array("x", x, "N H W C"), _array("filters", filters, "KH KW C F")
    N, OH, OW, F = _conv2d_output_shape(x, filters)
    KH, KW, C, _ = filters.shape
    grads = _array("grad_y", grad_y, "N OH OW F", (N, OH, OW, F)).tolist()
    pixels, taps = x.tolist(), filters.tolist()
    grad_pixels, grad_taps = np.zeros_like(x).tolist(), np.zeros_like(filters).tolist()
    grad_bias = np.zeros(F)
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                for f in range(F):
                    grad = grads[n][i][j][f]
                    grad_bias[f] += grad
                    for a in range(KH):
                        for b in range(KW):
                            for c in range(C):
                                grad_pixels[n][i + a][j + b][c] += grad * taps[a][b][c][f]
                                grad_taps[a][b][c][f] += grad * pixels[n][i + a][j + b][c]
    return np.array(grad_pixels), np.array(grad_taps), grad_bias


def maxpool2d_forward(x: ArrayLike, pool_size: tuple[int, int], ties: str) -> tuple[FloatArray, BoolArray]:
    """Keep the largest element of each window of PH x PW pixels, for each channel by itself.

    Windows lie side by side (the stride is the window); rows and columns left over at the end belong to none.
    A NaN counts as larger than any number, so that it is seen and not dropped.

    Args:
        x: images (N, H, W, C).
        pool_size: (PH, PW), not larger than the images.
        ties: which elements win where several are the largest: ``"first"``, the first one row by row (Keras,
            PyTorch), or ``"all"`` (the tutorial's loops).

    Returns:
        (y, winners): y (N, H//PH, W//PW, C) and winners, bool (N, H//PH, W//PW, PH*PW, C), True for each
        element of a window, counted row by row, that receives the window's gradient.

    Raises:
        ValueError: the shapes do not fit each other, or ties is neither.
    """
    x = _array("x", x, "N H W C")
    (N, H, W, C), (PH, PW) = x.shape, pool_size
    if not (1 <= PH <= H and 1 <= PW <= W):
        raise ValueError(f"pool_size is {pool_size}; it must be from (1, 1) to the images' {(H, W)}")
    if ties not in ("first", "all"):
        raise ValueError(f"ties is {ties!r}; it must be 'first' or 'all'")
    pixels = x.tolist()
    y = np.empty((N, H // PH, W // PW, C))
    winners = np.zeros((N, H // PH, W // PW, PH * PW, C), np.bool_)
    for n in range(N):
        for i in range(H // PH):
            for j in range(W // PW):
                for c in range(C):
                    window = [pixels[n][i * PH + a][j * PW + b][c] for a in range(PH) for b in range(PW)]
                    largest = window[0]
                    for value in window:
                        if value > largest or math.isnan(value):
                            largest = value
                    y[n, i, j, c] = largest
                    for k in range(PH * PW):
                        if window[k] == largest or math.isnan(window[k]):
                            winners[n, i, j, k, c] = True
                            if ties == "first":
                                break
    return y, winners


def maxpool2d_backward(
    grad_y: ArrayLike, winners: ArrayLike, input_shape: tuple[int, int, int, int], pool_size: tuple[int, int]
) -> FloatArray:
    """Give each winner the whole gradient of its window, and every other element zero.

    With ties ``"all"`` each of several winners gets the whole gradient, not a share of it, as in the
    tutorial's loops.

    Args:
        grad_y: (N, H//PH, W//PW, C).
        winners: what `maxpool2d_forward` returned, bool (N, H//PH, W//PW, PH*PW, C).
        input_shape: (N, H, W, C) of the forward pass.
        pool_size: (PH, PW) of the forward pass.

    Returns:
        grad_x (N, H, W, C).

    Raises:
        ValueError: the shapes do not fit each other.
    """
    (N, H, W, C), (PH, PW) = input_shape, pool_size
    if not (1 <= PH <= H and 1 <= PW <= W):
        raise ValueError(f"pool_size is {pool_size}; it must be from (1, 1) to the images' {(H, W)}")
    OH, OW = H // PH, W // PW
    grads = _array("grad_y", grad_y, "N OH OW C", (N, OH, OW, C))
    won = _array("winners", winners, "N OH OW PH*PW C", (N, OH, OW, PH * PW, C))
    grad_x = np.zeros((N, H, W, C))
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                for a in range(PH):
                    for b in range(PW):
                        for c in range(C):
                            if won[n, i, j, a * PW + b, c]:
                                grad_x[n, i * PH + a, j * PW + b, c] = grads[n, i, j, c]
    return grad_x


def dense_forward(x: ArrayLike, weights: ArrayLike, bias: ArrayLike | None) -> FloatArray:
    """Connect every input with every unit: ``y[n,u] = bias[u] + sum over d of x[n,d] * weights[d,u]``.

    Args:
        x: (N, D).
        weights: (D, U).
        bias: (U,), or None for none.

    Returns:
        (N, U).

    Raises:
        ValueError: the shapes do not fit each other.
    """
    x, weights = _array("x", x, "N D"), _array("weights", weights, "D U")
    N, D, U = _dense_sizes(x, weights)
    offsets = [0.0] * U if bias is None else _array("bias", bias, "U", (U,)).tolist()
    inputs, matrix = x.tolist(), weights.tolist()
    y = np.empty((N, U))
    for n in range(N):
        for u in range(U):
            total = offsets[u]
            for d in range(D):
                total += inputs[n][d] * matrix[d][u]
            y[n, u] = total
    return y


def dense_backward(grad_y: ArrayLike, x: ArrayLike, weights: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Carry the gradient of a dense layer's output back to its inputs, weights and bias.

    ``grad_x[n,d] += grad_y[n,u] * weights[d,u]``
    ``grad_weights[d,u] += grad_y[n,u] * x[n,d]``
    ``grad_bias[u] += grad_y[n,u]``

    Args:
        grad_y: (N, U).
        x: the inputs of the forward pass (N, D).
        weights: (D, U).

    Returns:
        (grad_x, grad_weights, grad_bias), of the shapes of x, weights and (U,).

    Raises:
        ValueError: the shapes do not fit each other.
    """
    x, weights = _array("x", x, "N D"), _array("weights", weights, "D U")
    N, D, U = _dense_sizes(x, weights)
    grads = _array("grad_y", grad_y, "N U", (N, U)).tolist()
    inputs, matrix = x.tolist(), weights.tolist()
    grad_inputs, grad_matrix = np.zeros((N, D)).tolist(), np.zeros((D, U)).tolist()
    grad_bias = np.zeros(U)
    for n in range(N):
        for u in range(U):
            grad = grads[n][u]
            grad_bias[u] += grad
            for d in range(D):
                grad_inputs[n][d] += grad * matrix[d][u]
                grad_matrix[d][u] += grad * inputs[n][d]
    return np.array(grad_inputs), np.array(grad_matrix), grad_bias


def softmax(logits: ArrayLike) -> FloatArray:
    """Turn each row of scores into probabilities: ``p[n,k] = exp(z[n,k]) / sum over m of exp(z[n,m])``.

    The row's largest score is subtracted first. That cancels in the fraction, and no exponential can overflow
    ("Deep Learning", section 4.1).

    Args:
        logits: the scores z (N, K).

    Returns:
        (N, K), each row positive with sum 1.

    Raises:
        ValueError: logits is no matrix.
    """
    logits = _array("logits", logits, "N K")
    (N, K), scores = logits.shape, logits.tolist()
    probabilities = np.empty((N, K))
    for n in range(N):
        largest = max(scores[n])
        total = 0.0
        for k in range(K):
            total += math.exp(scores[n][k] - largest)
        for k in range(K):
            probabilities[n, k] = math.exp(scores[n][k] - largest) / total
    return probabilities


def softmax_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Softmax, then the surprise at the true class: ``loss[n] = -log(p[n,label])``, in natural logarithms.

    The loss is computed as ``log(sum over m of exp(z[n,m] - largest)) - (z[n,label] - largest)``, the same
    number but finite even where p rounds to zero. Together the two have a gradient of great simplicity, ``p -
    onehot(label)`` (Bishop, "Pattern Recognition and Machine Learning", 2006, equation 4.109).

    Args:
        logits: the scores z (N, K).
        labels: the true classes (N,), integers from 0 to K-1.

    Returns:
        (losses (N,), probabilities (N, K), grad_logits (N, K)): a loss a sample, and each loss's gradient for
        its own row of scores.

    Raises:
        ValueError: the shapes do not fit each other, or a label is not one of the classes.
    """
    logits, labels = _array("logits", logits, "N K"), np.asarray(labels)
    (N, K), scores = logits.shape, logits.tolist()
    if labels.shape != (N,) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels is {labels.dtype} {labels.shape}; it must be integers {(N,)}")
    probabilities = softmax(logits)
    losses, grad_logits = np.empty(N), np.empty((N, K))
    for n in range(N):
        label = int(labels[n])
        if not 0 <= label < K:
            raise ValueError(f"labels holds {label}; with {K} classes it must be from 0 to {K - 1}")
        largest = max(scores[n])
        total = 0.0
        for k in range(K):
            total += math.exp(scores[n][k] - largest)
            grad_logits[n, k] = probabilities[n, k] - (1.0 if k == label else 0.0)
        losses[n] = math.log(total) - (scores[n][label] - largest)
    return losses, probabilities, grad_logits


def _array(name: str, values: ArrayLike, axes: str, shape: tuple[int, ...] | None = None) -> FloatArray:
    """Return `values` as float64 with the given axes, none of them empty, or of exactly the given shape."""
    array = np.asarray(values, np.float64)
    if array.ndim != len(axes.split()) or array.size == 0 or (shape is not None and array.shape != shape):
        raise ValueError(f"{name} has shape {array.shape}; it must be {shape or axes}")
    return array


def _conv2d_output_shape(x: FloatArray, filters: FloatArray) -> tuple[int, int, int, int]:
    (N, H, W, C), (KH, KW, filter_channels, F) = x.shape, filters.shape
    if KH > H or KW > W or filter_channels != C:
        raise ValueError(f"filters has shape {filters.shape}; it must be (up to {H}, up to {W}, {C}, any number)")
    return N, H - KH + 1, W - KW + 1, F


def _dense_sizes(x: FloatArray, weights: FloatArray) -> tuple[int, int, int]:
    (N, D), (inputs, U) = x.shape, weights.shape
    if inputs != D:
        raise ValueError(f"weights has shape {weights.shape}; it must be ({D}, any number)")
    return N, D, U
