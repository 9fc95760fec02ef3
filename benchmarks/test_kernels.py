"""Every operation, on every backend that can do the shape in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.kernels import Case, cases, moved
from benchmarks.limits import Limit
from benchmarks.work import record, share_of_limit
from fastcnn import backends

pytestmark = pytest.mark.benchmark(group="kernels")


def parameters() -> list[Any]:
    """A parameter for each backend and case: `conv2d_forward-mb128ic32ih26oc64oh24kh3-numba`."""
    return [
        pytest.param(
            *(case, backend),
            id=f"{case.operation}-{case.shape}-{backend}",
            marks=[pytest.mark.quick] if case.quick and backend != "reference" else [],
        )
        for case in cases()
        for backend in case.backends
    ]


@pytest.mark.parametrize(("case", "backend"), parameters())
def test_operation(benchmark: Any, limit: Callable[[], Limit], case: Case, backend: str) -> None:
    """One call, kernels compiled before."""
    operation, arguments = getattr(backends.get(backend), case.operation), case.make()
    results = operation(*arguments)
    benchmark(operation, *arguments)
    record(benchmark, case.images, case.flop // case.images or None)
    share_of_limit(benchmark, limit, case.flop, moved(arguments, results))
