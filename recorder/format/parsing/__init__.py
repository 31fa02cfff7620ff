"""Stored commit records become dataclasses, or one error that lists all that is wrong with them.

Nothing stored is trusted. Whoever reads a record enters by `record`; the other files parse parts of it.
"""
