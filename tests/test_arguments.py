"""What callers hand in: any memory layout gives the right answer, a wrong argument one clear line."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from generated import ARGUMENTS, case, in_float64, normal, shapes
from tolerance import results, truths, worst

from fastcnn.backends import BACKENDS, OPERATIONS, get, reference
from fastcnn.errors import ArgumentError


@pytest.fixture(params=["im2col", "numba"])
def backend(request: pytest.FixtureRequest) -> ModuleType:
    return get(request.param)


def in_other_byte_order(argument: np.ndarray) -> np.ndarray:
    return argument.astype(argument.dtype.newbyteorder())


def every_second(argument: np.ndarray) -> np.ndarray:
    """The same numbers, every second along every axis of an array whose others would spoil the result."""
    larger = np.full([2 * size for size in argument.shape], 99, argument.dtype)
    view = larger[(slice(None, None, 2),) * argument.ndim]
    view[...] = argument
    return view


def backwards(argument: np.ndarray) -> np.ndarray:
    """The same numbers in an array whose strides are negative."""
    return np.flip(np.flip(argument).copy())


def read_only(argument: np.ndarray) -> np.ndarray:
    view = argument.view()
    view.flags.writeable = False
    return view


@pytest.mark.parametrize(
    "form", [np.asfortranarray, every_second, backwards, read_only, in_float64, in_other_byte_order]
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_any_memory_layout(backend: ModuleType, operation: str, form: Callable[[np.ndarray], np.ndarray]) -> None:
    """The answer depends on the numbers alone, and arguments are never written to."""
    for shape in shapes(operation)[100::50]:
        arguments, expected = case(operation, shape)
        formed = [form(argument) if isinstance(argument, np.ndarray) else argument for argument in arguments]
        worst(results(backend, operation, formed), expected, f"{operation} {shape}")
        for before, after in zip(arguments, formed, strict=True):
            np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_arguments_are_never_written_to(backend: ModuleType, operation: str) -> None:
    for shape in shapes(operation)[::10]:
        arguments = ARGUMENTS[operation][1](shape)
        results(backend, operation, arguments)
        for before, after in zip(case(operation, shape)[0], arguments, strict=True):
            np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_results_are_ones_own(backend: ModuleType, operation: str) -> None:
    """A second call leaves the first one's results alone: no buffer is handed out twice, nor an argument."""
    shape = shapes(operation)[-1]
    arguments = ARGUMENTS[operation][1](shape)
    first = results(backend, operation, arguments)
    kept = [output.copy() for output in first]
    for output in results(backend, operation, arguments):
        assert not any(np.shares_memory(output, a) for a in arguments if isinstance(a, np.ndarray))
        output.fill(0)
    for output, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(output, copy)


def test_bytes_as_pixels(backend: ModuleType) -> None:
    rng = np.random.default_rng(8)
    x, filters = rng.integers(256, size=(2, 6, 5, 1), dtype=np.uint8), normal(rng, 3, 3, 1, 4)
    expected = truths("conv2d_forward", (x.astype(np.float32), filters, None), np.float32)
    worst(results(backend, "conv2d_forward", (x, filters, None)), expected, "uint8 pixels")
    pooled, _ = backend.maxpool2d_forward(x, (2, 2), "all")
    np.testing.assert_array_equal(pooled, reference.maxpool2d_forward(x, (2, 2), "all")[0])


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


REFUSED = {
    "x with 3 axes": ("conv2d_forward", (_zeros(5, 5, 1), _zeros(3, 3, 1, 2), None), "x"),
    "x without samples": ("conv2d_forward", (_zeros(0, 5, 5, 1), _zeros(3, 3, 1, 2), None), "x"),
    "channels differ": ("conv2d_forward", (_zeros(1, 5, 5, 2), _zeros(3, 3, 1, 2), None), "filters"),
    "kernel too high": ("conv2d_forward", (_zeros(1, 2, 5, 1), _zeros(3, 3, 1, 2), None), "filters"),
    "kernel too wide": ("conv2d_forward", (_zeros(1, 5, 2, 1), _zeros(3, 3, 1, 2), None), "filters"),
    "bias too long": ("conv2d_forward", (_zeros(1, 5, 5, 1), _zeros(3, 3, 1, 2), _zeros(3)), "bias"),
    "grad_y of x's size": (
        "conv2d_backward",
        (_zeros(1, 5, 5, 2), _zeros(1, 5, 5, 1), _zeros(3, 3, 1, 2)),
        "grad_y",
    ),
    "window too large": ("maxpool2d_forward", (_zeros(1, 5, 2, 1), (2, 3), "all"), "pool_size"),
    "window of zero": ("maxpool2d_forward", (_zeros(1, 5, 5, 1), (0, 2), "all"), "pool_size"),
    "ties unknown": ("maxpool2d_forward", (_zeros(1, 4, 4, 1), (2, 2), "last"), "ties"),
    "grad_y too small": (
        "maxpool2d_backward",
        (_zeros(1, 1, 2, 1), np.ones((1, 2, 2, 4, 1), np.bool_), (1, 4, 4, 1), (2, 2)),
        "grad_y",
    ),
    "winners of another window": (
        "maxpool2d_backward",
        (_zeros(1, 2, 2, 1), np.ones((1, 2, 2, 6, 1), np.bool_), (1, 4, 4, 1), (2, 2)),
        "winners",
    ),
    "stride of zero": ("conv2d_forward", (_zeros(1, 5, 5, 1), _zeros(3, 3, 1, 2), None, (0, 1)), "strides"),
    "one stride only": ("avgpool2d_forward", (_zeros(1, 5, 5, 1), (2, 2), (1,)), "strides"),
    "negative padding": (
        "conv2d_forward",
        (_zeros(1, 5, 5, 1), _zeros(3, 3, 1, 2), None, (1, 1), ((0, 0), (-1, 0))),
        "padding",
    ),
    "three sides": (
        "conv2d_forward",
        (_zeros(1, 5, 5, 1), _zeros(3, 3, 1, 2), None, (1, 1), ((0, 0), (1,))),
        "padding",
    ),
    "padding of a window": (
        "maxpool2d_forward",
        (_zeros(1, 5, 5, 1), (2, 2), "all", None, ((0, 0), (0, 2))),
        "padding",
    ),
    "grad_y without its padding": (
        "avgpool2d_backward",
        (_zeros(1, 2, 2, 1), (1, 5, 5, 1), (2, 2), None, ((0, 1), (0, 1))),
        "grad_y",
    ),
    "activation unknown": ("activation_forward", (_zeros(2), "swish"), "name"),
    "grad_y of another shape": ("activation_backward", (_zeros(2, 3), _zeros(3, 2), "relu"), "grad_y"),
    "gamma too long": (
        "batchnorm_forward",
        (_zeros(2, 3), _zeros(4), _zeros(3), _zeros(3), _zeros(3), 0.1),
        "gamma",
    ),
    "variance too short": (
        "batchnorm_backward",
        (_zeros(2, 3), _zeros(2, 3), _zeros(3), _zeros(3), _zeros(2), 0.1, True),
        "variance",
    ),
    "x a vector": ("batchnorm_moments", (_zeros(3),), "x"),
    "y of other classes": ("softmax_backward", (_zeros(2, 3), _zeros(2, 4)), "grad_y"),
    "targets as labels": ("softmax_cross_entropy_soft", (_zeros(3, 2), _zeros(3)), "targets"),
    "targets too wide": ("mean_squared_error", (_zeros(3, 2), _zeros(3, 3)), "targets"),
    "inputs differ": ("dense_forward", (_zeros(2, 3), _zeros(4, 5), None), "weights"),
    "bias too short": ("dense_forward", (_zeros(2, 3), _zeros(3, 5), _zeros(1)), "bias"),
    "grad_y transposed": ("dense_backward", (_zeros(5, 2), _zeros(2, 3), _zeros(3, 5)), "grad_y"),
    "logits a vector": ("softmax", (_zeros(3),), "logits"),
    "too few labels": ("softmax_cross_entropy", (_zeros(3, 2), np.array([0, 1])), "labels"),
    "labels as floats": ("softmax_cross_entropy", (_zeros(2, 2), np.array([0.0, 1.0])), "labels"),
    "label too large": ("softmax_cross_entropy", (_zeros(2, 2), np.array([0, 2])), "labels"),
    "label negative": ("softmax_cross_entropy", (_zeros(2, 2), np.array([0, -1])), "labels"),
}


@pytest.mark.parametrize(("operation", "arguments", "culprit"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("name", BACKENDS)
def test_bad_arguments_are_named(name: str, operation: str, arguments: tuple[Any, ...], culprit: str) -> None:
    """In one line that begins with the argument's name; on the fast rungs as an ArgumentError."""
    with pytest.raises(ValueError, match=rf"^{culprit} [^\n]+; [^\n]+$") as error:
        results(get(name), operation, arguments)
    assert isinstance(error.value, ArgumentError) == (name != "reference")


@pytest.mark.parametrize(
    ("operation", "arguments", "culprit"),
    [
        ("dense_forward", ([[1.0]], _zeros(1, 1), None), "x"),
        ("dense_forward", (_zeros(1, 1), _zeros(1, 1), [1.0]), "bias"),
        ("dense_forward", (np.array([["a"]]), _zeros(1, 1), None), "x"),
        ("dense_forward", (_zeros(1, 1), np.zeros((1, 1), np.complex64), None), "weights"),
        ("maxpool2d_forward", (_zeros(1, 4, 4, 1), 2, "all"), "pool_size"),
        ("maxpool2d_forward", (_zeros(1, 4, 4, 1), (2.0, 2.0), "all"), "pool_size"),
        ("maxpool2d_backward", (_zeros(1, 1, 1, 1), _zeros(1, 1, 1, 4, 1), (1, 2, 2, 1), (2, 2)), "winners"),
        ("maxpool2d_backward", (_zeros(1, 1, 1, 1), _zeros(1, 1, 1, 4, 1), (2, 2, 1), (2, 2)), "input_shape"),
    ],
)
def test_other_types_are_refused(backend: ModuleType, operation: str, arguments: tuple[Any, ...], culprit: str) -> None:
    with pytest.raises(ArgumentError, match=rf"^{culprit} [^\n]+; it must [^\n]+$"):
        results(backend, operation, arguments)
