"""A network's loss and gradients with an error beside every number: how far float32 arithmetic may be from it.

An `Interval` is the true value, computed in float64, and a radius. Each layer takes its input's interval and
gives its output's, forwards and then backwards, by these rules; nothing in them is chosen:

* A sum of n products whose factors carry errors da and db is off by at most (1 + gamma(n)) sum (|a| + da)(|b| + db)
  - sum |a||b| (see `tolerance.py`). Both sums are the operation itself on absolute values. Batch normalisation, the
  losses and softmax's gradient are such sums too, written out.
* Convolutions that the numba backend computes by Winograd's have the bounds of `winograd_bounds.py`, too.
* A smooth activation passes on its input's error times the greatest slope there is, and its derivative's error is
  the input's times the greatest second derivative; 4 eps of its own are added, as in `tolerance.py`.
* Where float32 may decide otherwise than the truth, everything that hangs on the decision is uncertain: a relu whose
  input is nearer to its kink than its error may pass the gradient on or not; so may each element of a pooling window
  that is nearer to the greatest than their errors together. Numbers without error (the zeros behind a relu) tie
  in every arithmetic, so they leave no doubt. Hence no data need be chosen that keep away from kinks and ties.

Which order layers run in, what is padding, which weights belong where: all of it is written here once more,
apart from `fastcnn.stages`. Only the single operations are those of `im2col`, in float64, which other tests hold to
the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import winograd_bounds
from tolerance import gamma

from fastcnn import layers as kinds
from fastcnn.backends import im2col as ops
from fastcnn.backends.numba.conv import pooled
from fastcnn.layers import Layer
from fastcnn.losses import MeanSquaredError

U, TINY = 2.0**-24, float(np.finfo(np.float32).tiny)
#: The greatest absolute first and second derivatives.
SLOPES = {"sigmoid": (0.25, 0.0963), "tanh": (1.0, 0.77), "gelu": (1.129, 0.798)}


class Interval(NamedTuple):
    """Numbers and how far off each may be."""

    value: np.ndarray
    radius: np.ndarray

    @property
    def low(self) -> np.ndarray:
        """The absolute values."""
        return np.abs(self.value)

    @property
    def high(self) -> np.ndarray:
        """The greatest absolute values that may be."""
        return np.abs(self.value) + self.radius

    def reshape(self, *shape: int) -> Interval:
        return Interval(self.value.reshape(shape), self.radius.reshape(shape))


def exact(value: Any) -> Interval:
    value = np.asarray(value, np.float64)
    return Interval(value, np.zeros(value.shape))


def rounded(value: Any) -> Interval:
    """Float64 numbers that float32 has to round."""
    value = np.asarray(value, np.float64)
    return Interval(value, U * np.abs(value))


def products(value: np.ndarray, low: np.ndarray, high: np.ndarray, roundings: int) -> Interval:
    """Sums of products, from the same sums of absolute values, without and with errors."""
    return Interval(value, (1 + gamma(roundings, U)) * high - low)


#: What a layer leaves for its backward pass: the output's gradient to the input's and the weights'.
Backward = Callable[[Interval], tuple[Interval, list[Interval]]]


def run(
    layers: list[Layer], loss: Any, x: np.ndarray, y: np.ndarray, training: bool, masks: dict[int, np.ndarray]
) -> tuple[Interval, list[Interval], Interval, Interval]:
    """Return the intervals of the mean loss, of each weight's gradient, of the input's, and of the outputs.

    Args:
        layers: built.
        loss: a fastcnn loss.
        x: the batch, exact in float32.
        y: as `Sequential.fit` takes it.
        training: what batch normalisation and dropout do.
        masks: by a layer's place, what its dropout multiplies each element with.
    """
    z, backwards = exact(x), []
    takes_logits = not isinstance(loss, MeanSquaredError)
    for place, layer in enumerate(layers):
        is_pooled = any(isinstance(follower, kinds.MaxPooling2D) for follower in layers[place + 1 : place + 3])
        z, backward = _forward(layer, z, training, masks.get(place), is_pooled)
        backwards.append(backward)
        name, slope = _activation(layer)
        last = place == len(layers) - 1
        if name != "linear" and not (name == "softmax" and takes_logits and last):
            z, backward = _softmax(z) if name == "softmax" else _activate(z, name, slope)
            backwards.append(backward)
    targets = loss.targets(y, len(x), z.value.shape[1:])
    if targets.ndim == 1 and takes_logits:
        targets = np.eye(z.value.shape[1])[targets]
    value, grad = (_cross_entropy if takes_logits else _squared_error)(z, rounded(targets))
    outputs = _softmax(z)[0] if takes_logits and not loss.from_logits else z
    grad = products(grad.value / len(x), grad.low / len(x), grad.high / len(x), 2)
    gradients: list[list[Interval]] = []
    for backward in reversed(backwards):
        grad, found = backward(grad)
        gradients.insert(0, found)
    mean = Interval(value.value.mean(), value.radius.mean() + 2 * U * value.low.mean())
    return mean, [g for found in gradients for g in found], grad, outputs


def _activation(layer: Any) -> tuple[str, float]:
    if isinstance(layer, (kinds.ReLU, kinds.LeakyReLU)):
        return ("leaky_relu" if layer.negative_slope else "relu"), layer.negative_slope
    return "softmax" if isinstance(layer, kinds.Softmax) else getattr(layer, "activation", "linear"), 0.0


def _forward(
    layer: Any, x: Interval, training: bool, mask: np.ndarray | None, is_pooled: bool
) -> tuple[Interval, Backward]:
    """All of a layer but its activation."""
    shape = x.value.shape
    if isinstance(layer, kinds.Conv2D):
        return _conv2d(layer, x, is_pooled)
    if isinstance(layer, kinds.Dense):
        return _dense(layer, x)
    if isinstance(layer, kinds.BatchNormalization):
        return _batchnorm(layer, x, training and layer.trainable)
    if isinstance(layer, (kinds.MaxPooling2D, kinds.GlobalMaxPooling2D)):
        return _maxpool2d(layer, x)
    if isinstance(layer, (kinds.AveragePooling2D, kinds.GlobalAveragePooling2D)):
        return _avgpool2d(layer, x)
    if isinstance(layer, kinds.Rescaling):
        return _linear(x, rounded(layer.scale), rounded(layer.offset))
    if isinstance(layer, kinds.Dropout) and training:
        assert mask is not None
        return _linear(x, rounded(mask), exact(0))
    if isinstance(layer, kinds.ZeroPadding2D):
        sides = ((0, 0), *layer.padding, (0, 0))
        inside = tuple(slice(before, before + size) for (before, _), size in zip(sides, shape, strict=True))
        padded = Interval(*(np.pad(part, sides) for part in x))
        return padded, lambda g: (Interval(*(part[inside] for part in g)), [])
    return x.reshape(shape[0], *layer.output_shape), lambda g: (g.reshape(*shape), [])


def _linear(x: Interval, scale: Interval, offset: Interval) -> tuple[Interval, Backward]:
    y = products(
        x.value * scale.value + offset.value, x.low * scale.low + offset.low, x.high * scale.high + offset.high, 2
    )
    return y, lambda g: (products(g.value * scale.value, g.low * scale.low, g.high * scale.high, 1), [])


def border(layer: Any, size: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The padding of a window layer: with "same", ceil(size / stride) windows, an odd pixel below or right."""
    if layer.padding == "valid":
        return (0, 0), (0, 0)
    window = layer.kernel_size if isinstance(layer, kinds.Conv2D) else layer.pool_size
    sides = []
    for extent, width, step in zip(size[1:3], window, layer.strides, strict=True):
        missing = max(0, (math.ceil(extent / step) - 1) * step + width - extent)
        sides.append((missing // 2, (missing + 1) // 2))
    return sides[0], sides[1]


def _weights(layer: Layer) -> list[np.ndarray]:
    return [weight.astype(np.float64) for weight in layer.get_weights()]


def _conv2d(layer: Any, x: Interval, is_pooled: bool) -> tuple[Interval, Backward]:
    kernel, *biases = _weights(layer)
    padding = border(layer, x.value.shape)
    sizes, steps = np.abs(kernel), (layer.strides, padding)
    bias = biases[0] if biases else None
    size = None if bias is None else np.abs(bias)
    y, low, high = (
        ops.conv2d_forward(part, weight, b, *steps)
        for part, weight, b in ((x.value, kernel, bias), (x.low, sizes, size), (x.high, sizes, size))
    )

    def backward(g: Interval) -> tuple[Interval, list[Interval]]:
        tiles = len(x.value) * math.prod(-(-extent // 2) for extent in g.value.shape[1:3])
        images, filters = winograd_bounds.backward(g.high, x.high, sizes, *steps)
        parts = zip(
            ops.conv2d_backward(g.value, x.value, kernel, *steps),
            ops.conv2d_backward(g.low, x.low, sizes, *steps),
            ops.conv2d_backward(g.high, x.high, sizes, *steps),
            (math.prod(kernel.shape[:2]) * kernel.shape[3], *[g.value[..., 0].size] * 2),
            ((images, kernel.shape[3]), (filters, tiles), (None, 0)),
            strict=True,
        )
        grad_x, *grads = (
            _either(products(value, low, high, terms), high - low, magnitudes, winograd_bounds.roundings(count))
            for value, low, high, terms, (magnitudes, count) in parts
        )
        return grad_x, grads[: 1 + len(biases)]

    found, shape = products(y, low, high, kernel[..., 0].size + 1), y.shape[1:3]
    magnitudes = winograd_bounds.forward(x.high, sizes, *steps, shape)
    if magnitudes is not None and size is not None:
        magnitudes += size
    found = _either(found, high - low, magnitudes, winograd_bounds.roundings(kernel.shape[2]))
    maxima = (len(y), *(extent // 2 for extent in shape), y.shape[3])
    if is_pooled and tuple(layer.strides) == (1, 1) and pooled.uses_winograd(kernel.shape, maxima):
        errors = high - low + winograd_bounds.pooled(*x, kernel, bias, padding, shape)
        found = Interval(y, np.maximum(found.radius, errors))
    return found, backward


def _either(found: Interval, errors: np.ndarray, magnitudes: np.ndarray | None, roundings: int) -> Interval:
    """`found`, with the greater of its radius and that of Winograd's sums: which it is depends on the backend."""
    if magnitudes is None:
        return found
    return Interval(found.value, np.maximum(found.radius, errors + gamma(roundings, U) * magnitudes))


def _dense(layer: Any, x: Interval) -> tuple[Interval, Backward]:
    kernel, *biases = _weights(layer)
    sizes, bias = np.abs(kernel), biases[0] if biases else np.zeros(kernel.shape[1])
    offset = np.abs(bias)
    y = products(x.value @ kernel + bias, x.low @ sizes + offset, x.high @ sizes + offset, len(kernel) + 1)

    def backward(g: Interval) -> tuple[Interval, list[Interval]]:
        grad_x = products(g.value @ kernel.T, g.low @ sizes.T, g.high @ sizes.T, kernel.shape[1])
        grad_kernel = products(x.value.T @ g.value, x.low.T @ g.low, x.high.T @ g.high, len(g.value))
        grad_bias = products(*(part.sum(axis=0) for part in (g.value, g.low, g.high)), len(g.value))
        return grad_x, [grad_kernel, grad_bias][: 1 + len(biases)]

    return y, backward


def _avgpool2d(layer: Any, x: Interval) -> tuple[Interval, Backward]:
    shape, steps = x.value.shape, _window(layer, x.value.shape)
    outputs = [ops.avgpool2d_forward(part, *steps) for part in (x.value, x.low, x.high)]
    windows = math.prod(math.ceil(n / s) for n, s in zip(steps[0], steps[1], strict=True))

    def backward(g: Interval) -> tuple[Interval, list[Interval]]:
        grads = [g.value, g.low, g.high]
        return products(
            *(ops.avgpool2d_backward(part.reshape(outputs[0].shape), shape, *steps) for part in grads), windows + 1
        ), []

    return products(*outputs, math.prod(steps[0]) + 1).reshape(shape[0], *layer.output_shape), backward


def _window(layer: Any, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
    if isinstance(layer, (kinds.GlobalMaxPooling2D, kinds.GlobalAveragePooling2D)):
        return shape[1:3], shape[1:3], ((0, 0), (0, 0))
    return layer.pool_size, layer.strides, border(layer, shape)


def _maxpool2d(layer: Any, x: Interval) -> tuple[Interval, Backward]:
    shape, steps = x.value.shape, _window(layer, x.value.shape)
    largest, winners = ops.maxpool2d_forward(x.value, steps[0], getattr(layer, "ties", "first"), *steps[1:])
    values, radii = (_elements(part, fill, largest.shape, *steps) for part, fill in zip(x, (-np.inf, 0), strict=True))
    radius = radii.max(axis=3)
    winners_radius = np.where(winners, radii, 0).max(axis=3)
    rivals = largest[:, :, :, None] - values <= radii + winners_radius[:, :, :, None]
    doubtful = (rivals.sum(axis=3) > 1) & (np.where(rivals, radii, 0).max(axis=3) > 0)

    def backward(g: Interval) -> tuple[Interval, list[Interval]]:
        g, undecided = g.reshape(*largest.shape), rivals & doubtful[:, :, :, None]
        value, error, doubt, whole = (
            ops.maxpool2d_backward(part, won, shape, *steps)
            for part, won in (
                (g.value, winners),
                (np.where(doubtful, 0, g.radius), winners),
                (g.high, undecided),
                (g.high, winners | undecided),
            )
        )
        overlaps = math.prod(math.ceil(n / s) for n, s in zip(steps[0], steps[1], strict=True))
        return Interval(value, error + doubt + gamma(overlaps - 1, U) * whole), []

    return Interval(largest, radius).reshape(shape[0], *layer.output_shape), backward


def _elements(
    x: np.ndarray, fill: float, outputs: tuple[int, ...], pool_size: Any, strides: Any, padding: Any
) -> np.ndarray:
    """Every window's elements, row by row: (N, OH, OW, PH*PW, C)."""
    x = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=fill)
    below, beside = ((outputs[1 + i] - 1) * strides[i] + 1 for i in range(2))
    taps = [(a, b) for a in range(pool_size[0]) for b in range(pool_size[1])]
    return np.stack([x[:, a : a + below : strides[0], b : b + beside : strides[1]] for a, b in taps], axis=3)


def _activate(x: Interval, name: str, slope: float) -> tuple[Interval, Backward]:
    y = ops.activation_forward(x.value, name, slope)
    derivative = ops.activation_backward(np.ones_like(x.value), x.value, name, slope)
    if name in SLOPES:
        first, second = SLOPES[name]
        y = Interval(y, first * x.radius + 8 * U * (x.high if name == "gelu" else np.abs(y) + first * x.radius) + TINY)
        slopes = Interval(derivative, second * x.radius + 8 * U)
    else:
        doubtful = (np.abs(x.value) <= x.radius) & (x.radius > 0)
        negative = slope * (x.radius + 2 * U * x.high)
        y = Interval(y, np.where(x.value > x.radius, x.radius, np.where(doubtful, x.radius + negative, negative)))
        certain = np.where(x.value > 0, 0, 2 * U * slope)
        slopes = Interval(derivative, np.where(doubtful, 1 + slope, certain))
    return y, lambda g: (products(g.value * derivative, g.low * slopes.low, g.high * slopes.high, 1), [])


def _probabilities(z: Interval) -> tuple[Interval, np.ndarray, np.ndarray]:
    """Return softmax's output, its logarithm, and the latter's radius (see `tolerance._softmax_bounds`)."""
    distance = z.value.max(axis=1, keepdims=True) - z.value
    log_p = -distance - np.log(np.exp(-distance).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    own = U * (2 * distance + 2 * (p * distance).sum(axis=1, keepdims=True) + z.value.shape[1] + 8)
    radius = z.radius + z.radius.max(axis=1, keepdims=True) + own
    return Interval(p, p * np.expm1(radius) + TINY), log_p, radius


def _softmax(z: Interval) -> tuple[Interval, Backward]:
    shape, classes = z.value.shape, z.value.shape[-1]
    p, _, _ = _probabilities(z.reshape(-1, classes))

    def backward(g: Interval) -> tuple[Interval, list[Interval]]:
        g = g.reshape(-1, classes)
        value = p.value * (g.value - (g.value * p.value).sum(axis=1, keepdims=True))
        low, high = (a * (b + (b * a).sum(axis=1, keepdims=True)) for a, b in ((p.low, g.low), (p.high, g.high)))
        grad = products(value, low, high, classes + 2)
        return Interval(grad.value, grad.radius + TINY).reshape(*shape), []

    return p.reshape(*shape), backward


def _cross_entropy(z: Interval, t: Interval) -> tuple[Interval, Interval]:
    """Each sample's loss and its gradient for the logits."""
    p, log_p, log_radius = _probabilities(z)
    terms = Interval(log_p, log_radius)
    losses = products(
        *(part.sum(axis=1) for part in (-t.value * log_p, t.low * terms.low, t.high * terms.high)), len(log_p[0]) + 3
    )
    sums = [part.sum(axis=1, keepdims=True) for part in (t.value, t.low, t.high)]
    value, low, high = p.value * sums[0] - t.value, p.low * sums[1] + t.low, p.high * sums[2] + t.high
    return losses, products(value, low, high, len(log_p[0]) + 2)


def _squared_error(x: Interval, t: Interval) -> tuple[Interval, Interval]:
    """Each sample's loss and its gradient for the predictions."""
    difference = x.value - t.value
    d = Interval(difference, (1 + U) * (x.radius + t.radius) + U * np.abs(difference))
    axes, count = tuple(range(1, difference.ndim)), difference[0].size
    losses = products(*((part**2).mean(axis=axes) for part in (d.value, d.low, d.high)), count + 2)
    return losses, products(*(2 * part / count for part in (d.value, d.low, d.high)), 3)


def _batchnorm(layer: Any, x: Interval, own_moments: bool) -> tuple[Interval, Backward]:
    *scales, moving_mean, moving_variance = _weights(layer)
    axes, count = tuple(range(x.value.ndim - 1)), x.value[..., 0].size
    scale = scales[0] if layer.scale else np.ones_like(moving_mean)
    beta = scales[-1] if layer.center else np.zeros_like(moving_mean)
    mean, variance = exact(moving_mean), exact(moving_variance)
    if own_moments:
        mean = products(*(part.mean(axis=axes) for part in (x.value, x.low, x.high)), count + 1)
        off = x.value - mean.value
        far = np.abs(off) + (1 + U) * (x.radius + mean.radius) + U * np.abs(off)
        variance = products(*((part**2).mean(axis=axes) for part in (off, off, far)), count + 2)
    least = np.maximum(0, variance.value - variance.radius) + layer.epsilon * (1 - U)
    inverse = 1 / np.sqrt(variance.value + layer.epsilon)
    inverse = Interval(inverse, (1 + 4 * U) / np.sqrt(least) - inverse)
    off = x.value - mean.value
    normal = off * inverse.value
    # However it is multiplied out, (x - mean) or x * scale + shift: roundings are relative to |x| + |mean|.
    apart = np.abs(off) + (1 + U) * (x.radius + mean.radius) + gamma(6, U) * (x.high + mean.high)
    normal = Interval(normal, apart * inverse.high - np.abs(off) * inverse.low)
    size = np.abs(scale)
    y = products(normal.value * scale + beta, normal.low * size + np.abs(beta), normal.high * size + np.abs(beta), 4)

    def backward(g: Interval) -> tuple[Interval, list[Interval]]:
        pairs = (g.value, normal.value), (g.low, normal.low), (g.high, normal.high)
        grad_beta = products(*(a.sum(axis=axes) for a, _ in pairs), count)
        grad_scale = products(*((a * b).sum(axis=axes) for a, b in pairs), count + 8)
        factor = Interval(scale * inverse.value, (1 + gamma(2, U)) * size * inverse.high - size * inverse.low)
        if own_moments:
            inner = (
                g.value - grad_beta.value / count - normal.value * (grad_scale.value / count),
                g.low + grad_beta.low / count + normal.low * (grad_scale.low / count),
                g.high + grad_beta.high / count + normal.high * (grad_scale.high / count),
            )
        else:
            inner = g.value, g.low, g.high
        grad_x = products(*(a * b for a, b in zip(inner, (factor.value, factor.low, factor.high), strict=True)), 12)
        share = 0.0 if own_moments else 1.0
        statistics = [
            products(*(share * a * b for a, b in parts), 4)
            for parts in (
                ((-factor.value, grad_beta.value), (factor.low, grad_beta.low), (factor.high, grad_beta.high)),
                (
                    (-factor.value * inverse.value / 2, grad_scale.value),
                    (factor.low * inverse.low / 2, grad_scale.low),
                    (factor.high * inverse.high / 2, grad_scale.high),
                ),
            )
        ]
        return grad_x, [grad_scale][: layer.scale] + [grad_beta][: layer.center] + statistics

    return y, backward
