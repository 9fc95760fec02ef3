"""What pooled convolutions need of vectors: groups of them, halves of them, winners, one of four pixels."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic, models, register_model

from fastcnn.backends.numba.simd import (
    FEATURES,
    FLOATS,
    INT32,
    INT_VECTOR,
    LANES,
    VECTOR,
    at_index,
    call_llvm,
    mask,
    multiply_add,
    splat_to,
    vector,
)

#: Floats of half a vector.
HALF = LANES // 2

#: A group is six vectors, or as much as this of shorter ones: it and its gradient stay in registers. With AVX-512 the
#: shorter are halves. If a window's rows are whole halves but not whole vectors, half of the windows begin in the
#: middle of a cache line: each vector of theirs straddles two, and waits for the two that were written there last.
#: Halves never do, and nothing is copied to make room behind a window.
SIX, SHORT = (0,) * 6, (0,) * (9 if LANES == 16 else 5)

#: Floats of a shorter vector.
SHORT_LANES = LANES // 2 if LANES == 16 else LANES


class _ShortType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"Short{SHORT_LANES}")


@register_model(_ShortType)
class _ShortModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(ir.FloatType(), SHORT_LANES))


_short = _ShortType()


@intrinsic
def whole(typingctx: Any, value: Any) -> Any:
    """Whole numbers as 32-bit integers, their bits in a vector of floats; they are read through `integers`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(builder.fptosi(args[0], INT_VECTOR), VECTOR)

    return signature(vector, vector), codegen


# --- groups: tuples of vectors, as many as in SIX or SHORT, all in registers --------------------------------------


@intrinsic
def load_offsets(typingctx: Any, pointer: Any, group: Any) -> Any:
    """Whole numbers that lie one after the other, as many as are in the tuple `group`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        indices = [ir.IntType(64)(i) for i in range(len(group))]
        return cgutils.pack_array(builder, [builder.load(builder.gep(args[0], [index])) for index in indices])

    return signature(types.UniTuple(types.intp, len(group)), types.CPointer(types.int64), group), codegen


@intrinsic
def load_group(typingctx: Any, pointer: Any, offsets: Any) -> Any:
    """The vectors of a group, one for each of `offsets`, that lie one after the other in memory."""
    kind = vector if len(offsets) == len(SIX) else _short

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        one = context.get_value_type(kind)
        places = [at_index(builder, args[0], INT32(i * one.count), one) for i in range(len(offsets))]
        return cgutils.pack_array(builder, [builder.load(place, align=4) for place in places])

    return signature(types.UniTuple(kind, len(offsets)), FLOATS, offsets), codegen


def _as_long(builder: Any, value: Any, one: Any) -> Any:
    """A vector that is the same in all lanes, as short as vectors of the type `one` are."""
    return builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(INT32, one.count), [0] * one.count))


@intrinsic
def add_window(typingctx: Any, value: Any, window: Any, offsets: Any, group: Any) -> Any:
    """``group[i] + value * window[offsets[i]]``, vector by vector; `value` is the same in all lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        one = context.get_value_type(group.dtype)
        (value, window, *tuples), sums = args, []
        value = _as_long(builder, value, one)
        for at, total in zip(*(cgutils.unpack_tuple(builder, t, len(group)) for t in tuples), strict=True):
            pixel = builder.load(at_index(builder, window, at, one), align=4)
            sums.append(multiply_add(builder, value, pixel, total))
        return cgutils.pack_array(builder, sums)

    return signature(group, vector, FLOATS, offsets, group), codegen


@intrinsic
def add_to_window(typingctx: Any, value: Any, group: Any, window: Any, offsets: Any) -> Any:
    """``window[offsets[i]] += value * group[i]``, vector by vector; all are read before the first is written."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        one = context.get_value_type(group.dtype)
        value, factors, window, places = args
        value = _as_long(builder, value, one)
        places = [at_index(builder, window, at, one) for at in cgutils.unpack_tuple(builder, places, len(group))]
        sums = [
            multiply_add(builder, value, factor, builder.load(place, align=4))
            for place, factor in zip(places, cgutils.unpack_tuple(builder, factors, len(group)), strict=True)
        ]
        for place, total in zip(places, sums, strict=True):
            builder.store(total, place, align=4)
        return context.get_dummy_value()

    return signature(types.void, vector, group, FLOATS, offsets), codegen


# --- winners: which of a pooling window's four pixels is the maximum, row by row -----------------------------------

#: The winner that ReLU lets no gradient pass to: the maximum is not above zero.
STOPPED = 4

_BYTES = types.CPointer(types.uint8)
_NARROW = ir.VectorType(ir.IntType(8), LANES)


@intrinsic
def store_winners(
    typingctx: Any, pointer: Any, index: Any, upper_right: Any, lower_right: Any, lower: Any, stopped: Any
) -> Any:
    """Write LANES winners as bytes: whether the right one is, of two pairs, and the lower pair's; or STOPPED."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer, index, upper_right, lower_right, lower, stopped = args
        zero, one, two, three, none = (ir.Constant(_NARROW, [number] * LANES) for number in (0, 1, 2, 3, STOPPED))
        upper, below = builder.select(upper_right, one, zero), builder.select(lower_right, three, two)
        winners = builder.select(stopped, none, builder.select(lower, below, upper))
        builder.store(winners, at_index(builder, pointer, index, _NARROW), align=1)
        return context.get_dummy_value()

    return signature(types.void, _BYTES, types.intp, mask, mask, mask, mask), codegen


@intrinsic
def passing(typingctx: Any, winners: Any, index: Any) -> Any:
    """The mask of the LANES winners from element `index` on that a gradient passes to."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        narrow = builder.load(at_index(builder, args[0], args[1], _NARROW), align=1)
        return builder.icmp_unsigned("!=", narrow, ir.Constant(_NARROW, [STOPPED] * LANES))

    return signature(mask, _BYTES, types.intp), codegen


# --- windows in pairs: each float of an image with the one below it ----------------------------------------------

#: Floats of a window in pairs, in as many vectors as that takes.
PAIRED = 16


@intrinsic
def store_pairs(typingctx: Any, pointer: Any, index: Any, a: Any, b: Any) -> Any:
    """Write the first lane of each of two vectors, then the second, and so forth, from element `index` on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer, index, a, b = args
        lanes = [lane for i in range(LANES) for lane in (i, LANES + i)]
        pairs = builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, 2 * LANES), lanes))
        builder.store(pairs, at_index(builder, pointer, index, pairs.type), align=4)
        return context.get_dummy_value()

    return signature(types.void, FLOATS, types.intp, vector, vector), codegen


@intrinsic
def store_places(typingctx: Any, pointer: Any, index: Any, winners: Any, winner: Any, channels: Any, begin: Any) -> Any:
    """Write where in a window in pairs the first float of each of LANES winners is, those from element `winner` on.

    The window begins at `begin`. That of STOPPED is any in it.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def all_lanes(number: Any) -> Any:
            return splat_to(builder, number, LANES)

        pointer, index, winners, winner, channels, begin = args
        narrow = builder.load(at_index(builder, winners, winner, _NARROW), align=1)
        number, one = builder.zext(narrow, INT_VECTOR), all_lanes(INT32(1))
        pixel = all_lanes(builder.trunc(builder.shl(channels, channels.type(1)), INT32))
        right = builder.and_(builder.neg(builder.and_(number, one)), pixel)  # quicker than a product
        places = builder.add(right, builder.lshr(number, one))
        places = builder.add(places, all_lanes(builder.trunc(begin, INT32)))
        builder.store(places, at_index(builder, pointer, index, INT_VECTOR), align=4)
        return context.get_dummy_value()

    return signature(types.void, FLOATS, types.intp, _BYTES, types.intp, types.intp, types.intp), codegen


def _permuted(builder: Any, values: Any, index: Any) -> Any:
    """Lane ``index[i]`` of `values` in lane i; one by one where there is no instruction for it."""
    if LANES == 8 and FEATURES.get("avx2"):
        return call_llvm(builder, "x86.avx2.permps", VECTOR, values, index)
    result = values
    for lane in range(LANES):
        value = builder.extract_element(values, builder.extract_element(index, INT32(lane)))
        result = builder.insert_element(result, value, INT32(lane))
    return result


def _picked(builder: Any, vectors: list[Any], index: Any) -> Any:
    """The floats that `index` says, of some vectors that lie one after the other."""
    if LANES == 16 and len(vectors) == 1:
        return call_llvm(builder, "x86.avx512.permvar.sf.512", VECTOR, vectors[0], index)
    if LANES == 16:
        return call_llvm(builder, "x86.avx512.vpermi2var.ps.512", VECTOR, vectors[0], index, vectors[1])
    inside = builder.and_(index, ir.Constant(INT_VECTOR, [LANES - 1] * LANES))
    which = builder.udiv(index, ir.Constant(INT_VECTOR, [LANES] * LANES))
    value = ir.Constant(VECTOR, [0.0] * LANES)
    for number, some in enumerate(vectors):
        here = builder.icmp_unsigned("==", which, ir.Constant(INT_VECTOR, [number] * LANES))
        value = builder.select(here, _permuted(builder, some, inside), value)
    return value


@intrinsic
def add_picked(typingctx: Any, pairs: Any, windows: Any, rows: Any, places: Any, factors: Any, sums: Any) -> Any:
    """``sums[i] + factors * window[places + i]``, of as many vectors in each of some rows of one or two windows.

    In pairs, PAIRED floats from each of the `windows` on are one behind the other, and that is done in each of the
    `rows`, so many floats further on. `places` are the bits of integers.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pairs, windows, rows, places, factors, sums = args
        windows, rows, sums = (cgutils.unpack_tuple(builder, each) for each in (windows, rows, sums))
        places, added, columns = builder.bitcast(places, INT_VECTOR), [], len(sums) // len(rows)
        for number, row in enumerate(rows):
            starts = [builder.add(row, window) for window in windows]
            starts = [builder.add(start, row.type(k)) for start in starts for k in range(0, PAIRED, LANES)]
            vectors = [builder.load(at_index(builder, pairs, start, VECTOR), align=4) for start in starts]
            for column in range(columns):
                index = builder.add(places, ir.Constant(INT_VECTOR, [2 * column] * LANES))
                picked = _picked(builder, vectors, index)
                added.append(multiply_add(builder, picked, factors, sums[number * columns + column]))
        return context.make_tuple(builder, sig.return_type, added)

    return signature(sums, FLOATS, windows, rows, vector, vector, sums), codegen


@intrinsic
def copy_half(typingctx: Any, to: Any, to_index: Any, source: Any, source_index: Any) -> Any:
    """Copy half a vector of floats or bytes, unchanged, from one place to another."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        half = ir.VectorType(context.get_value_type(to.dtype), HALF)
        value = builder.load(at_index(builder, args[2], args[3], half), align=1)
        builder.store(value, at_index(builder, args[0], args[1], half), align=1)
        return context.get_dummy_value()

    return signature(types.void, to, types.intp, to, types.intp), codegen


@intrinsic
def splat_two(typingctx: Any, pointer: Any, index: Any) -> Any:
    """A vector of two floats that lie side by side, again and again."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        two = builder.load(at_index(builder, args[0], args[1], ir.IntType(64)), align=4)
        return builder.bitcast(splat_to(builder, two, HALF), VECTOR)

    return signature(vector, FLOATS, types.intp), codegen
