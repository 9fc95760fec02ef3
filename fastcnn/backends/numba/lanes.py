"""Operations across the lanes of a vector: sums, shuffles, powers of two."""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from fastcnn.backends.numba.simd import (
    EXACT,
    FLOATS,
    INT32,
    INT_VECTOR,
    LANES,
    VECTOR,
    at_index,
    call_llvm,
    mask,
    splat_to,
    vector,
)


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
def copy_transposed(typingctx: Any, to: Any, to_step: Any, source: Any, step: Any) -> Any:
    """Write LANES vectors `to_step` floats apart: vector i has lane i of each of LANES vectors `step` floats apart."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        to, to_step, source, step = args
        starts = [builder.mul(step, step.type(i)) for i in range(LANES)]
        values = [builder.load(at_index(builder, source, start, VECTOR), align=4) for start in starts]
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
            at = builder.mul(to_step, to_step.type(i))
            builder.store(value, at_index(builder, to, at, VECTOR), align=4)
        return context.get_dummy_value()

    return signature(types.void, FLOATS, types.intp, FLOATS, types.intp), codegen


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


# --- some lanes only: without AVX-512 these would take an instruction and a branch a lane -------------------------

#: Whether the processor can move the lanes of a mask together and apart.
COMPRESSES = LANES == 16


def _masked(builder: Any, name: str, *args: Any) -> Any:
    return call_llvm(builder, f"x86.avx512.mask.{name}", args[0].type, *args)


@intrinsic
def compress(typingctx: Any, where: Any, value: Any) -> Any:
    """The lanes of the mask moved together, to the front; zeros behind them. Needs `COMPRESSES`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zeros = ir.Constant(VECTOR, [0.0] * LANES)
        return _masked(builder, f"compress.v{LANES}f32", args[1], zeros, args[0])

    return signature(vector, mask, vector), codegen


@intrinsic
def expand(typingctx: Any, where: Any, value: Any, other: Any) -> Any:
    """The first lanes of `value` moved apart, into the lanes of the mask; `other` in the rest. Needs `COMPRESSES`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _masked(builder, f"expand.v{LANES}f32", args[1], args[2], args[0])

    return signature(vector, mask, vector, vector), codegen


@intrinsic
def store_lanes(typingctx: Any, pointer: Any, index: Any, where: Any, value: Any) -> Any:
    """Write the lanes of the mask one after the other, from element `index` on.

    Up to LANES floats are overwritten: what is behind the last of them has no meaning. (AVX-512 could write the lanes
    alone; on Zen 4 that takes more than a hundred cycles.)
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer, index, where, value = args
        if COMPRESSES:
            undefined = ir.Constant(VECTOR, ir.Undefined)
            packed = _masked(builder, f"compress.v{LANES}f32", value, undefined, where)
            builder.store(packed, at_index(builder, pointer, index, VECTOR), align=4)
            return context.get_dummy_value()
        for lane in range(LANES):
            builder.store(builder.extract_element(value, INT32(lane)), builder.gep(pointer, [index]), align=4)
            index = builder.add(index, builder.zext(builder.extract_element(where, INT32(lane)), index.type))
        return context.get_dummy_value()

    return signature(types.void, FLOATS, types.intp, mask, vector), codegen


@intrinsic
def store_even_numbers(typingctx: Any, pointer: Any, index: Any, start: Any, bits: Any) -> Any:
    """Write ``start + 2 * i`` for each bit i of `bits` that is set, one after the other. Needs `COMPRESSES`.

    Up to LANES numbers from element `index` on are overwritten.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        to, index, start, bits = args
        where = builder.bitcast(builder.trunc(bits, ir.IntType(LANES)), ir.VectorType(ir.IntType(1), LANES))
        undefined = ir.Constant(INT_VECTOR, ir.Undefined)
        first = builder.insert_element(undefined, builder.trunc(start, INT32), INT32(0))
        numbers = _shuffle(builder, first, undefined, [0] * LANES)
        numbers = builder.add(numbers, ir.Constant(INT_VECTOR, list(range(0, 2 * LANES, 2))))
        some = _masked(builder, f"compress.v{LANES}i32", numbers, ir.Constant(INT_VECTOR, [0] * LANES), where)
        builder.store(some, at_index(builder, to, index, INT_VECTOR), align=4)
        return context.get_dummy_value()

    return signature(types.void, types.CPointer(types.int32), types.intp, types.intp, types.intp), codegen


@intrinsic
def count_ones(typingctx: Any, bits: Any) -> Any:
    """How many bits of an integer are set."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return signature(types.intp, types.intp), codegen


def _bits(builder: Any, where: Any) -> Any:
    return builder.zext(builder.bitcast(where, ir.IntType(LANES)), ir.IntType(64))


@intrinsic
def count_lanes(typingctx: Any, where: Any) -> Any:
    """How many lanes are in the mask."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ctpop(_bits(builder, args[0]))

    return signature(types.intp, mask), codegen


@intrinsic
def bits_of(typingctx: Any, where: Any) -> Any:
    """The mask as a whole number: bit i is lane i's."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _bits(builder, args[0])

    return signature(types.int64, mask), codegen


@intrinsic
def multiples(typingctx: Any, first: Any) -> Any:
    """LANES times the whole numbers from `first` on, as 32-bit integers, their bits in a vector of floats."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        start = splat_to(builder, builder.trunc(args[0], INT32), LANES)
        numbers = builder.add(start, ir.Constant(INT_VECTOR, list(range(LANES))))
        return builder.bitcast(builder.mul(numbers, ir.Constant(INT_VECTOR, [LANES] * LANES)), VECTOR)

    return signature(vector, types.intp), codegen


@intrinsic
def integers(typingctx: Any, pointer: Any) -> Any:
    """The same pointer, to 32-bit integers."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], INT32.as_pointer())

    return signature(types.CPointer(types.int32), FLOATS), codegen


# --- pixels, bytes or floats ---------------------------------------------------------------------------------------


@intrinsic
def other_columns(typingctx: Any, pointer: Any, index: Any, width: Any, pixel: Any) -> Any:
    """Bit i tells whether columns 2i and 2i + 1 of four rows, `width` pixels apart, hold other bits than `pixel`.

    The first row begins at element `index`; 32 columns are read.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, index, width, pixel = args
        one = ir.IntType(8 if sig.args[0].dtype == types.uint8 else 32)
        row, pairs = ir.VectorType(one, 32), ir.VectorType(ir.IntType(2 * one.width), 16)
        undefined = ir.Constant(row, ir.Undefined)
        first = builder.insert_element(undefined, builder.bitcast(pixel, one), INT32(0))
        same = _shuffle(builder, first, undefined, [0] * 32)
        difference = ir.Constant(row, [0] * 32)
        for _ in range(4):
            pixels = builder.load(at_index(builder, source, index, row), align=1)
            difference = builder.or_(difference, builder.xor(pixels, same))
            index = builder.add(index, width)
        different = builder.icmp_unsigned("!=", builder.bitcast(difference, pairs), ir.Constant(pairs, [0] * 16))
        return builder.zext(builder.bitcast(different, ir.IntType(16)), ir.IntType(64))

    return signature(types.int64, pointer, types.intp, types.intp, pointer.dtype), codegen


@intrinsic
def load_columns(typingctx: Any, pointer: Any, offsets: Any, index: Any, more: Any) -> Any:
    """Four neighbouring pixels at LANES places, as floats: four vectors, the first of all the first pixels.

    The places are elements ``offsets[index] + more``, ``offsets[index + 1] + more``, and so forth.
    """
    is_byte = pointer.dtype == types.uint8

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, offsets, index, more = args
        quad = INT32 if is_byte else ir.VectorType(ir.FloatType(), 4)
        quads = []
        for i in range(LANES):
            offset = builder.load(builder.gep(offsets, [builder.add(index, index.type(i))]))
            at = builder.add(builder.sext(offset, more.type), more)
            quads.append(builder.load(at_index(builder, source, at, quad), align=1))
        columns = _columns_of_bytes(builder, quads) if is_byte else _columns_of_floats(builder, quads)
        return context.make_tuple(builder, sig.return_type, columns)

    return signature(types.UniTuple(vector, 4), pointer, types.CPointer(types.int32), types.intp, types.intp), codegen


def _columns_of_bytes(builder: Any, quads: list[Any]) -> list[Any]:
    packed = ir.Constant(INT_VECTOR, ir.Undefined)
    for i, value in enumerate(quads):
        packed = builder.insert_element(packed, value, INT32(i))
    columns = []
    for i in range(4):
        shift = 8 * i if sys.byteorder == "little" else 24 - 8 * i
        pixels = builder.lshr(packed, ir.Constant(INT_VECTOR, [shift] * LANES))
        pixels = builder.and_(pixels, ir.Constant(INT_VECTOR, [255] * LANES))
        columns.append(builder.sitofp(pixels, VECTOR))
    return columns


def _columns_of_floats(builder: Any, quads: list[Any]) -> list[Any]:
    while len(quads) > 4:
        both = list(range(2 * quads[0].type.count))
        quads = [_shuffle(builder, a, b, both) for a, b in zip(quads[::2], quads[1::2], strict=True)]
    even, odd = list(range(0, 2 * LANES, 2)), list(range(1, 2 * LANES, 2))
    a, b, c, d = quads
    (e, f), (o, p) = ([_shuffle(builder, *pair, half) for pair in ((a, b), (c, d))] for half in (even, odd))
    return [_shuffle(builder, *pair, half) for half in (even, odd) for pair in ((e, f), (o, p))]
