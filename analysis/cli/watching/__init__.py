"""The command ``spiketape watch``: how a recording that is being made comes along.

`watch` is the way in; `figures` reads each spike once, when it is committed; `showing` says what was found.
"""

from analysis.cli.watching.watch import watch

__all__ = ["watch"]
