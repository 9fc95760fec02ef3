"""Work per second: what a benchmark adds to its time, in `benchmark.extra_info`."""

from __future__ import annotations

from typing import Any

#: Floating-point operations of the tutorial's network (28x28, 8 filters of 3x3, 10 classes) on one image, a
#: multiply-add counted as two. Training adds to the forward pass the gradients of dense weights, dense inputs and
#: filters, each as many as its forward pass and all counted as if dense: a kernel that skips what is zero comes out
#: above what it executes.
CONVOLUTION, DENSE = 2 * 26 * 26 * 9 * 8, 2 * 13 * 13 * 8 * 10
FORWARD_FLOP = CONVOLUTION + DENSE
STEP_FLOP = 2 * CONVOLUTION + 3 * DENSE


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
