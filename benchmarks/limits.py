"""What this machine can do at most, measured: multiply-adds in registers, and memory bandwidth.

`python -m benchmarks.limits [THREADS]` prints it. The share of peak in every report is of these figures.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numba import njit, prange

from fastcnn import utils
from fastcnn.backends.numba.jit import jit_inline
from fastcnn.backends.numba.lanes import sum_lanes
from fastcnn.backends.numba.packing import aligned_zeros
from fastcnn.backends.numba.simd import LANES, address, fma, load, shifted, splat, store

#: Independent chains of multiply-adds: two units of four cycles' latency need eight of them to be always busy.
CHAINS = 12

#: Floats in each array of the bandwidth measurements: 256 MB, more than the caches of a server hold.
FLOATS = 1 << 26

#: Passes over them in a sample: long beside what waiting for the last thread costs on a shared machine.
TIMES = 2

#: How long one sample lasts, about, and how many are taken; the best one is the limit, the others were disturbed.
SECONDS, SAMPLES = 0.05, 12

#: Compiled in every process: fastcnn's cache goes by the source of its own kernels and would keep old ones of these.
_compiled = njit(parallel=True)


@dataclass
class Limit:
    """What so many threads reach together.

    Attributes:
        threads: how many.
        gflop_per_second: multiply-adds in registers, each counted as two; the best sample.
        read_gb_per_second: summing an array, 1e9 bytes.
        triad_gb_per_second: ``a = b + s * c`` with three arrays, as in McCalpin's STREAM: 12 bytes counted a
            number, though a cache reads what it is going to overwrite.
        samples: all of them, by the names above.
    """

    threads: int
    gflop_per_second: float
    read_gb_per_second: float
    triad_gb_per_second: float
    samples: dict[str, list[float]]

    def attainable(self, flop_per_byte: float) -> float:
        """The roofline (Williams, Waterman and Patterson, 2009): GFLOP/s of work that moves a byte for so many."""
        return min(self.gflop_per_second, flop_per_byte * self.triad_gb_per_second)

    def better(self, other: Limit) -> Limit:
        """The best of both, with all samples: a neighbour on a shared machine only ever takes away."""
        samples = {name: [*values, *other.samples[name]] for name, values in self.samples.items()}
        return Limit(self.threads, **{name: max(values) for name, values in samples.items()}, samples=samples)


@jit_inline
def _vector(seed, number):
    return splat(np.float32(seed + number))


@jit_inline
def _chains(steps, seed):
    """`CHAINS` sums that never leave their registers. All begin differently: equal ones would be computed once."""
    half, one = splat(np.float32(0.5)), splat(np.float32(1))
    a, b, c, d = _vector(seed, 0), _vector(seed, 1), _vector(seed, 2), _vector(seed, 3)
    e, f, g, h = _vector(seed, 4), _vector(seed, 5), _vector(seed, 6), _vector(seed, 7)
    i, j, k, m = _vector(seed, 8), _vector(seed, 9), _vector(seed, 10), _vector(seed, 11)
    for _ in range(steps):
        a, b, c, d = fma(a, half, one), fma(b, half, one), fma(c, half, one), fma(d, half, one)
        e, f, g, h = fma(e, half, one), fma(f, half, one), fma(g, half, one), fma(h, half, one)
        i, j, k, m = fma(i, half, one), fma(j, half, one), fma(k, half, one), fma(m, half, one)
    return sum_lanes(a + b + c + d + e + f + g + h + i + j + k + m)


@_compiled
def multiply_add(steps, results):
    """`CHAINS` x `steps` vector multiply-adds for each of `results`, which keep them from being left out."""
    for thread in prange(len(results)):
        results[thread] = _chains(steps, np.float32(thread + 1))


@jit_inline
def _sum(pointer, count):
    a, b, c, d = splat(np.float32(0)), splat(np.float32(0)), splat(np.float32(0)), splat(np.float32(0))
    for i in range(0, count, 4 * LANES):
        a = a + load(pointer, i)
        b = b + load(pointer, i + LANES)
        c = c + load(pointer, i + 2 * LANES)
        d = d + load(pointer, i + 3 * LANES)
    return sum_lanes(a + b + c + d)


@_compiled
def read(x, times, results):
    """Add to each of `results` the sum of its part of x, so many times."""
    part = len(x) // len(results)
    for thread in prange(len(results)):
        for _ in range(times):
            results[thread] += _sum(shifted(address(x), thread * part), part)


@_compiled
def triad(a, b, c, times, threads):
    """``a = b + 3 * c`` in so many parts, so many times."""
    part = len(a) // threads
    for thread in prange(threads):
        first = thread * part
        three, to = splat(np.float32(3)), address(a)
        left, right = address(b), address(c)
        for _ in range(times):
            for i in range(first, first + part, LANES):
                store(to, i, fma(three, load(right, i), load(left, i)))


def _best(run: Callable[[], Any], work: float) -> list[float]:
    """`work` per second and 1e9, in each of `SAMPLES` runs, kernels compiled before."""
    run()
    found = []
    for _ in range(SAMPLES):
        begun = time.perf_counter()
        run()
        found.append(work / (time.perf_counter() - begun) / 1e9)
    return found


def measure(threads: int) -> Limit:
    """The limits of so many threads of this process."""
    before = utils.get_threads()
    utils.set_threads(threads)
    try:
        results, steps = np.zeros(threads, np.float32), 20_000
        steps = max(steps, int(SECONDS * max(_best(lambda: multiply_add(steps, results[:1]), steps * 1e9))))
        flop = _best(lambda: multiply_add(steps, results), 2.0 * CHAINS * LANES * steps * threads)
        a, b, c = (aligned_zeros(FLOATS) for _ in range(3))
        b += 1  # pages that were never written share one page of zeros
        c += 1
        reading = _best(lambda: read(b, TIMES, results), 4.0 * FLOATS * TIMES)
        triads = _best(lambda: triad(a, b, c, TIMES, threads), 12.0 * FLOATS * TIMES)
    finally:
        utils.set_threads(before)
    samples = {"gflop_per_second": flop, "read_gb_per_second": reading, "triad_gb_per_second": triads}
    return Limit(threads, **{name: max(values) for name, values in samples.items()}, samples=samples)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the limit of so many threads, or of one and of all, each as a line of JSON."""
    asked = [int(text) for text in (sys.argv[1:] if arguments is None else arguments)]
    for threads in asked or sorted({1, utils.get_threads()}):
        print(json.dumps(asdict(measure(threads))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
