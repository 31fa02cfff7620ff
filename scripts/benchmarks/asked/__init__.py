"""Sections of the benchmark: how fast recordings are opened and asked."""
