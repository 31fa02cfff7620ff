"""How loops are compiled by numba, and what processors do with words.

numba keeps what it has compiled, and compiles a function again only if the file of that function changes. So
all compiled functions that call each other are in one file, but for the three here, which say what they do to
a word and stay as they are.
"""

from __future__ import annotations

import sys

import numba
from numba import types
from numba.extending import intrinsic

_LITTLE = sys.byteorder == "little"


def compiled(function):
    """Compile a function when it is first called; keep it on disk where there is a place for it."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # neither our folder nor the user's can be written
        return numba.njit(function, **options)


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
def ordered(context, word):  # noqa: ARG001
    """A word of a train with its first frame in the highest bit."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        return builder.bswap(arguments[0]) if _LITTLE else arguments[0]

    return types.uint64(types.uint64), generate
