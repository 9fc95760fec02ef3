"""Operations on tuples of vectors: sums that are kept in as many registers, too many to name each.

Functions of Numba's can't build a tuple in a loop; these do, when a kernel is compiled.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from fastcnn.backends.numba.simd import FLOATS, INT32, LANES, VECTOR, at_index, multiply_add, splat_to, vector


@intrinsic
def fma_run(typingctx: Any, pointer: Any, index: Any, factor: Any, sums: Any) -> Any:
    """The vectors of a tuple, ``pointer[index + i] * factor`` added to vector i."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer, index, factor, sums = args
        first, added = builder.gep(pointer, [index]), []
        for i in range(len(sig.args[3])):
            value = splat_to(builder, builder.load(builder.gep(first, [INT32(i)]), align=4), LANES)
            added.append(multiply_add(builder, value, factor, builder.extract_value(sums, i)))
        return context.make_tuple(builder, sig.return_type, added)

    return signature(sums, FLOATS, types.intp, factor, sums), codegen


@intrinsic
def load_run(typingctx: Any, pointer: Any, like: Any) -> Any:
    """Vectors that lie one after the other in memory, as many as the tuple `like` has elements."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        places = [at_index(builder, args[0], INT32(i * LANES), VECTOR) for i in range(len(like))]
        vectors = [builder.load(place, align=4) for place in places]
        return context.make_tuple(builder, sig.return_type, vectors)

    return signature(types.UniTuple(vector, len(like)), FLOATS, like), codegen


@intrinsic
def store_run(typingctx: Any, pointer: Any, vectors: Any) -> Any:
    """Write the vectors of a tuple, of any one length, one after the other."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for i in range(len(vectors)):
            value = builder.extract_value(args[1], i)
            place = at_index(builder, args[0], INT32(i * value.type.count), value.type)
            builder.store(value, place, align=4)
        return context.get_dummy_value()

    return signature(types.void, FLOATS, vectors), codegen
