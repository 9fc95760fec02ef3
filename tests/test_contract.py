"""The three backends have one interface: the same operations, with the same arguments in the same order."""

from __future__ import annotations

import inspect
from types import ModuleType

import numpy as np
import pytest
from tolerance import OUTPUTS

from fastcnn import reference as public_reference
from fastcnn.backends import BACKENDS, OPERATIONS, get
from fastcnn.errors import ArgumentError


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> ModuleType:
    return get(request.param)


def parameters(function: object) -> list[tuple[str, object, object]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_signatures_agree(backend: ModuleType, operation: str) -> None:
    assert parameters(getattr(backend, operation)) == parameters(getattr(get("reference"), operation))


def test_every_public_function_is_an_operation(backend: ModuleType) -> None:
    public = {
        name
        for name, function in inspect.getmembers(backend, inspect.isfunction)
        if not name.startswith("_") and function.__module__.startswith(backend.__name__)
    }
    assert public == set(OPERATIONS)


def test_every_operation_is_documented(backend: ModuleType) -> None:
    assert [name for name in OPERATIONS if not getattr(backend, name).__doc__] == []


def test_every_operation_has_a_tolerance() -> None:
    assert set(OUTPUTS) == set(OPERATIONS)


def test_dtypes(backend: ModuleType) -> None:
    """What a model keeps its weights in is what the operations return."""
    x, weights = np.ones((2, 3), backend.DTYPE), np.ones((3, 4), backend.DTYPE)
    assert backend.dense_forward(x, weights, None).dtype == backend.DTYPE
    assert (np.float64 if backend is get("reference") else np.float32) == backend.DTYPE


def test_reference_is_public_under_a_short_name() -> None:
    for operation in OPERATIONS:
        assert getattr(public_reference, operation) is getattr(get("reference"), operation)
    assert set(public_reference.__all__) == {*OPERATIONS, "Conv3x3", "MaxPool2", "Softmax"}


def test_unknown_backend() -> None:
    with pytest.raises(ArgumentError, match=r"backend='cuda' is unknown; choose one of 'reference', 'im2col'"):
        get("cuda")
