"""How far a result may lie from the truth: the rounding bound, computed for each element and not chosen.

A floating-point operation has a relative error of at most u, the unit roundoff: 2^-24 in float32, 2^-53 in
float64. In a sum of n products, added in any order, each product meets at most n roundings, its own and n - 1
additions, so

    |computed - exact| <= gamma(n) * sum(|a| * |b|),    gamma(n) = n * u / (1 - n * u)

(N. Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1; fused multiply-adds only save
roundings). With eps = 2 u this is c * n * eps * sum(|a| * |b|) with c = 1/2: the theorem, no allowance added.
The sum of absolute values is the same operation once more, on the arguments' absolute values. The truth,
itself computed in float64, has a bound of the same form, and the two are added.

The numba backend computes some convolutions in another way, as sums of other products: see `winograd_bounds.py`.

Exponentials and their relatives have no such theorem: libraries promise a few units in the last place. What
is asked of the activations is written in units of eps in `_activation_bounds`.

Arguments must be exact in the precision that is tested: tests draw them in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import winograd_bounds
from winograd_bounds import gamma as gamma

from fastcnn.backends import reference

#: What each operation returns, in order.
OUTPUTS = {
    "conv2d_forward": ("y",),
    "conv2d_backward": ("grad_x", "grad_filters", "grad_bias"),
    "maxpool2d_forward": ("y", "winners"),
    "maxpool2d_backward": ("grad_x",),
    "avgpool2d_forward": ("y",),
    "avgpool2d_backward": ("grad_x",),
    "dense_forward": ("y",),
    "dense_backward": ("grad_x", "grad_weights", "grad_bias"),
    "activation_forward": ("y",),
    "activation_backward": ("grad_x",),
    "batchnorm_forward": ("y",),
    "batchnorm_moments": ("mean", "variance"),
    "batchnorm_backward": ("grad_x", "grad_gamma", "grad_beta"),
    "softmax": ("probabilities",),
    "softmax_backward": ("grad_x",),
    "softmax_cross_entropy": ("losses", "probabilities", "grad_logits"),
    "softmax_cross_entropy_soft": ("losses", "probabilities", "grad_logits"),
    "mean_squared_error": ("losses", "grad_predictions"),
}


UNIT_STEPS = (1, 1), ((0, 0), (0, 0))


class Truth(NamedTuple):
    """One output of an operation as it should be, and how far each of its elements may be off."""

    name: str
    value: np.ndarray
    bound: np.ndarray


def results(backend: ModuleType, operation: str, arguments: Sequence[Any]) -> tuple[np.ndarray, ...]:
    """Run an operation and return its outputs as a tuple, also where there is only one."""
    outputs = getattr(backend, operation)(*arguments)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def truths(
    operation: str, arguments: Sequence[Any], dtype: type[np.floating[Any]], source: ModuleType = reference
) -> list[Truth]:
    """Return each output's true value, and its bound for a backend that computes in `dtype`.

    `source` computes the truth, in float64: the reference, or `im2col` for shapes on which loops would take
    too long.
    """
    values = results(source, operation, [_float64(argument) for argument in arguments])
    bounds = [
        tested + own
        for tested, own in zip(
            _bounds(operation, arguments, np.finfo(dtype), source),
            _bounds(operation, arguments, np.finfo(np.float64), source),
            strict=True,
        )
    ]
    return [Truth(*output) for output in zip(OUTPUTS[operation], values, bounds, strict=True)]


def of_numba(expected: list[Truth], operation: str, arguments: Sequence[Any]) -> list[Truth]:
    """Return `expected` with the bounds of the numba backend, where that uses Winograd's convolution."""
    if operation == "conv2d_forward":
        x, filters, _, *steps = arguments
        size = expected[0].value.shape[1:3]
        found = [(winograd_bounds.forward(x, filters, *(steps or UNIT_STEPS), size), filters.shape[2])]
    elif operation == "conv2d_backward":
        grad_y, x, filters, *steps = arguments
        tiles = len(x) * math.prod(-(-extent // 2) for extent in grad_y.shape[1:3])
        magnitudes = winograd_bounds.backward(grad_y, x, filters, *(steps or UNIT_STEPS))
        found = list(zip(magnitudes, (filters.shape[3], tiles), strict=True))
    else:
        return expected
    changed = list(expected)
    for place, (magnitude, terms) in enumerate(found):
        if magnitude is not None:
            bias = 0.0 if operation == "conv2d_backward" or arguments[2] is None else np.abs(_float64(arguments[2]))
            bound = gamma(winograd_bounds.roundings(terms), 2.0**-24) * (magnitude + bias)
            changed[place] = expected[place]._replace(bound=bound + 2.0**-29 * expected[place].bound)  # the truth's
    return changed


def worst(actual: Sequence[np.ndarray], expected: Sequence[Truth], what: object) -> float:
    """Fail if any element lies outside its bound; return the greatest error as a fraction of its bound.

    A NaN equals a NaN only. Where the bound is zero the error must be.
    """
    fractions = [0.0]
    for got, (name, value, bound) in zip(actual, expected, strict=True):
        assert got.shape == value.shape, f"{what}: {name} has shape {got.shape}, not {value.shape}"
        with np.errstate(invalid="ignore"):  # infinity less infinity
            error = np.abs(np.subtract(got, value, dtype=np.float64))
        error[(np.isnan(got) & np.isnan(value)) | (got == value)] = 0
        outside = ~(error <= bound)
        if outside.any():
            at = tuple(int(i) for i in np.argwhere(outside)[0])
            raise AssertionError(
                f"{what}: {name}{list(at)} is {got[at]!r}, not {value[at]!r}: off by {error[at]:.3g}, "
                f"may be {bound[at]:.3g} ({outside.sum()} of {outside.size} elements are outside)"
            )
        fractions.append(np.max(error / np.where(bound == 0, 1, bound)))
    return max(fractions)


def _bounds(operation: str, arguments: Sequence[Any], precision: np.finfo[Any], source: ModuleType) -> list[np.ndarray]:
    u = float(precision.eps) / 2
    if operation == "maxpool2d_forward":  # comparisons and copies: exact
        return [np.zeros(output.shape) for output in results(source, operation, arguments)]
    if operation.startswith("activation"):
        return [_activation_bounds(operation, *arguments, eps=2 * u, tiny=float(precision.tiny))]
    if operation.startswith("batchnorm"):
        return _batchnorm_bounds(operation, *(_float64(argument) for argument in arguments), u=u)
    if operation == "softmax_backward":  # K + 1 products, each of which may be subnormal, and then anything below tiny
        grad_y, y = (np.abs(_float64(argument)) for argument in arguments)
        sums = grad_y + (grad_y * y).sum(axis=1, keepdims=True)
        return [gamma(y.shape[1] + 2, u) * y * sums + (y.shape[1] * y + 1) * float(precision.tiny)]
    if operation == "mean_squared_error":  # every term is positive: nothing cancels but in the difference, exact to u
        losses, grads = results(source, operation, [_float64(argument) for argument in arguments])
        return [gamma(grads.size // len(losses) + 4, u) * losses, gamma(4, u) * np.abs(grads)]
    if operation.startswith("softmax"):
        return _softmax_bounds(operation, *arguments, u=u, tiny=float(precision.tiny))
    absolute = [_absolute(argument) for argument in arguments]
    magnitudes = results(source, operation, absolute)
    return [gamma(n, u) * magnitude for n, magnitude in zip(_terms(operation, *arguments), magnitudes, strict=True)]


def _absolute(argument: Any) -> Any:
    is_numbers = isinstance(argument, np.ndarray) and argument.dtype != np.bool_
    return np.abs(_float64(argument)) if is_numbers else argument


def _terms(operation: str, *arguments: Any) -> tuple[int, ...]:
    """Return how many roundings a product in each output's sums meets, at most."""
    if operation == "conv2d_forward":
        kernel_height, kernel_width, channels, _ = arguments[1].shape
        return (kernel_height * kernel_width * channels + 1,)  # 1: the bias
    if operation == "conv2d_backward":
        samples, out_height, out_width, count = arguments[0].shape
        kernel_height, kernel_width, _, _ = arguments[2].shape
        pixels = samples * out_height * out_width
        return kernel_height * kernel_width * count, pixels, pixels
    if operation == "avgpool2d_forward":
        return (math.prod(arguments[1]) + 1,)  # 1: the count's reciprocal
    if operation in ("maxpool2d_backward", "avgpool2d_backward"):
        pool_size, strides = arguments[-3], arguments[-2] or arguments[-3]
        windows = math.prod(math.ceil(size / step) for size, step in zip(pool_size, strides, strict=True))
        return (windows - 1 if operation == "maxpool2d_backward" else windows + 1,)  # copies; shares, two roundings
    samples = arguments[0].shape[0]
    inputs, units = arguments[1].shape if operation == "dense_forward" else arguments[2].shape
    return (inputs + 1,) if operation == "dense_forward" else (units, samples, samples)


def _activation_bounds(operation: str, *arguments: Any, eps: float, tiny: float) -> np.ndarray:
    """Return what is asked of the activations.

    relu: exact; leaky_relu: one product, and the slope itself rounded. sigmoid and tanh: 4 eps of their value.
    gelu: 4 eps of |x|, since where Phi is near zero its digits hang on those of erf near -1. Derivatives lie
    between -0.2 and 1.2 and are differences of such numbers: 4 eps times the gradient, whatever cancels.
    Results in the subnormal range, below `tiny`, may be anything there, also zero.
    """
    *grad_y, x, name, slope = (_float64(argument) for argument in arguments)
    exact = {"relu": 0.0, "leaky_relu": eps}
    if grad_y:
        return exact.get(name, 4 * eps) * np.abs(grad_y[0]) + (tiny if name not in exact else 0)
    y = reference.activation_forward(x, name, slope)
    if name in exact:
        return exact[name] * np.abs(y)
    return 4 * eps * np.abs(x if name == "gelu" else y) + tiny


def _batchnorm_bounds(operation: str, *arguments: Any, u: float) -> list[np.ndarray]:
    """Return the bounds for batch normalisation, whichever way its products are multiplied out.

    The variance's distances are taken from a mean that is itself off by d: in exact arithmetic that adds d^2.
    """
    x = arguments[1 if operation == "batchnorm_backward" else 0]
    count = x.size // x.shape[-1]
    if operation == "batchnorm_moments":
        _, variance = reference.batchnorm_moments(x)
        mean_bound = gamma(count + 1, u) * np.abs(x).reshape(count, -1).mean(axis=0)
        return [mean_bound, gamma(count + 4, u) * (variance + mean_bound**2) + mean_bound**2]
    if operation == "batchnorm_forward":
        _, scale, offset, mean, variance, epsilon = arguments
        magnitude = (np.abs(x) + np.abs(mean)) * np.abs(scale) / np.sqrt(variance + epsilon) + np.abs(offset)
        return [gamma(8, u) * magnitude]
    grad_y, _, scale, mean, variance, epsilon, training = arguments
    grads, inverse = np.abs(grad_y).reshape(count, -1), 1 / np.sqrt(variance + epsilon)
    normalized = ((np.abs(x) + np.abs(mean)) * inverse).reshape(count, -1)
    grad_gamma, grad_beta = (grads * normalized).sum(axis=0), grads.sum(axis=0)
    magnitude = grads + (grad_beta + normalized * grad_gamma) / count if training else grads
    grad_x = (gamma(count + 20, u) if training else gamma(8, u)) * np.abs(scale) * inverse * magnitude
    return [grad_x.reshape(x.shape), gamma(count + 8, u) * grad_gamma, gamma(count, u) * grad_beta]


def _softmax_bounds(
    operation: str, logits: np.ndarray, labels: np.ndarray | None = None, *, u: float, tiny: float
) -> list[np.ndarray]:
    """Return the bounds for softmax in a straightforward implementation, followed operation by operation.

    With s = z - max(z): the subtraction has an error of u |s|, which the exponential turns into a relative
    one, and adds up to 4 u of its own (two units in the last place). Over the total these are averaged,
    weighted by p; K - 1 additions and the division follow. An implementation that goes through log(p)
    subtracts once more: twice |s|. Probabilities in the subnormal range, below `tiny`, may be anything there,
    also zero.
    """
    z = _float64(logits)
    p = reference.softmax(z)
    s = np.abs(z - z.max(axis=1, keepdims=True))
    total = 2 * (p * s).sum(axis=1, keepdims=True) + z.shape[1] + 8
    probabilities = u * p * (2 * s + total) + tiny
    if operation == "softmax":
        return [probabilities]
    if operation == "softmax_cross_entropy_soft":
        weights, log_p = np.abs(_float64(labels)), s + np.log(np.exp(-s).sum(axis=1, keepdims=True))
        losses = u * (weights * (total + (z.shape[1] + 3) * log_p)).sum(axis=1)
        sums = weights.sum(axis=1, keepdims=True)
        return [losses, probabilities, probabilities * sums + gamma(z.shape[1] + 2, u) * (sums * p + weights)]
    losses, _, grad_logits = reference.softmax_cross_entropy(z, labels)
    # The logarithm makes the total's relative error absolute; it and two subtractions add u |loss| each.
    return [u * (total[:, 0] + 3 * losses), probabilities, probabilities + u * np.abs(grad_logits)]


def _float64(argument: Any) -> Any:
    """Return arrays of floats in float64, everything else (labels, winners, shapes, None, names) as it is."""
    if isinstance(argument, np.ndarray) and argument.dtype.kind == "f":
        return argument.astype(np.float64)
    return argument
