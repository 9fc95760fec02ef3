"""What the benchmarks share: MNIST, threads, the machine's limits, the quick group, a summary of work per second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from benchmarks import limits
from fastcnn import utils
from fastcnn.datasets import mnist as files


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("benchmark").addoption(
        "--benchmark-quick", action="store_true", help="only the quick group, with fewer rounds: two minutes"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "quick: part of what --benchmark-quick runs")
    if config.getoption("--benchmark-quick"):
        config.option.benchmark_max_time = Decimal("0.2")
        config.option.benchmark_min_rounds = 3


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the quick group where that was asked for."""
    if not config.getoption("--benchmark-quick"):
        return
    others = [item for item in items if item.get_closest_marker("quick") is None]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item.get_closest_marker("quick") is not None]


@pytest.fixture(scope="session")
def rounds(request: pytest.FixtureRequest) -> int:
    """How often the long benchmarks run."""
    return 3 if request.config.getoption("--benchmark-quick") else 5


@pytest.fixture(scope="session")
def limit() -> Callable[[], limits.Limit]:
    """What the machine can do on as many threads as are in use; measured at the first call."""
    found: dict[int, limits.Limit] = {}

    def measured() -> limits.Limit:
        threads = utils.get_threads()
        if threads not in found:
            found[threads] = limits.measure(threads)
        return found[threads]

    return measured


@dataclass(frozen=True)
class Mnist:
    """Images (N, 28, 28, 1) uint8 and labels (N,) int64."""

    images: Any
    labels: Any
    test_images: Any
    test_labels: Any


@pytest.fixture(scope="session")
def mnist(request: pytest.FixtureRequest) -> Mnist:
    """All of MNIST; the first thousand of each where nothing is timed."""
    (x, y), (x_test, y_test) = files.load_data()
    count = 1000 if request.config.getoption("benchmark_disable") else None
    return Mnist(
        x[:count, ..., None], y[:count].astype(np.int64), x_test[:count, ..., None], y_test[:count].astype(np.int64)
    )


@pytest.fixture
def use_threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads for one benchmark; skips it where there are fewer processors."""
    import numba

    before, available = utils.get_threads(), int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]

    def use(threads: int) -> None:
        if threads > available:
            pytest.skip(f"needs {threads} threads, has {available}")
        utils.set_threads(threads)

    yield use
    utils.set_threads(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print `extra_info`, which pytest-benchmark only writes to its JSON."""
    session = getattr(config, "_benchmarksession", None)
    rows = [] if session is None else [bench for bench in session.benchmarks if bench.extra_info and bench.stats]
    if not rows:
        return
    terminalreporter.section("work per second")
    width = max(len(bench.name) for bench in rows)
    for bench in sorted(rows, key=lambda bench: bench.group or ""):
        figures = (f"{name.replace('_', ' ')} {value:,}" for name, value in bench.extra_info.items())
        terminalreporter.write_line(f"{bench.group or '':10} {bench.name:{width}}  {', '.join(figures)}")
