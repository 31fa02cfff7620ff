"""Threads that encode chunks and write files for the tape, and how many of them there are.

Nothing here knows what the bytes mean; the writers of `recorder.tape` enter by the files.
"""
