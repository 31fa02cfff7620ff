"""Spikes counted in groups of frames: whole blocks by ``counts``, everything else on words of packed bits."""
