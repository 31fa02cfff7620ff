"""Stores on file systems: folders and archives, and how their bytes survive a loss of power.

What else uses stores takes `Folder` and `Archive` from `recorder.stores`.
"""
