"""How far a result may lie from the truth: the rounding bound, computed for each element and not chosen.

A floating-point operation has a relative error of at most u, the unit roundoff: 2^-24 in float32, 2^-53 in
float64. In a sum of n products, added in any order, each product meets at most n roundings, its own and n - 1
additions, so

    |computed - exact| <= gamma(n) * sum(|a| * |b|),    gamma(n) = n * u / (1 - n * u)

(N. Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1; fused multiply-adds only save
roundings). With eps = 2 u this is c * n * eps * sum(|a| * |b|) with c = 1/2: the theorem, no allowance added.
The sum of absolute values is the same operation once more, on the arguments' absolute values. The truth,
itself computed in float64, has a bound of the same form, and the two are added.

Arguments must be exact in the precision that is tested: tests draw them in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from fastcnn.backends import reference

#: What each operation returns, in order.
OUTPUTS = {
    "conv2d_forward": ("y",),
    "conv2d_backward": ("grad_x", "grad_filters", "grad_bias"),
    "maxpool2d_forward": ("y", "winners"),
    "maxpool2d_backward": ("grad_x",),
    "dense_forward": ("y",),
    "dense_backward": ("grad_x", "grad_weights", "grad_bias"),
    "softmax": ("probabilities",),
    "softmax_cross_entropy": ("losses", "probabilities", "grad_logits"),
}


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


def worst(actual: Sequence[np.ndarray], expected: Sequence[Truth], what: object) -> float:
    """Fail if any element lies outside its bound; return the greatest error as a fraction of its bound.

    A NaN equals a NaN only. Where the bound is zero the error must be.
    """
    fractions = [0.0]
    for got, (name, value, bound) in zip(actual, expected, strict=True):
        assert got.shape == value.shape, f"{what}: {name} has shape {got.shape}, not {value.shape}"
        error = np.abs(np.subtract(got, value, dtype=np.float64))
        error[np.isnan(got) & np.isnan(value)] = 0
        outside = ~(error <= bound)
        if outside.any():
            at = tuple(int(i) for i in np.argwhere(outside)[0])
            raise AssertionError(
                f"{what}: {name}{list(at)} is {got[at]!r}, not {value[at]!r}: off by {error[at]:.3g}, "
                f"may be {bound[at]:.3g} ({outside.sum()} of {outside.size} elements are outside)"
            )
        fractions.append(np.max(error / np.where(bound == 0, 1, bound)))
    return max(fractions)


def gamma(terms: int, u: float) -> float:
    """Return Higham's gamma(n): the relative error that n roundings can add up to."""
    return terms * u / (1 - terms * u)


def _bounds(operation: str, arguments: Sequence[Any], precision: np.finfo[Any], source: ModuleType) -> list[np.ndarray]:
    u = float(precision.eps) / 2
    if operation.startswith("maxpool2d"):  # comparisons and copies: exact
        return [np.zeros(output.shape) for output in results(source, operation, arguments)]
    if operation.startswith("softmax"):
        return _softmax_bounds(operation, *arguments, u=u, tiny=float(precision.tiny))
    absolute = [None if argument is None else np.abs(_float64(argument)) for argument in arguments]
    magnitudes = results(source, operation, absolute)
    return [gamma(n, u) * magnitude for n, magnitude in zip(_terms(operation, *arguments), magnitudes, strict=True)]


def _terms(operation: str, *arguments: Any) -> tuple[int, ...]:
    """Return how many terms each output's sums have, at most."""
    if operation == "conv2d_forward":
        kernel_height, kernel_width, channels, _ = arguments[1].shape
        return (kernel_height * kernel_width * channels + 1,)  # 1: the bias
    if operation == "conv2d_backward":
        samples, out_height, out_width, count = arguments[0].shape
        kernel_height, kernel_width, _, _ = arguments[2].shape
        pixels = samples * out_height * out_width
        return kernel_height * kernel_width * count, pixels, pixels
    samples = arguments[0].shape[0]
    inputs, units = arguments[1].shape if operation == "dense_forward" else arguments[2].shape
    return (inputs + 1,) if operation == "dense_forward" else (units, samples, samples)


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
    losses, _, grad_logits = reference.softmax_cross_entropy(z, labels)
    # The logarithm makes the total's relative error absolute; it and two subtractions add u |loss| each.
    return [u * (total[:, 0] + 3 * losses), probabilities, probabilities + u * np.abs(grad_logits)]


def _float64(argument: Any) -> Any:
    """Return arrays of floats in float64, everything else (labels, winners, shapes, None, names) as it is."""
    if isinstance(argument, np.ndarray) and argument.dtype.kind == "f":
        return argument.astype(np.float64)
    return argument
