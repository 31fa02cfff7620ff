"""What `scripts/gpu_check` runs: a file for each kind of check, all of which also run without a GPU.

There a device that works late stands in for it, and Triton's interpreter for the compiled kernel.
"""
