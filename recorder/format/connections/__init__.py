"""What a commit record says of who reads whom: connections, fan-outs, and how they are parsed.

Whoever may enter `recorder.format` may enter; nothing here knows a network.
"""

from recorder.format.connections.parsing import parse_connections
from recorder.format.connections.records import Connections, FanOut, InputReader, Reader

__all__ = ["Connections", "FanOut", "InputReader", "Reader", "parse_connections"]
