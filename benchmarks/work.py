"""Work per second: what a benchmark adds to its time, in `benchmark.extra_info`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.limits import Limit


def record(benchmark: Any, images: int, flop_per_image: int | None = None, **more: float) -> None:
    """Note what a round did. Does nothing where nothing was timed (``--benchmark-disable``).

    Args:
        benchmark: pytest-benchmark's fixture, after it ran.
        images: in one round.
        flop_per_image: for GFLOP/s, where that means something.
        more: other figures, such as the test accuracy that the timed training reached.
    """
    benchmark.extra_info.update(more)
    if not benchmark.stats:
        return
    seconds = benchmark.stats.stats.median / images
    benchmark.extra_info["images_per_second"] = round(1 / seconds, 1)
    benchmark.extra_info["microseconds_per_image"] = round(seconds * 1e6, 3)
    if flop_per_image is not None:
        benchmark.extra_info["gflop_per_second"] = round(flop_per_image / seconds / 1e9, 2)


def share_of_limit(benchmark: Any, limit: Callable[[], Limit], flop: float, moved: float = 0.0) -> None:
    """Note how near a round came to what the machine can do.

    That is the longer of two times: the multiply-adds at their peak, and all arrays once through memory at the triad's
    bandwidth. Arrays that stay in a cache can beat it.

    Args:
        benchmark: as for `record`.
        limit: measures the machine, once; not called where nothing was timed.
        flop: of a round.
        moved: bytes of a round; 0 leaves the memory out.
    """
    if not benchmark.stats:
        return
    most, seconds = limit(), benchmark.stats.stats.median
    least = max(flop / most.gflop_per_second, moved / most.triad_gb_per_second) / 1e9
    benchmark.extra_info["share_of_limit"] = round(least / seconds, 3)
    if flop:
        share = flop / seconds / 1e9 / most.gflop_per_second
        benchmark.extra_info["share_of_peak"] = round(share, 3)
