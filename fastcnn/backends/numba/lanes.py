"""Operations across the lanes of a vector: sums, shuffles, powers of two."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from fastcnn.backends.numba.simd import EXACT, FLOATS, INT32, INT_VECTOR, LANES, VECTOR, at_index, vector


def _shuffle(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(lanes)), lanes))


def _fold(builder: Any, value: Any, combine: Any) -> Any:
    """Halve the vector until one lane is left: the same order on every machine with as many lanes."""
    width = LANES
    while width > 1:
        width //= 2
        low = _shuffle(builder, value, value, list(range(width)))
        high = _shuffle(builder, value, value, list(range(width, 2 * width)))
        value = combine(low, high)
    return builder.extract_element(value, INT32(0))


@intrinsic
def sum_lanes(typingctx: Any, value: Any) -> Any:
    """The sum of all lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _fold(builder, args[0], lambda a, b: builder.fadd(a, b, **EXACT))

    return signature(types.float32, vector), codegen


@intrinsic
def store_sums(typingctx: Any, pointer: Any, index: Any, vectors: Any) -> Any:
    """Write the sum of the lanes of each vector of a tuple, from element `index` on.

    Vectors are folded in pairs, so that n sums cost about n additions rather than n * log2(LANES). The last group is
    filled up with zeros: up to LANES - 1 floats behind the sums are overwritten.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = [builder.extract_value(args[2], i) for i in range(len(vectors))]
        for first in range(0, len(values), LANES):
            group = values[first : first + LANES]
            group += [ir.Constant(VECTOR, [0.0] * LANES)] * (LANES - len(group))
            at = builder.add(args[1], args[1].type(first))
            builder.store(_fold_together(builder, group), at_index(builder, args[0], at, VECTOR), align=4)
        return context.get_dummy_value()

    return signature(types.void, FLOATS, types.intp, vectors), codegen


def _fold_together(builder: Any, values: list[Any]) -> Any:
    """LANES vectors to one: lane i of the result is the sum of the lanes of vector i."""
    # Vector i is folded with vector i + stride. Of each sum's partial sums, those in lanes with the bit `stride` move
    # to the lanes without it for the first vector, and the other way round for the second.
    stride = LANES // 2
    while stride:
        first = [lane if not lane & stride else LANES + (lane ^ stride) for lane in range(LANES)]
        second = [(lane ^ stride) if not lane & stride else LANES + lane for lane in range(LANES)]
        half = len(values) // 2
        values = [
            builder.fadd(_shuffle(builder, a, b, first), _shuffle(builder, a, b, second), **EXACT)
            for a, b in zip(values[:half], values[half:], strict=True)
        ]
        stride //= 2
    return values[0]


@intrinsic
def copy_transposed(typingctx: Any, to: Any, source: Any, step: Any) -> Any:
    """Write LANES vectors one after the other: vector i has lane i of LANES vectors that are `step` floats apart."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        starts = [builder.mul(args[2], args[2].type(i)) for i in range(LANES)]
        values = [builder.load(at_index(builder, args[1], start, VECTOR), align=4) for start in starts]
        # Vector i and vector i + stride swap the lanes with the bit `stride` of the one for those without of the other.
        stride = LANES // 2
        while stride:
            lower = [lane if not lane & stride else LANES + (lane ^ stride) for lane in range(LANES)]
            upper = [(lane ^ stride) if not lane & stride else LANES + lane for lane in range(LANES)]
            for i in (i for i in range(LANES) if not i & stride):
                a, b = values[i], values[i + stride]
                values[i], values[i + stride] = _shuffle(builder, a, b, lower), _shuffle(builder, a, b, upper)
            stride //= 2
        for i, value in enumerate(values):
            builder.store(value, at_index(builder, args[0], args[2].type(i * LANES), VECTOR), align=4)
        return context.get_dummy_value()

    return signature(types.void, FLOATS, FLOATS, types.intp), codegen


@intrinsic
def max_lanes(typingctx: Any, value: Any) -> Any:
    """The greatest lane (NaN may be lost)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _fold(builder, args[0], lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))

    return signature(types.float32, vector), codegen


@intrinsic
def evens(typingctx: Any, a: Any, b: Any) -> Any:
    """Lanes 0, 2, 4, ... of `a`, then those of `b`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _shuffle(builder, args[0], args[1], list(range(0, 2 * LANES, 2)))

    return signature(vector, vector, vector), codegen


@intrinsic
def odds(typingctx: Any, a: Any, b: Any) -> Any:
    """Lanes 1, 3, 5, ... of `a`, then those of `b`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _shuffle(builder, args[0], args[1], list(range(1, 2 * LANES, 2)))

    return signature(vector, vector, vector), codegen


@intrinsic
def rotate(typingctx: Any, value: Any) -> Any:
    """Every lane one place down; the first comes last."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _shuffle(builder, args[0], args[0], [*range(1, LANES), 0])

    return signature(vector, vector), codegen


@intrinsic
def power_of_two(typingctx: Any, biased: Any) -> Any:
    """2**n from ``n + 1.5 * 2**23``: that sum's lowest bits are n, and become the exponent of the result."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], INT_VECTOR)
        exponent = builder.add(bits, ir.Constant(INT_VECTOR, [127] * LANES))
        return builder.bitcast(builder.shl(exponent, ir.Constant(INT_VECTOR, [23] * LANES)), VECTOR)

    return signature(vector, vector), codegen
