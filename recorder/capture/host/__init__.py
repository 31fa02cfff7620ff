"""Packing on the host: by numpy, in one compiled pass, and of values other than 0 and 1.

`recorder.capture.packers` chooses between these and what packs on accelerators.
"""
