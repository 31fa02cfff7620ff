"""Stores on file systems: folders and archives, and how their bytes survive a loss of power.

Whoever is outside the stores opens either by its address, see `recorder.stores`.
"""
