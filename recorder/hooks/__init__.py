"""Hooks on the user's modules while they are monitored, and what becomes of them in copies and forks.

The monitor enters. Hooks hand what they see to a session, and know nothing of how it is recorded.
"""

from recorder.hooks.lifetimes import InertMonitor, close_holder, finish, note_holder
from recorder.hooks.network import NetworkHooks
from recorder.hooks.session_link import SessionLink

__all__ = ["InertMonitor", "NetworkHooks", "SessionLink", "close_holder", "finish", "note_holder"]
