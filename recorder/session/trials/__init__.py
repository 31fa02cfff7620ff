"""Trials of one recording while it is made: those that are presented, and those that are held in memory.

`recorder.session.session` is built on the one, and keeps the other.
"""
