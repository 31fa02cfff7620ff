"""Sections of the benchmark: what recording costs, and what lies on disk."""
