"""How loops are compiled by numba, and what processors do with words.

numba keeps what it has compiled, and compiles a function again only if the file of that function changes. So
all compiled functions that call each other are in one file, but for those here, which say what they do to a
word and stay as they are.
"""

from __future__ import annotations

import contextlib
import pickle
import sys

import numba
from llvmlite import ir
from numba import types
from numba.core import config
from numba.core.caching import FunctionCache
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

_LITTLE = sys.byteorder == "little"
_WORD, _INDEX = ir.IntType(64), ir.IntType(32)
_BYTES, _SIXTEEN = ir.VectorType(ir.IntType(8), 64), ir.VectorType(ir.IntType(8), 16)
# What numba compiles for: this processor, or what the environment says, as where machines share a cache.
_FEATURES = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
# How many values before it is read memory is asked for.
_AHEAD = 256
# Whether bytes are put in an order in one instruction, as by x86 since 2006. LLVM ends a process that asks
# for an instruction which is not there.
CAN_SHUFFLE = "+ssse3" in _FEATURES.split(",")
# What goes wrong with files: no place is left, or what is there was cut short or is another version's.
_NOT_KEPT = (OSError, EOFError, pickle.PickleError, AttributeError, ImportError, ValueError, IndexError)


class _Kept(FunctionCache):
    """numba's cache on disk, without which a loop is only compiled again: what fails in it is no error."""

    def load_overload(self, signature, context):
        try:
            return super().load_overload(signature, context)
        except _NOT_KEPT:
            # Emptied, as otherwise what cannot be read would stay there, and nothing be kept.
            with contextlib.suppress(OSError):
                self.flush()
        return None

    def save_overload(self, signature, result):
        # Its index is read once more, and may be another's by now.
        with contextlib.suppress(*_NOT_KEPT):
            super().save_overload(signature, result)


def compiled(function):
    """Compile a function when it is first called; keep it on disk where there is a place for it."""
    loop = numba.njit(function, nogil=True, error_model="numpy")
    # RuntimeError: neither our folder nor the user's can be written.
    with contextlib.suppress(RuntimeError):
        loop._cache = _Kept(function)  # noqa: SLF001 - what `cache=True` does, with numba's own class
    return loop


@intrinsic
def leading_zeros(context, word):  # noqa: ARG001
    """How many of the highest bits of a word are 0."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        return builder.ctlz(arguments[0], context.get_constant(types.boolean, False))

    return types.uint64(types.uint64), generate


@intrinsic
def count_ones(context, word):  # noqa: ARG001
    """How many bits of a word are 1."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@intrinsic
def trailing_zeros(context, word):  # noqa: ARG001
    """How many of the lowest bits of a word are 0."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        return builder.cttz(arguments[0], context.get_constant(types.boolean, False))

    return types.uint64(types.uint64), generate


@intrinsic
def ordered(context, word):  # noqa: ARG001
    """A word of a train with its first frame in the highest bit."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        return builder.bswap(arguments[0]) if _LITTLE else arguments[0]

    return types.uint64(types.uint64), generate


def _of_words(instruction):
    """An intrinsic that makes one word of two of a type, in a word of that type.

    numba makes 64 bits of all that ``|`` gives, and then as few words fit into a register of the processor.
    """

    def of_words(context, one, other):  # noqa: ARG001
        def generate(context, builder, signature, arguments):  # noqa: ARG001
            return getattr(builder, instruction)(*arguments)

        return one(one, one), generate

    return intrinsic(of_words)


# The bits that are set in either word, in both; their sum; the first one's bits so many places further down,
# or up, as the second one says, fewer than a word has.
either, both, plus = _of_words("or_"), _of_words("and_"), _of_words("add")
down, up = _of_words("lshr"), _of_words("shl")


@intrinsic
def minus_at_most(context, byte, other):  # noqa: ARG001
    """A byte minus another one, or 0 if that is larger."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        kind = ir.IntType(8)
        minus = builder.module.declare_intrinsic(
            "llvm.usub.sat", (kind,), ir.FunctionType(kind, [kind, kind])
        )
        return builder.call(minus, arguments)

    return types.uint8(types.uint8, types.uint8), generate


def _ask_for(builder, pointer):
    """Have memory read into the cache that will be read soon; where there is none, nothing happens."""
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, _INDEX, _INDEX, _INDEX])
    ask = builder.module.declare_intrinsic("llvm.prefetch", (pointer.type,), kind)
    # To be read, to be kept, data.
    builder.call(ask, [pointer, *map(_INDEX, (0, 3, 1))])


@intrinsic
def levels_of_64(context, values, levels, first):  # noqa: ARG001
    """Write 64 values, float32, as levels, int8, from ``first`` on in both; 0 if all are equal.

    A whole number below 2²² that is added to 1.5 · 2²³ is the difference of their bits. Anything else does
    not come back when that is subtracted again, or is beyond the range of a level, of which it becomes the
    end. -0 is 0.
    """
    floats, words = ir.VectorType(ir.FloatType(), 16), ir.VectorType(_INDEX, 16)

    def sixteen(kind, number):
        return ir.Constant(kind, [number] * 16)

    def generate(context, builder, signature, arguments):
        (value_type, level_type, _), (given, target, begin) = signature.args, arguments
        whole, bits_of_whole = sixteen(floats, 1.5 * 2**23), sixteen(words, 0x4B40_0000)
        least, most, differ = sixteen(words, -128), sixteen(words, 127), sixteen(words, 0)
        for place in range(0, 64, 16):
            index = builder.add(begin, ir.Constant(_WORD, place))
            ahead = builder.add(index, ir.Constant(_WORD, _AHEAD))
            _ask_for(builder, _place(context, builder, value_type, given, ahead, ir.IntType(8)))
            value = builder.load(_place(context, builder, value_type, given, index, floats), align=4)
            moved = builder.fadd(value, whole)
            back = builder.bitcast(builder.fsub(moved, whole), words)
            differ = builder.or_(differ, builder.xor(back, builder.bitcast(value, words)))
            level = builder.sub(builder.bitcast(moved, words), bits_of_whole)
            level = builder.select(builder.icmp_signed(">", level, most), most, level)
            level = builder.select(builder.icmp_signed("<", level, least), least, level)
            out = _place(context, builder, level_type, target, index, _SIXTEEN)
            builder.store(builder.trunc(level, _SIXTEEN), out, align=1)
        differ = builder.and_(differ, sixteen(words, 2**31 - 1))
        is_other = builder.icmp_unsigned("!=", differ, sixteen(words, 0))
        return builder.zext(builder.bitcast(is_other, ir.IntType(16)), _WORD)

    return types.uint64(values, levels, types.intp), generate


@intrinsic
def in_bytes_backwards(context, word):  # noqa: ARG001
    """A word with the bits of each of its bytes in the opposite order."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        return builder.bswap(builder.bitreverse(arguments[0]))

    return types.uint64(types.uint64), generate


@intrinsic
def frames_of(context, row, first):  # noqa: ARG001
    """Of 64 bytes that follow each other in a row, a word of each of their bits, the highest bit first.

    The first byte is in the lowest bit of a word. Processors have an instruction for it.
    """

    def generate(context, builder, signature, arguments):
        data = context.make_array(row)(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), _BYTES.as_pointer())
        frames, words = builder.load(place, align=1), []
        for _ in range(8):
            is_set = builder.icmp_signed("<", frames, ir.Constant(_BYTES, None))
            words.append(builder.bitcast(is_set, ir.IntType(64)))
            frames = builder.add(frames, frames)
        return context.make_tuple(builder, signature.return_type, words)

    return types.UniTuple(types.uint64, 8)(row, types.intp), generate


@intrinsic
def row_of(context, words, row, first):  # noqa: ARG001
    """Write 64 bytes to a row from a word of each of their bits: what undoes `frames_of`."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        given, target, place = arguments
        data = context.make_array(row)(context, builder, target).data
        place = builder.bitcast(builder.gep(data, [place]), _BYTES.as_pointer())
        found = ir.Constant(_BYTES, None)
        for frame in range(8):
            word = builder.extract_value(given, frame)
            is_set = builder.bitcast(word, ir.VectorType(ir.IntType(1), 64))
            bit = ir.Constant(_BYTES, [128 >> frame] * 64)
            found = builder.or_(found, builder.select(is_set, bit, ir.Constant(_BYTES, None)))
        builder.store(found, place, align=1)
        return context.get_dummy_value()

    return types.void(words, row, types.intp), generate


def _place(context, builder, array, given, index, kind):
    """Pointer to what begins with an element of an array, as of another type."""
    data = context.make_array(array)(context, builder, given).data
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


def _where_any(count):
    """An intrinsic that says which of so many bytes, from one on, are not 0."""
    kind = ir.VectorType(ir.IntType(8), count)

    def where_any(context, row, first):  # noqa: ARG001
        """Which bytes of a row, from ``first`` on, are not 0: a bit each, the lowest for the first."""

        def generate(context, builder, signature, arguments):  # noqa: ARG001
            some = builder.load(_place(context, builder, row, *arguments, kind), align=1)
            is_any = builder.icmp_unsigned("!=", some, ir.Constant(kind, None))
            return builder.zext(builder.bitcast(is_any, ir.IntType(count)), _WORD)

        return types.uint64(row, types.intp), generate

    return intrinsic(where_any)


where_any_of_64, where_any_of_8 = _where_any(64), _where_any(8)


@intrinsic
def put_together(context, row, first, orders, order, out, place):  # noqa: ARG001
    """Write eight bytes of a row, from ``first`` on, in an order: each byte of it says which of them comes.

    Only where `CAN_SHUFFLE` is true.
    """

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        given, begin, every, number, target, behind = arguments
        shuffle = builder.module.declare_intrinsic(
            "llvm.x86.ssse3.pshuf.b.128", (), ir.FunctionType(_SIXTEEN, [_SIXTEEN, _SIXTEEN])
        )
        pair, lowest = ir.VectorType(_WORD, 2), ir.Constant(_INDEX, 0)

        def eight_of(array, whole, index):
            word = builder.load(_place(context, builder, array, whole, index, _WORD), align=1)
            return builder.bitcast(builder.insert_element(ir.Constant(pair, None), word, lowest), _SIXTEEN)

        chosen = eight_of(orders, every, builder.mul(number, ir.Constant(_WORD, 8)))
        moved = builder.bitcast(builder.call(shuffle, [eight_of(row, given, begin), chosen]), pair)
        word = builder.extract_element(moved, lowest)
        builder.store(word, _place(context, builder, out, target, behind, _WORD), align=1)
        return context.get_dummy_value()

    return types.void(row, types.intp, orders, types.intp, out, types.intp), generate


@intrinsic
def words_of_eight_rows(context, rows, first, neurons, words, place):  # noqa: ARG001
    """Write a word for each of 64 neurons, from ``place`` on: its bytes of eight rows, the first in front.

    ``rows``, uint8 [rows * neurons], are read from ``first`` on. To put bytes of the first four rows and of
    the last four in turns, three times, exchanges rows and neurons.
    """
    in_turns = [place for pair in zip(range(16), range(16, 32), strict=True) for place in pair]
    halves = [ir.Constant(ir.VectorType(_INDEX, 16), half) for half in (in_turns[:16], in_turns[16:])]

    def generate(context, builder, signature, arguments):
        (row_type, _, _, word_type, _), (given, begin, stride, target, behind) = signature.args, arguments
        for beside in range(0, 64, 16):
            pieces, index = [], builder.add(begin, ir.Constant(_WORD, beside))
            for _ in range(8):
                pieces.append(
                    builder.load(_place(context, builder, row_type, given, index, _SIXTEEN), align=1)
                )
                index = builder.add(index, stride)
            for _ in range(3):
                pairs = zip(pieces[:4], pieces[4:], strict=True)
                pieces = [builder.shuffle_vector(*pair, half) for pair in pairs for half in halves]
            for number, piece in enumerate(pieces):
                index = builder.add(behind, ir.Constant(_WORD, beside + 2 * number))
                builder.store(piece, _place(context, builder, word_type, target, index, _SIXTEEN), align=8)
        return context.get_dummy_value()

    return types.void(rows, types.intp, types.intp, words, types.intp), generate
