"""Recordings given back to torch: presentations, at random, for its loaders.

Users enter through `recorder.SpikeDataset`.
"""
