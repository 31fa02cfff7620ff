"""One writer a recording: its lock, what it may still write, and what ends it when it is forgotten.

Whoever writes enters, and what must know who writes; readers need nothing of this.
"""
