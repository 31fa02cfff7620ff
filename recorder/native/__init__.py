"""Loops compiled by numba, where it is installed: what packs spikes and values, and how any loop is compiled.

Capture and the tape enter by `loading` and `values`, the kernels of analysis by `compiling`, which imports
numba. Nothing here is needed: plain numpy does the same, and gives the same bits.
"""
