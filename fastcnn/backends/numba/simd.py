"""Explicit vectors for kernels: a Numba type that is one vector register, and the operations on it.

LLVM vectorises simple loops well and complicated ones not at all. Where a kernel must keep a dozen vectors in
registers it says so with these: `load` sixteen floats, `fma` them, `store` them. Arithmetic on vectors is exact IEEE
arithmetic in the order written (`+`, `-`, `*` and `fma`; nothing is reassociated), so equal inputs give equal outputs
in every lane. What works across lanes (sums, shuffles) is in `lanes`.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model


def _features() -> dict[str, bool]:
    """What this processor can do as far as Numba uses it (NUMBA_ENABLE_AVX), or what NUMBA_CPU_FEATURES describes."""
    described: str | None = config.CPU_FEATURES  # type: ignore[attr-defined]
    described = get_host_cpu_features() if described is None else described
    return {name[1:]: name[0] == "+" for name in described.split(",") if name}


def _lanes(features: dict[str, bool]) -> int:
    if features.get("avx512f"):
        return 16
    return 8 if features.get("avx") else 4


#: By the names that LLVM has for them.
FEATURES = _features()

#: Floats in one vector register of this machine: 16 (AVX-512), 8 (AVX) or 4 (SSE, NEON).
LANES = _lanes(FEATURES)

#: llvm.fma rounds once, and is a function call a lane where the processor can't; llvm.fmuladd does what is quick.
_FMA = "fma" if FEATURES.get("fma") or FEATURES.get("neon") else "fmuladd"

#: Bytes of a cache line.
CACHE_LINE = 64

_FLOAT = ir.FloatType()
INT32 = ir.IntType(32)
VECTOR = ir.VectorType(_FLOAT, LANES)
INT_VECTOR = ir.VectorType(INT32, LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)
_MASK_BITS = ir.IntType(LANES)


class _VectorType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"Float32x{LANES}")


class _MaskType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"Mask{LANES}")


vector = _VectorType()
mask = _MaskType()


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, VECTOR)


@register_model(_MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _MASK)


# --- arithmetic: a + b, a - b, a * b on vectors; a & b, ~a on masks -----------------------------------------------


#: Numba gives its fast-math flags to every instruction that has none; with one of its own, however harmless (the sign
#: of a zero), an addition is left in the order it was written in, and equal sums stay equal to the last bit.
EXACT = {"flags": ("nsz",)}


def _binary(function: Any, operand: types.Type, emit: str, **options: Any) -> None:
    @infer_global(function)
    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            return signature(operand, operand, operand) if args == (operand, operand) else None

    @lower_builtin(function, operand, operand)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, emit)(*args, **options)


_binary(operator.add, vector, "fadd", **EXACT)
_binary(operator.sub, vector, "fsub", **EXACT)
_binary(operator.mul, vector, "fmul", **EXACT)
_binary(operator.and_, mask, "and_")


@infer_global(operator.invert)
class _Invert(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        return signature(mask, mask) if args == (mask,) else None


@lower_builtin(operator.invert, mask)
def _lower_invert(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.not_(args[0])


def call_llvm(builder: Any, name: str, result: ir.Type, *args: Any) -> Any:
    """Call one of LLVM's own functions."""
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}"), args)


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return call_llvm(builder, f"{_FMA}.v{a.type.count}f32", a.type, a, b, c)


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, with one rounding where the processor can."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return multiply_add(builder, *args)

    return signature(vector, vector, vector, vector), codegen


@intrinsic
def fnma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """``c - a * b``, with one rounding where the processor can."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return multiply_add(builder, builder.fneg(args[0]), *args[1:])

    return signature(vector, vector, vector, vector), codegen


@intrinsic
def splat(typingctx: Any, value: Any) -> Any:
    """A vector that holds `value` in every lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return splat_to(builder, args[0], LANES)

    return signature(vector, types.float32), codegen


def splat_to(builder: Any, value: Any, lanes: int) -> Any:
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, value, INT32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, lanes), [0] * lanes))


@intrinsic
def maximum(typingctx: Any, a: Any, b: Any) -> Any:
    """The greater of `a` and `b`, lane by lane; `b` where either is NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return signature(vector, vector, vector), codegen


@intrinsic
def equal(typingctx: Any, a: Any, b: Any) -> Any:
    """The mask of the lanes in which `a` equals `b`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fcmp_ordered("==", *args)

    return signature(mask, vector, vector), codegen


@intrinsic
def above(typingctx: Any, a: Any, b: Any) -> Any:
    """The mask of the lanes in which `a` is greater than `b`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fcmp_ordered(">", *args)

    return signature(mask, vector, vector), codegen


@intrinsic
def all_same(typingctx: Any, first: Any, second: Any) -> Any:
    """The mask of the lanes in which each vector of one tuple has the same bits as its counterpart in the other."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        difference = ir.Constant(INT_VECTOR, [0] * LANES)
        for i in range(len(first)):
            one, two = (builder.bitcast(builder.extract_value(values, i), INT_VECTOR) for values in args)
            difference = builder.or_(difference, builder.xor(one, two))
        return builder.icmp_unsigned("==", difference, ir.Constant(INT_VECTOR, [0] * LANES))

    return signature(mask, first, second), codegen


@intrinsic
def first_lanes(typingctx: Any, count: Any) -> Any:
    """The mask of the first `count` lanes; a negative count is none."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        counts = splat_to(builder, builder.trunc(args[0], INT32), LANES)
        return builder.icmp_signed("<", ir.Constant(INT_VECTOR, list(range(LANES))), counts)

    return signature(mask, types.intp), codegen


@intrinsic
def select(typingctx: Any, where: Any, a: Any, b: Any) -> Any:
    """`a` in the lanes of the mask, `b` in the others."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(*args)

    return signature(vector, mask, vector, vector), codegen


@intrinsic
def is_finite(typingctx: Any, value: Any) -> Any:
    """Whether a double is neither infinite nor NaN, by its bits.

    `math.isfinite` asks whether ``value - value`` is a number, and `reassoc` lets LLVM cancel that to zero.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        exponent = ir.Constant(ir.IntType(64), 0x7FF << 52)
        bits = builder.bitcast(args[0], ir.IntType(64))
        return builder.icmp_unsigned("!=", builder.and_(bits, exponent), exponent)

    return signature(types.boolean, types.float64), codegen


# --- memory --------------------------------------------------------------------------------------------------------
#
# Kernels work on bare pointers: an array that travels through helpers and tuples is reference-counted at each
# hand-over, with an atomic operation, and in loops of a microsecond those were a third of the time. The caller keeps
# the arrays alive. A pointer `p` is read and written as p[i], too. Nothing here checks a bound.

FLOATS = types.CPointer(types.float32)
_BYTES = types.CPointer(types.uint8)
_BITS = types.CPointer(types.uint16)


def at_index(builder: Any, pointer: Any, index: Any, to: ir.Type) -> Any:
    return builder.bitcast(builder.gep(pointer, [index]), to.as_pointer())


@intrinsic
def address(typingctx: Any, array: Any) -> Any:
    """A pointer to the first element of a contiguous array, which the caller keeps alive."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.make_array(array)(context, builder, args[0]).data

    return signature(types.CPointer(array.dtype), array), codegen


@intrinsic
def shifted(typingctx: Any, pointer: Any, index: Any) -> Any:
    """A pointer to element `index` of what `pointer` points to."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return signature(pointer, pointer, types.intp), codegen


@intrinsic
def load(typingctx: Any, pointer: Any, index: Any) -> Any:
    """LANES floats from element `index` on; bytes are converted."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if pointer == _BYTES:
            narrow = builder.load(at_index(builder, args[0], args[1], ir.VectorType(ir.IntType(8), LANES)), align=1)
            return builder.sitofp(builder.zext(narrow, INT_VECTOR), VECTOR)
        return builder.load(at_index(builder, args[0], args[1], VECTOR), align=4)

    return signature(vector, pointer, types.intp) if pointer in (FLOATS, _BYTES) else None, codegen


@intrinsic
def store(typingctx: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Write a vector from element `index` on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], at_index(builder, args[0], args[1], VECTOR), align=4)
        return context.get_dummy_value()

    return signature(types.void, FLOATS, types.intp, vector), codegen


@intrinsic
def load_where(typingctx: Any, pointer: Any, index: Any, where: Any) -> Any:
    """As `load`, but only the lanes of the mask; the others are zero, and what is there is not touched."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at = at_index(builder, args[0], args[1], VECTOR)
        zeros = ir.Constant(VECTOR, [0.0] * LANES)
        return call_llvm(builder, f"masked.load.v{LANES}f32.p0", VECTOR, at, INT32(4), args[2], zeros)

    return signature(vector, FLOATS, types.intp, mask), codegen


@intrinsic
def store_where(typingctx: Any, pointer: Any, index: Any, value: Any, where: Any) -> Any:
    """As `store`, but only the lanes of the mask."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at = at_index(builder, args[0], args[1], VECTOR)
        call_llvm(builder, f"masked.store.v{LANES}f32.p0", ir.VoidType(), args[2], at, INT32(4), args[3])
        return context.get_dummy_value()

    return signature(types.void, FLOATS, types.intp, vector, mask), codegen


@intrinsic
def store_bytes(typingctx: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Write a vector of whole numbers as bytes, from element `index` on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        narrow = ir.VectorType(ir.IntType(8), LANES)
        numbers = builder.trunc(builder.fptosi(args[2], INT_VECTOR), narrow)
        builder.store(numbers, at_index(builder, args[0], args[1], narrow), align=1)
        return context.get_dummy_value()

    return signature(types.void, _BYTES, types.intp, vector), codegen


@intrinsic
def load_mask(typingctx: Any, pointer: Any, index: Any) -> Any:
    """The mask kept in 16-bit element `index`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.load(builder.gep(args[0], [args[1]]), align=2)
        return builder.bitcast(bits if LANES == 16 else builder.trunc(bits, _MASK_BITS), _MASK)

    return signature(mask, _BITS, types.intp), codegen


@intrinsic
def store_mask(typingctx: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Keep a mask in 16-bit element `index`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[2], _MASK_BITS)
        wide = bits if LANES == 16 else builder.zext(bits, ir.IntType(16))
        builder.store(wide, builder.gep(args[0], [args[1]]), align=2)
        return context.get_dummy_value()

    return signature(types.void, _BITS, types.intp, mask), codegen


@intrinsic
def prefetch(typingctx: Any, pointer: Any, index: Any) -> Any:
    """Ask for the cache line of element `index`, to be used soon."""
    return _prefetch(pointer, 3)


@intrinsic
def prefetch_second(typingctx: Any, pointer: Any, index: Any) -> Any:
    """As `prefetch`, to be used later: into the second-level cache, where nothing of the first has to make way."""
    return _prefetch(pointer, 2)


def _prefetch(pointer: Any, locality: int) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        line = at_index(builder, args[0], args[1], ir.IntType(8))
        call_llvm(builder, "prefetch.p0", ir.VoidType(), line, INT32(0), INT32(locality), INT32(1))
        return context.get_dummy_value()

    return signature(types.void, pointer, types.intp), codegen


@intrinsic
def line_of(typingctx: Any, pointer: Any) -> Any:
    """How many elements of what `pointer` points to fill a cache line."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(context.get_value_type(types.intp), CACHE_LINE * 8 // pointer.dtype.bitwidth)

    return signature(types.intp, pointer), codegen
