"""Loops compiled by numba, where it is installed: how any loop of ours is compiled, and the pass that packs.

Capture enters by `loading`, and the kernels of analysis by `compiling`, which imports numba. Nothing here is
needed: plain numpy does the same, and gives the same bits.
"""
