"""Loops over the events of packed trains, compiled where numba is; only other kernels enter."""
